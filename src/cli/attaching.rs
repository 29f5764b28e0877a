//! Arguments of the commands that bring the views into containers.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::attach::{Part, USUAL, Wanted};

/// What is attached, from where.
#[derive(Debug, Clone, Args)]
pub struct ViewsArgs {
    /// Where lxcfs is mounted
    #[arg(long, value_name = "DIR", default_value = USUAL)]
    pub views: PathBuf,

    /// Attach these only [default: all]
    #[arg(long, value_name = "PARTS", value_enum, value_delimiter = ',')]
    pub only: Vec<Part>,
}

/// What is attached, and whether a container may start without it.
#[derive(Debug, Clone, Args)]
pub struct HookArgs {
    /// What is attached.
    #[command(flatten)]
    pub views: ViewsArgs,

    /// Let the container's start fail if something cannot be attached
    #[arg(long)]
    pub strict: bool,
}

impl HookArgs {
    /// The same for those who attach.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        Wanted {
            views: self.views.views.clone(),
            only: self.views.only.clone(),
            strict: self.strict,
        }
    }
}

/// Hooks that engines call.
#[derive(Debug, Subcommand)]
pub enum HookCommand {
    /// OCI hook createContainer: attaches what is not attached yet
    CreateContainer(HookArgs),
    /// podman's hook precreate: adds mounts to the config.json on standard input
    Precreate(HookArgs),
}

/// Arguments of `lxcfs mounts`.
#[derive(Debug, Args)]
pub struct MountsArgs {
    /// For which program
    #[arg(long, value_enum)]
    pub format: Format,

    /// What is attached.
    #[command(flatten)]
    pub views: ViewsArgs,

    /// Print also what runc and youki refuse to mount, for crun
    #[arg(long)]
    pub all: bool,
}

/// Who reads what `lxcfs mounts` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Arguments of docker run
    Docker,
    /// Arguments of podman run
    Podman,
    /// Lines of a container's configuration
    Lxc,
    /// Arguments of systemd-nspawn
    Nspawn,
    /// A drop-in for a service
    Systemd,
    /// volumes and volumeMounts of a pod
    Kubernetes,
    /// The mounts of a config.json
    Oci,
}

/// Arguments of `lxcfs runtime`.
#[derive(Debug, Args)]
pub struct RuntimeArgs {
    /// The runtime that does the work [default: runc, else crun]
    #[arg(long, value_name = "PROGRAM")]
    pub runtime: Option<PathBuf>,

    /// What is attached.
    #[command(flatten)]
    pub hook: HookArgs,

    /// Arguments of the runtime
    #[arg(
        value_name = "ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub arguments: Vec<OsString>,
}

/// Arguments of `lxcfs nri`.
#[derive(Debug, Args)]
pub struct NriArgs {
    /// Socket of the runtime
    #[arg(long, value_name = "FILE", default_value = "/var/run/nri/nri.sock")]
    pub socket: PathBuf,

    /// What is attached.
    #[command(flatten)]
    pub views: ViewsArgs,
}

/// Arguments of `lxcfs deploy`.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Where the root of the host is seen
    #[arg(long, value_name = "DIR", default_value = "/proc/1/root")]
    pub host: PathBuf,
}

/// Arguments of `lxcfs attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Process id, or name or id of a container
    pub container: String,

    /// What is attached.
    #[command(flatten)]
    pub views: ViewsArgs,
}

/// Arguments of `lxcfs detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// Process id, or name or id of a container
    pub container: String,
}

/// Arguments of `lxcfs doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where lxcfs is mounted
    #[arg(long, value_name = "DIR", default_value = USUAL)]
    pub views: PathBuf,
}
