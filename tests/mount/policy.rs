//! The configuration file: rules for single containers, read again at SIGHUP.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::common::daemon::binary;
use crate::common::figures::{cpu_list, cpuinfo_ids, keyed, uptime};
use crate::common::{Cell, Daemon, Limits, beside_others, patience, run_within, wait_for};

/// A configuration file that can be written anew, and a daemon that reads it.
struct Configured {
    file: PathBuf,
    daemon: Daemon,
    _dir: TempDir,
}

impl Configured {
    fn start(text: &str, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("lxcfs.toml");
        fs::write(&file, text).expect("writing the configuration");
        let mut line = vec!["--config", file.to_str().expect("a path in UTF-8")];
        line.extend(options);
        Self {
            daemon: Daemon::start(&line),
            file,
            _dir: dir,
        }
    }

    /// Has the daemon read another text, and waits until it says something with `words`.
    fn reload(&self, text: &str, words: &str) {
        fs::write(&self.file, text).expect("writing the configuration");
        let before = self.daemon.log().matches(words).count();
        self.daemon.signal(Signal::SIGHUP);
        let said = wait_for(patience(5), || {
            (self.daemon.log().matches(words).count() > before).then_some(())
        });
        assert!(said.is_some(), "no {words:?} in {}", self.daemon.log());
    }

    fn total_kb(&self, cell: &Cell) -> u64 {
        keyed(&cell.read(&self.daemon, "proc/meminfo"))["MemTotal"]
    }
}

fn limited() -> Cell {
    Cell::start(&Limits {
        memory_bytes: Some(64 << 20),
        cpus: Some(1.0),
        ..Limits::default()
    })
}

fn host_total_kb() -> u64 {
    keyed(&fs::read_to_string("/proc/meminfo").expect("meminfo"))["MemTotal"]
}

fn online() -> BTreeSet<u32> {
    cpu_list(&fs::read_to_string("/sys/devices/system/cpu/online").expect("the host's CPUs"))
}

fn rule(cell: &Cell, what: &str) -> String {
    let directory = cell.cgroup.dir("memory");
    let name = directory.file_name().expect("a name").to_string_lossy();
    format!("[[container]]\ncgroup = \"/{name}\"\n{what}\n")
}

#[test]
fn a_rule_is_for_the_containers_that_its_pattern_matches_and_for_no_others() {
    let _turn = beside_others();
    let (one, other) = (limited(), limited());
    let configured = Configured::start(&rule(&one, "passthrough = true"), &[]);
    assert_eq!(configured.total_kb(&one), host_total_kb());
    assert_eq!(configured.total_kb(&other), 64 << 10);
    let cpus = |cell: &Cell| {
        let below = configured.daemon.arg("sys/devices/system/cpu/online");
        cell.run(&["cat", &below]).ok()
    };
    let host = fs::read_to_string("/sys/devices/system/cpu/online").expect("the host's CPUs");
    assert_eq!(cpus(&one), host);
    assert_eq!(cpus(&other), "0\n");
}

#[test]
fn a_soft_limit_is_the_size_of_memory_only_where_the_operator_says_so() {
    let _turn = beside_others();
    let (one, other) = (limited(), limited());
    for cell in [&one, &other] {
        let file = match cell.cgroup.is_v1("memory") {
            true => "memory.soft_limit_in_bytes",
            false => "memory.high",
        };
        let file = cell.cgroup.dir("memory").join(file);
        fs::write(file, (32 << 20).to_string()).expect("setting a soft limit");
    }
    let configured = Configured::start(&rule(&one, "memory-limit = \"high\""), &[]);
    assert_eq!(configured.total_kb(&one), 32 << 10);
    assert_eq!(configured.total_kb(&other), 64 << 10);
    configured.reload("[defaults]\nmemory-limit = \"high\"\n", "again");
    assert_eq!(configured.total_kb(&other), 32 << 10);
}

