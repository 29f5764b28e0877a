//! A plugin of NRI, the interface by which containerd, CRI-O and Docker let others adjust
//! containers that they create (<https://github.com/containerd/nri>).

mod adjust;
mod choice;
mod messages;
mod mux;
mod plugin;
mod probe;
mod ttrpc;
mod wire;

pub use self::choice::{Defaults, Switch};
pub use self::plugin::{Ended, Plugin};
