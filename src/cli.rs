//! The one command line, from which help, man page and completions come.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

use crate::container::CpuView;
use crate::container::policy::{Change, Uptime};
use crate::parse::cpu_list::CpuSet;

/// Smallest memory limit in bytes in which a command can be started at all.
const MIN_MEMORY_BYTES: u64 = 1 << 20;
/// Smallest CPU limit: the kernel takes no quota below 1 ms in a period of 100 ms.
const MIN_CPUS: f64 = 0.01;
/// Largest CPU limit, beyond the CPUs of any machine.
const MAX_CPUS: f64 = 16_384.0;

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
    disable_help_subcommand = true,
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
    /// Print what a process would read
    Show(ShowArgs),
    /// Repair what a dead lxcfs left mounted in containers
    ///
    /// Puts fresh files in place of the dead ones, from outside: containers need not be
    /// restarted. Files of other lxcfs that are alive are left alone.
    Remount(RemountArgs),
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
}

/// Arguments of the daemon.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Stay in the foreground (always so)
    #[arg(short, long)]
    pub foreground: bool,

    /// Log what is done
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
    #[arg(long, value_name = "DIR", default_value = "/run")]
    pub runtime_dir: PathBuf,

    /// Narrow the CPUs shown by the quota (the default, see --cpu-view)
    #[arg(long)]
    pub enable_cfs: bool,

    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub enable_pidfd: bool,

    /// Accepted for compatibility
    #[arg(long, hide = true)]
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
    #[arg(required = true)]
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
    /// Memory limit; suffixes k, m, g and t count in powers of 1024
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
    /// Process id
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: i32,

    /// File to print, e.g. meminfo [default: all]
    pub file: Option<String>,

    /// Tell which cgroup, files and limits the figures come from
    #[arg(long)]
    pub explain: bool,

    /// The configuration of the daemon [default: /etc/lxcfs/lxcfs.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `lxcfs remount`.
#[derive(Debug, Args)]
pub struct RemountArgs {
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Where the lxcfs is mounted whose files the containers get
    #[arg(default_value = "/var/lib/lxcfs")]
    pub mountpoint: PathBuf,
}

/// One sentence that says what is wrong with a command line.
#[must_use]
pub fn usage_error(error: &clap::Error) -> String {
    let text = error.to_string();
    let first_paragraph = text.split("\n\n").next().unwrap_or_default();
    let sentence = first_paragraph
        .trim_start_matches("error: ")
        .split_ascii_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    format!("{sentence}; see lxcfs --help")
}

fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.to_ascii_lowercase().as_bytes().last() {
        Some(b'k') => (text.get(..text.len() - 1), 10),
        Some(b'm') => (text.get(..text.len() - 1), 20),
        Some(b'g') => (text.get(..text.len() - 1), 30),
        Some(b't') => (text.get(..text.len() - 1), 40),
        _ => (Some(text), 0),
    };
    digits
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u64>().ok())
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| "expected a number of bytes such as 52428800 or 50m".to_owned())
}

fn memory_limit(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes < MIN_MEMORY_BYTES => Err("at least 1m is needed".to_owned()),
        bytes => Ok(bytes),
    }
}

fn cpu_limit(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|cpus| (MIN_CPUS..=MAX_CPUS).contains(cpus))
        .ok_or_else(|| format!("expected a number of CPUs from {MIN_CPUS} to {MAX_CPUS}"))
}

