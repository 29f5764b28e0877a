//! The `lxcfs` binary: parse, dispatch, exit code.

fn main() {}
