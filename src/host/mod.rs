//! The host's own figures, and what `/proc` says of single processes.

mod facts;
mod kept;
pub mod mounts;
mod nodes;
mod online;
mod personality;
pub mod process;
mod release;
pub mod vantage;

pub use self::facts::{Host, PressureFile, page_kb};
pub use self::nodes::NumaNode;
pub use self::release::{is_since, kernel_is_since, resend_may_crash};
