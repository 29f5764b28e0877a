//! Limits and accounting of one cgroup: v1, v2 and hybrid behind one type.

pub mod account;

pub use crate::parse::limit::Limit;
