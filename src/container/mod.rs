//! From a reader to its container, and what is kept for each container.

pub mod apportion;
pub mod cpu_time;
pub mod load;
