//! The tree as the kernel asks for it.

mod answers;
mod drain;
mod fairness;
#[cfg(debug_assertions)]
mod fault;
mod filesystem;
mod guarded;
mod handles;
mod ledger;
mod linger;
mod pins;
mod sendfile;
mod sys_views;
mod sysfs;
pub mod tree;
mod triggers;
mod views;

pub use self::filesystem::LxcFs;
pub use self::ledger::{Death, Ledger};
pub use self::pins::{MOST_PINNED, Pins, Wish};
pub use self::sysfs::SysTree;
pub use self::triggers::{Polls, TriggerFiles};
pub use self::views::Views;
