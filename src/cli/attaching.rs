//! Arguments of the commands that bring the views into containers.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::values::{absolute_path, plugin_index};
use crate::attach::{Part, USUAL, Wanted};
use crate::nri::Switch;

/// What is attached, from where.
#[derive(Debug, Clone, Args)]
pub struct ViewsArgs {
    /// Where lxcfs is mounted
    #[arg(long, value_name = "DIR", default_value = USUAL, value_parser = absolute_path)]
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
    /// OCI hook createRuntime: attaches what is not attached yet
    CreateRuntime(HookArgs),
    /// OCI hook createContainer: the same, with the rights of the container's root
    CreateContainer(HookArgs),
    /// podman's hook precreate: adds mounts to the config.json on standard input
    Precreate(HookArgs),
    /// What LXC's mount hook leaves to the program: keeps containers in the container possible
    LxcMount {
        /// The container's root directory
        rootfs: PathBuf,
    },
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

    /// Name to register as
    #[arg(long, default_value = "lxcfs")]
    pub name: String,

    /// Two digits: runtimes call their plugins in this order
    #[arg(long, value_name = "NN", default_value = "10", value_parser = plugin_index)]
    pub index: String,

    /// Whether pods get the views that say nothing about it
    ///
    /// A pod says it by the annotation or label lxcfs.rs/view, which is true, false, or a
    /// list of parts; lxcfs.rs/view.NAME is for its container of that name.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub default: Switch,

    /// Leave the pods in this namespace alone that say nothing [default: kube-system]
    #[arg(long, value_name = "NAME")]
    pub exclude_namespace: Vec<String>,

    /// What is attached.
    #[command(flatten)]
    pub views: ViewsArgs,
}

/// Arguments of `lxcfs deploy`.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// A process of the host
    #[arg(long, value_name = "PID", default_value = "1", value_parser = clap::value_parser!(i32).range(1..))]
    pub host: i32,

    /// Install to this directory of the host [default: /opt/lxcfs, or where that cannot be
    /// written to or executed from /var/opt/lxcfs, /home/kubernetes/bin/lxcfs or
    /// /run/lxcfs-program]
    #[arg(long, value_name = "DIR", value_parser = absolute_path)]
    pub dir: Option<PathBuf>,

    /// Take what was installed off the host, once no container has its files any more
    #[arg(long)]
    pub uninstall: bool,

    /// The plugin.
    #[command(flatten)]
    pub nri: NriArgs,
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
    #[arg(required_unless_present = "all")]
    pub container: Option<String>,

    /// Take the views away from all containers, and those that any dead lxcfs left
    ///
    /// For the end of lxcfs on this host: containers that run on see the host's own files
    /// again. Those of another lxcfs that serves stay.
    #[arg(long, conflicts_with = "container")]
    pub all: bool,

    /// Where the lxcfs is mounted whose views go
    #[arg(long, value_name = "DIR", default_value = USUAL, requires = "all", value_parser = absolute_path)]
    pub views: PathBuf,
}

/// Arguments of `lxcfs doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where lxcfs is mounted
    #[arg(long, value_name = "DIR", default_value = USUAL, value_parser = absolute_path)]
    pub views: PathBuf,
}
