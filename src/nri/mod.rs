//! A plugin of NRI, the interface by which containerd, CRI-O and Docker let others adjust
//! containers that they create (<https://github.com/containerd/nri>).

mod adjust;
mod messages;
mod mux;
mod plugin;
mod probe;
mod settings;
mod ttrpc;
pub mod wire;

pub use self::plugin::{Ended, Plugin};
pub use self::probe::Probe;
pub use self::settings::{Settings, Switch};
