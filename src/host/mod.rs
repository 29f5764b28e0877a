//! The host's own figures, and what `/proc` says of single processes.

mod facts;
mod kept;
mod nodes;
mod personality;
pub mod process;

pub use self::facts::{Host, boottime_nsec, page_kb};
pub use self::nodes::NumaNode;