#[test]
fn sighup_puts_another_configuration_into_force_and_a_bad_one_leaves_the_old() {
    let _turn = beside_others();
    let cell = limited();
    let configured = Configured::start("", &["--cpu-view=host"]);
    let shown = || cpuinfo_ids(&cell.read(&configured.daemon, "proc/cpuinfo"));
    let one: BTreeSet<u32> = online().into_iter().take(1).collect();
    let processes = configured.daemon.processes();
    assert_eq!(shown(), online());

    configured.reload(&rule(&cell, "cpu-view = \"quota\""), "again");
    assert_eq!(shown(), one);

    configured.reload(
        "\n[[container]]\ncgroup = \"/a\"\nswop = false\n",
        "lxcfs.toml, line 4: unknown field `swop`",
    );
    assert_eq!(shown(), one, "the old one is kept");

    configured.reload("[defaults]\ncpu-view = \"quota\"\n", "again");
    assert_eq!(shown(), online(), "the command line outranks defaults");
    assert_eq!(
        configured.daemon.processes(),
        processes,
        "nothing was started again"
    );
}

#[test]
fn a_server_that_finds_a_bad_configuration_goes_on_with_the_one_before() {
    let _turn = beside_others();
    let cell = limited();
    let configured = Configured::start(&rule(&cell, "passthrough = true"), &[]);
    assert_eq!(configured.total_kb(&cell), host_total_kb());
    fs::write(&configured.file, "[defaults").expect("writing the configuration");
    let server = configured.daemon.processes()[1];
    kill(Pid::from_raw(server), Signal::SIGKILL).expect("killing the server");
    assert_eq!(configured.total_kb(&cell), host_total_kb());
    let log = configured.daemon.log();
    assert!(log.contains("lxcfs.toml, line 1"), "{log}");
}

#[test]
fn a_container_can_be_shown_no_swap_the_hosts_load_and_the_hosts_uptime() {
    let _turn = beside_others();
    let cell = limited();
    let what = "swap = false\nzswap = false\nloadavg = false\nuptime = \"host\"";
    let configured = Configured::start(&rule(&cell, what), &[]);
    let daemon = &configured.daemon;
    let meminfo = keyed(&cell.read(daemon, "proc/meminfo"));
    assert_eq!((meminfo["MemTotal"], meminfo["SwapTotal"]), (64 << 10, 0));
    let total = |text: &str| {
        let tasks = text.split(' ').nth(3).expect("tasks");
        tasks
            .split_once('/')
            .expect("a total")
            .1
            .parse::<u64>()
            .expect("a number")
    };
    let load = cell.read(daemon, "proc/loadavg");
    assert!(total(&load) > 50, "the host's threads: {load}");
    let (host, _) = uptime(&fs::read_to_string("/proc/uptime").expect("uptime"));
    let (shown, idle) = uptime(&cell.read(daemon, "proc/uptime"));
    assert!((shown - host).abs() < 5.0, "{shown} s, the host {host} s");
    assert!(
        (shown - idle).abs() < 5.0,
        "one CPU, up {shown} s, was idle for {idle} s"
    );
}

#[test]
fn a_daemon_does_not_start_with_a_bad_configuration() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("lxcfs.toml");
    let refusal = |file: &Path| {
        let mut command = Command::new(binary());
        command
            .arg("--config")
            .arg(file)
            .arg("-p")
            .arg(dir.path().join("pid"));
        let ran = run_within(command.arg(dir.path()), patience(10));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        ran.err
    };
    fs::write(&file, "[defaults]\nswap = maybe\n").expect("writing the configuration");
    let said = refusal(&file);
    assert!(said.contains("lxcfs.toml, line 2: "), "{said}");
    let said = refusal(Path::new("/nonexistent/lxcfs.toml"));
    assert!(
        said.contains("cannot read the configuration /nonexistent/lxcfs.toml"),
        "{said}"
    );
}
