//! One file for each virtual file: plain data in, text out. No I/O, cannot fail.
