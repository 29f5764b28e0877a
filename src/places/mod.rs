//! The mount namespaces of containers, looked at and changed from outside.
//!
//! Nothing runs in a container and none of its files is opened: a mount is made on the
//! host, carried into the container's mount namespace as a file descriptor, and put into
//! place there. So it does not matter what is in the container's image, whether it is
//! frozen, or who owns it.

pub mod containers;
pub mod health;
pub mod inside;
pub mod makers;
pub mod name;
pub mod source;
pub mod spot;
pub mod survey;
pub mod tool;
pub mod trust;
