//! The one command line, from which help, man page and completions come.

mod attaching;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde::Deserialize;

pub use self::attaching::{
    AttachArgs, DeployArgs, DetachArgs, DoctorArgs, Format, HookArgs, HookCommand, MountsArgs,
    NriArgs, RuntimeArgs, ViewsArgs,
};
use self::values::{absolute_path, cpu_limit, cpu_list, memory_limit, mountpoint, size};
use crate::attach::USUAL;
use crate::container::CpuView;
use crate::container::policy::{Change, Uptime};
use crate::parse::cpu_list::CpuSet;

/// The version; packagers may give their builds one of their own.
pub const VERSION: &str = match option_env!("LXCFS_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Show every container its own /proc and /sys figures
///
/// Without a subcommand: mount the files at MOUNTPOINT and serve them in the
/// foreground, as LXCFS does.
#[derive(Debug, Parser)]
#[command(
    name = "lxcfs",
    version = VERSION,
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = false
)]
pub struct Cli {
    /// What to do; none stands for the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Arguments of the daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,

    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one command in a fresh container of its own
    Run(RunArgs),
    /// Print what a process reads
    Show(ShowArgs),
    /// Repair what a dead lxcfs left mounted in containers
    ///
    /// Puts fresh files in place of the dead ones, from outside: containers need not be
    /// restarted. Files of other lxcfs that are alive are left alone.
    Remount(RemountArgs),
    /// Print the mounts for an engine's command line or configuration
    Mounts(MountsArgs),
    /// Print a CDI specification: the devices lxcfs.rs/view=all, mem, cpu, psi and disk
    Cdi {
        /// Where lxcfs is mounted
        #[arg(long, value_name = "DIR", default_value = USUAL, value_parser = absolute_path)]
        views: PathBuf,

        /// Let containers' starts fail if something cannot be attached
        #[arg(long)]
        strict: bool,
    },
    /// Give a running container the views
    Attach(AttachArgs),
    /// Take the views away from a running container, or from all
    Detach(DetachArgs),
    /// Check this host and its containers
    Doctor(DoctorArgs),
    /// Be called by an engine at the start of a container
    #[command(subcommand, arg_required_else_help = false)]
    Hook(HookCommand),
    /// Be the runtime of an engine: add the views, then start the real one
    Runtime(RuntimeArgs),
    /// Be an NRI plugin of containerd, CRI-O or Docker
    Nri(NriArgs),
    /// Install lxcfs on a Kubernetes node from a pod, and be its NRI plugin
    ///
    /// The daemon then runs on the host, not in the pod, which may come and go. A newer
    /// version takes over from an older one that was installed in this way; a daemon that was
    /// not is left alone.
    Deploy(DeployArgs),
    /// Make the mountpoint, with links to the host's own files under it
    ///
    /// Engines refuse to start containers with files that are missing. While no lxcfs is
    /// mounted they find these links.
    Prepare {
        /// Where lxcfs is going to be mounted
        mountpoint: PathBuf,
    },
    /// Print or write what packages are made of
    #[command(hide = true, subcommand, arg_required_else_help = false)]
    Generate(GenerateCommand),
    /// Answer requests on the fds of a holder, with the arguments of that
    #[command(hide = true)]
    Serve(DaemonArgs),
    /// Say that this program can go on with the mount of another one, with its arguments
    #[command(hide = true)]
    Adopts(DaemonArgs),
    /// Take the mount away if systemd has stopped the unit for good
    #[command(hide = true)]
    Stopped {
        /// The unit, e.g. lxcfs.service
        #[arg(long)]
        unit: String,
        /// Where it was mounted
        mountpoint: PathBuf,
    },
    /// Tell by the exit code whether a file can be read; the daemon asks about its own
    #[command(hide = true)]
    Answers {
        /// A mounted file
        file: PathBuf,
    },
    /// Open the files that a server names on standard input
    #[command(hide = true)]
    Pin {
        /// Minor device number of the file system
        #[arg(long)]
        minor: u32,
        /// Where it is mounted
        mountpoint: PathBuf,
    },
}

/// What packages are made of.
#[derive(Debug, Subcommand)]
pub enum GenerateCommand {
    /// Write the manual pages to a directory
    Man {
        /// The directory; created if it is missing
        directory: PathBuf,
    },
    /// Print what completes command lines
    Completions {
        /// The shell that is to read it
        shell: Shell,
    },
}

/// Arguments of the daemon.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Stay in the foreground (always so)
    #[arg(short, long)]
    pub foreground: bool,

    /// Log each request too
    #[arg(short, long)]
    pub debug: bool,

    /// Show the container's own load average (the default)
    #[arg(short = 'l', long)]
    pub enable_loadavg: bool,

    /// Show no swap
    #[arg(short = 'u', long)]
    pub disable_swap: bool,

    /// Show no zswap
    #[arg(short = 'z', long)]
    pub disable_zswap: bool,

    /// Accepted for compatibility
    #[arg(short = 's', hide = true)]
    pub single_threaded: bool,

    /// Mount options, for compatibility
    #[arg(short = 'o', value_name = "OPTS", value_delimiter = ',')]
    pub options: Vec<String>,

    /// Write the process id to PIDFILE [default: lxcfs.pid in the runtime directory]
    #[arg(short, long = "pidfile", value_name = "PIDFILE")]
    pub pid_file: Option<PathBuf>,

    /// Directory for the daemon's own files
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    pub runtime_dir: PathBuf,

    /// Narrow the CPUs shown by the quota (the default, see --cpu-view)
    #[arg(long)]
    pub enable_cfs: bool,

    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub enable_pidfd: bool,

    /// Keep pressure triggers possible whatever is polled
    #[arg(long)]
    pub enable_psi_poll: bool,

    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub enable_cgroup: bool,

    /// Which CPUs a container is shown [default: quota]
    #[arg(long, value_enum)]
    pub cpu_view: Option<CpuChoice>,

    /// Since when uptime counts [default: container]
    #[arg(long, value_enum)]
    pub uptime: Option<UptimeOrigin>,

    /// Read the configuration from FILE [default: /etc/lxcfs/lxcfs.toml if it exists]
    ///
    /// It is read again at SIGHUP. Options given on the command line take the place of its
    /// defaults; its rules for single containers outrank both.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Do without the kernel's sending requests again (Linux 6.9), as on an older one
    #[arg(long, hide = true)]
    pub no_resend: bool,

    /// Directory to mount at, e.g. /var/lib/lxcfs
    #[arg(required = true, value_parser = mountpoint)]
    pub mountpoint: Option<PathBuf>,
}