fn cpu_list(text: &str) -> Result<CpuSet, String> {
    CpuSet::parse("--cpuset", text)
        .ok()
        .filter(|cpus| !cpus.is_empty())
        .ok_or_else(|| "expected a list of CPUs such as 0-3,8".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_ascii_whitespace())
    }

    fn run(line: &str) -> RunArgs {
        match parse(line).unwrap().command {
            Some(Command::Run(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refusal(line: &str) -> String {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        usage_error(&error)
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_lines_of_lxcfs_work_unchanged() {
        let cli = parse("lxcfs /var/lib/lxcfs").unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.daemon.mountpoint, Some("/var/lib/lxcfs".into()));
        assert_eq!(cli.daemon.runtime_dir, PathBuf::from("/run"));

        let line = "lxcfs -s -f -d -l -u -z -o allow_other,nonempty -o ro -p /run/x.pid --runtime-dir /run/x \
                    --enable-cfs --enable-pidfd --enable-psi-poll --enable-cgroup /var/lib/lxcfs";
        let daemon = parse(line).unwrap().daemon;
        assert!(daemon.enable_loadavg && daemon.disable_swap && daemon.disable_zswap);
        assert_eq!(daemon.options, ["allow_other", "nonempty", "ro"]);
        assert_eq!(daemon.pid_file, Some("/run/x.pid".into()));

        let daemon = parse(
            "lxcfs --enable-loadavg --disable-swap --pidfile=/p --cpu-view=cpuset --uptime=host /m",
        );
        let daemon = daemon.unwrap().daemon;
        assert_eq!(daemon.cpu_view, Some(CpuChoice::Cpuset));
        assert_eq!(daemon.uptime, Some(UptimeOrigin::Host));
    }

    #[test]
    fn run_takes_limits_and_leaves_the_commands_own_flags_alone() {
        let args = run(
            "lxcfs run -m 50m --swap 0 --cpus 0.5 --cpuset 0-1 --rootfs /r -- free -m --cpus x",
        );
        assert_eq!(args.memory, Some(50 << 20));
        assert_eq!(args.swap, Some(0));
        assert_eq!(args.cpus, Some(0.5));
        assert_eq!(args.cpuset.unwrap().to_string(), "0-1");
        assert_eq!(args.command, ["free", "-m", "--cpus", "x"]);
        assert_eq!(run("lxcfs run free -m 1").command, ["free", "-m", "1"]);
    }

    #[test]
    fn show_takes_a_process_and_a_file() {
        match parse("lxcfs show 12 meminfo --explain").unwrap().command {
            Some(Command::Show(args)) => {
                assert_eq!((args.pid, args.explain), (12, true));
                assert_eq!(args.file.as_deref(), Some("meminfo"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn remount_takes_the_usual_mountpoint_or_another() {
        for (line, dry_run, mountpoint) in [
            ("lxcfs remount", false, "/var/lib/lxcfs"),
            ("lxcfs remount --dry-run /m", true, "/m"),
        ] {
            match parse(line).unwrap().command {
                Some(Command::Remount(args)) => {
                    assert_eq!(
                        (args.dry_run, args.mountpoint),
                        (dry_run, mountpoint.into())
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn sizes_have_suffixes_in_powers_of_1024() {
        assert_eq!(size("7"), Ok(7));
        assert_eq!(size("2K"), Ok(2048));
        assert_eq!(size("3g"), Ok(3 << 30));
        for text in [
            "", "m", "-1", "+1", "1.5g", "1kb", "0x10", "9t9", "\u{e9}", "8388608t",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bad_arguments_are_refused_in_one_sentence() {
        for (line, word) in [
            ("lxcfs", "MOUNTPOINT"),
            ("lxcfs --frobnicate /m", "--frobnicate"),
            ("lxcfs /a /b", "/b"),
            ("lxcfs --cpu-view=all /m", "--cpu-view"),
            ("lxcfs run", "CMD"),
            ("lxcfs run -m 50m --", "CMD"),
            ("lxcfs run --bogus ls", "--bogus"),
            ("lxcfs run -m 0 ls", "at least 1m"),
            ("lxcfs run -m -1 ls", "number of bytes"),
            ("lxcfs run -m abc ls", "number of bytes"),
            ("lxcfs run --swap 1m ls", "--memory"),
            ("lxcfs run --cpus 0 ls", "number of CPUs"),
            ("lxcfs run --cpus -1 ls", "number of CPUs"),
            ("lxcfs run --cpus nan ls", "number of CPUs"),
            ("lxcfs run --cpus inf ls", "number of CPUs"),
            ("lxcfs run --cpuset x ls", "list of CPUs"),
            ("lxcfs run --cpuset 3-1 ls", "list of CPUs"),
            ("lxcfs -f run ls", "--foreground"),
            ("lxcfs show", "PID"),
            ("lxcfs show 0", "PID"),
            ("lxcfs remount --bogus", "--bogus"),
            ("lxcfs remount /a /b", "/b"),
        ] {
            let sentence = refusal(line);
            assert!(sentence.contains(word), "{line}: {sentence}");
            assert!(!sentence.contains('\n'), "{line}: {sentence}");
        }
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for (line, kind) in [
            ("lxcfs -h", ErrorKind::DisplayHelp),
            ("lxcfs run --help", ErrorKind::DisplayHelp),
            ("lxcfs -v", ErrorKind::DisplayVersion),
            ("lxcfs --version", ErrorKind::DisplayVersion),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!((error.kind(), error.exit_code()), (kind, 0), "{line}");
        }
    }
}
