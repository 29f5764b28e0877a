//! The tree as the kernel asks for it.

mod drain;
mod filesystem;
mod handles;
mod linger;
mod sendfile;
mod sysfs;
pub mod tree;
mod views;

pub use self::filesystem::LxcFs;
pub use self::sysfs::SysTree;
pub use self::views::{Options, Views};