impl DaemonArgs {
    /// The part of the arguments that says what containers are shown.
    #[must_use]
    pub fn given(&self) -> Change {
        Change {
            cpu_view: self.cpu_view.map(CpuChoice::into),
            uptime: self.uptime.map(UptimeOrigin::into),
            swap: self.disable_swap.then_some(false),
            zswap: self.disable_zswap.then_some(false),
            ..Change::default()
        }
    }
}

/// Which CPUs a container is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuChoice {
    /// As many of its cpuset as its quota is worth
    Quota,
    /// Its cpuset
    Cpuset,
    /// All of the host's
    Host,
}

impl From<CpuChoice> for CpuView {
    fn from(choice: CpuChoice) -> Self {
        match choice {
            CpuChoice::Quota => Self::Quota,
            CpuChoice::Cpuset => Self::Cpuset,
            CpuChoice::Host => Self::Host,
        }
    }
}

/// Since when uptime counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UptimeOrigin {
    /// The start of the container
    Container,
    /// The start of the host
    Host,
}

impl From<UptimeOrigin> for Uptime {
    fn from(origin: UptimeOrigin) -> Self {
        match origin {
            UptimeOrigin::Container => Self::Container,
            UptimeOrigin::Host => Self::Host,
        }
    }
}

/// Arguments of `lxcfs run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Memory limit, e.g. 50m or 1.5g; suffixes count in powers of 1024
    #[arg(short, long, value_name = "BYTES", value_parser = memory_limit, allow_hyphen_values = true)]
    pub memory: Option<u64>,

    /// Swap allowed on top of the memory limit
    #[arg(long, value_name = "BYTES", value_parser = size, allow_hyphen_values = true, requires = "memory")]
    pub swap: Option<u64>,

    /// CPU time limit in CPUs, e.g. 0.5
    #[arg(long, value_name = "N", value_parser = cpu_limit, allow_hyphen_values = true)]
    pub cpus: Option<f64>,

    /// CPUs to run on, e.g. 0-3,8
    #[arg(long, value_name = "LIST", value_parser = cpu_list, allow_hyphen_values = true)]
    pub cpuset: Option<CpuSet>,

    /// Directory to use as the root file system [default: the host's]
    ///
    /// The directories proc, sys and dev are created in it if they are missing.
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,

    /// Mountpoint of the lxcfs to use [default: one that is mounted, else its own]
    #[arg(long, value_name = "DIR")]
    pub views: Option<PathBuf>,

    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// Arguments of `lxcfs show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Process id, or name or id of a container
    pub process: String,

    /// File to print, e.g. meminfo [default: all]
    pub file: Option<String>,

    /// Tell which cgroup, files and limits the figures come from
    #[arg(long)]
    pub explain: bool,

    /// The configuration to go by where no daemon runs [default: /etc/lxcfs/lxcfs.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Which daemon is asked.
    #[command(flatten)]
    pub runtime_dir: RuntimeDirArgs,
}

/// Where the files of the one daemon of a host are.
pub const RUNTIME_DIR: &str = "/run";

/// Which daemon is asked.
#[derive(Debug, Args)]
pub struct RuntimeDirArgs {
    /// Runtime directory of the daemon to ask
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    pub runtime_dir: PathBuf,
}

/// Arguments of `lxcfs remount`.
#[derive(Debug, Args)]
pub struct RemountArgs {
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Replace files of the lxcfs at DIR too, though that is alive
    ///
    /// Waits until there is one at MOUNTPOINT.
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,

    /// Where the lxcfs is mounted whose files the containers get
    #[arg(default_value = USUAL)]
    pub mountpoint: PathBuf,
}

/// One sentence that says what is wrong with the command line `arguments`.
#[must_use]
pub fn usage_error(error: &clap::Error, arguments: &[OsString]) -> String {
    let text = error.to_string();
    let first_paragraph = text.split("\n\n").next().unwrap_or_default();
    // What follows a misspelled command is not what is wrong.
    let misspelled = arguments.get(1).and_then(|word| {
        let word = word.to_str()?;
        let why = mountpoint(word).err()?;
        (!word.starts_with('-')).then(|| format!("'{word}': {why}"))
    });
    let sentence = misspelled.unwrap_or_else(|| {
        first_paragraph
            .trim_start_matches("error: ")
            .split_ascii_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    });
    format!("{sentence}; see lxcfs --help")
}

#[cfg(test)]
mod tests;
