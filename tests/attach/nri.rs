//! Pods of containerd with `lxcfs nri`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::binary;
use crate::common::figures::{keyed, uptime};
use crate::common::{Daemon, beside_others, patience, run, skip, unique, wait_for};
use crate::cri::{ContainerSpec, Containerd, Pod, PodSpec};
use crate::habits_of_pods;

pub const SMALL: ContainerSpec<'_> = ContainerSpec {
    name: "main",
    command: &[],
    mounts: &[],
    memory_bytes: 64 << 20,
    milli_cpus: 1000,
    is_privileged: false,
};
pub const SMALL_KB: u64 = 64 << 10;

/// A plugin that is not started by the runtime; ended when dropped.
struct Plugin {
    child: Child,
    log: PathBuf,
}

impl Plugin {
    /// Starts it and waits until the runtime has accepted it.
    fn start(containerd: &Containerd, views: &Path, args: &[&str]) -> Self {
        let log = containerd.dir().join(unique("plugin.log"));
        let registered = registrations(containerd);
        let child = Command::new(binary())
            .args(["nri", "--socket"])
            .arg(containerd.nri_socket())
            .arg("--views")
            .arg(views)
            .args(args)
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log file"))
            .spawn()
            .expect("starting the plugin");
        let plugin = Self { child, log };
        plugin.await_next(containerd, registered);
        plugin
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }

    /// Waits for one more than there were.
    fn await_next(&self, containerd: &Containerd, registered: usize) {
        let more = || (registrations(containerd) > registered).then_some(());
        assert!(wait_for(patience(30), more).is_some(), "{}", self.log());
    }
}

/// How many plugins that it has not started the runtime has accepted.
pub fn registrations(containerd: &Containerd) -> usize {
    containerd.log().matches("-lxcfs\\\" connected").count()
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the plugin's log:\n{}", self.log());
        }
    }
}

fn host_memory_kb() -> u64 {
    keyed(&fs::read_to_string("/proc/meminfo").expect("meminfo"))["MemTotal"]
}

fn pod_of<'a>(namespace: &'a str, annotations: &'a [(&'a str, &'a str)]) -> PodSpec<'a> {
    PodSpec {
        namespace,
        annotations,
        ..PodSpec::default()
    }
}

/// One containerd for all of it: under emulation a start of one takes long, and so does each pod.
#[test]
fn pods_of_containerd_get_the_views() {
    let mut containerd = match Containerd::start() {
        Ok(containerd) => containerd,
        Err(why) => skip!("{why}"),
    };
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let plugin = Plugin::start(&containerd, daemon.point(), &[]);
    limits_are_shown_unless_pods_say_otherwise(&containerd, &plugin);
    own_mounts_stay_and_two_plugins_bring_nothing_twice(&containerd, &daemon);
    users_of_its_own_are_no_obstacle(&containerd);
    habits_of_pods::containers_in_a_pod_are_as_possible_as_without_the_plugin(&containerd);
    let daemon = containers_start_whatever_has_become_of_lxcfs(&containerd, &plugin, daemon);
    drop(plugin);
    plugin_and_runtime_restart_in_any_order(&mut containerd, &daemon);
}

/// The memory that a new container of this name is shown, in kB.
pub fn shown_kb(pod: &Pod<'_>, name: &str) -> u64 {
    let container = pod.container(&ContainerSpec { name, ..SMALL });
    keyed(&container.sh("cat /proc/meminfo"))["MemTotal"]
}

fn limits_are_shown_unless_pods_say_otherwise(containerd: &Containerd, plugin: &Plugin) {
    let before = Instant::now();
    let pod = containerd.pod(&pod_of(
        "shop",
        &[
            ("lxcfs.rs/view.without", "false"),
            ("lxcfs.rs/view.part", "cpu,psi"),
            ("lxcfs.rs/view.odd", "perhaps"),
        ],
    ));
    let container = pod.container(&SMALL);
    let print =
        "cat /proc/uptime; grep -c ^processor /proc/cpuinfo; cat /proc/meminfo /proc/mounts";
    let text = container.sh(print);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(keyed(&text)["MemTotal"], SMALL_KB, "{text}");
    assert_eq!(lines[1], "1", "{text}");
    let age = uptime(lines[0]).0;
    assert!(age <= before.elapsed().as_secs_f64() + 1.0, "{text}");
    // What runc refuses came by the hook.
    for path in [
        "/proc/meminfo",
        "/sys/devices/system/cpu",
        "/proc/vmstat",
        "/proc/pressure",
    ] {
        let is_mounted = text.contains(&format!("lxcfs {path} fuse.lxcfs"));
        assert_eq!(is_mounted, Path::new(path).exists(), "{path}: {text}");
    }

    // Other containers of the pod, as those are that run before and beside the main ones.
    assert_eq!(shown_kb(&pod, "without"), host_memory_kb());
    assert_eq!(shown_kb(&pod, "part"), host_memory_kb());
    assert_eq!(shown_kb(&pod, "odd"), SMALL_KB);
    assert!(
        plugin.log().contains("\"perhaps\" is neither"),
        "{}",
        plugin.log()
    );

    let system = containerd.pod(&pod_of("kube-system", &[("lxcfs.rs/view.asking", "true")]));
    assert_eq!(shown_kb(&system, "asking"), SMALL_KB);
    assert_eq!(shown_kb(&system, "main"), host_memory_kb());
    let of_host = containerd.pod(&PodSpec {
        host: true,
        ..pod_of("shop", &[])
    });
    assert_eq!(shown_kb(&of_host, "main"), host_memory_kb());
}

fn own_mounts_stay_and_two_plugins_bring_nothing_twice(containerd: &Containerd, daemon: &Daemon) {
    let _other = Plugin::start(containerd, daemon.point(), &[]);
    let own = containerd.dir().join("own");
    fs::write(&own, "my own\n").expect("a file");
    let pod = containerd.pod(&pod_of("shop", &[]));
    let container = pod.container(&ContainerSpec {
        mounts: &[(own.to_str().expect("ASCII"), "/proc/meminfo", false)],
        ..SMALL
    });
    let print = "cat /proc/meminfo; grep -c ^processor /proc/cpuinfo; cut -d' ' -f2 /proc/mounts | sort | uniq -d";
    assert_eq!(container.sh(print), "my own\n1\n");

    let other = pod.container(&ContainerSpec {
        name: "other",
        ..SMALL
    });
    let text =
        other.sh("cut -d' ' -f2 /proc/mounts | sort | uniq -c | grep -e /meminfo -e /vmstat");
    let counts: Vec<_> = text.split_whitespace().collect();
    assert_eq!(
        counts,
        ["1", "/proc/meminfo", "1", "/proc/vmstat"],
        "{text}"
    );
}

/// `hostUsers: false`: Kubernetes has what is in its volumes mounted with other owners, which not every file system
/// lets happen.
fn users_of_its_own_are_no_obstacle(containerd: &Containerd) {
    let pod = containerd.pod(&PodSpec {
        first_user: Some(100_000),
        ..pod_of("shop", &[])
    });
    let text = pod
        .container(&SMALL)
        .sh("cat /proc/self/uid_map /proc/meminfo /proc/mounts");
    assert!(text.contains(" 100000 "), "{text}");
    assert_eq!(keyed(&text)["MemTotal"], SMALL_KB, "{text}");
    for path in ["/proc/vmstat", "/proc/pressure"] {
        let is_mounted = text.contains(&format!("lxcfs {path} fuse.lxcfs"));
        assert_eq!(is_mounted, Path::new(path).exists(), "{path}: {text}");
    }
}

/// Gives back the daemon that serves at the end.
fn containers_start_whatever_has_become_of_lxcfs(
    containerd: &Containerd,
    plugin: &Plugin,
    mut daemon: Daemon,
) -> Daemon {
    let pod = containerd.pod(&pod_of("shop", &[]));
    // It does not answer.
    let processes = daemon.processes();
    let to_all = |signal| {
        for pid in &processes {
            kill(Pid::from_raw(*pid), signal).expect("signalling the daemon");
        }
    };
    to_all(Signal::SIGSTOP);
    let shown = shown_kb(&pod, "hung");
    to_all(Signal::SIGCONT);
    assert_eq!(shown, host_memory_kb());

    // It is dead, and what it had mounted is still there.
    daemon.kill_all();
    assert_eq!(shown_kb(&pod, "dead"), host_memory_kb());

    // It is back, and away.
    let next = Daemon::start(&[]);
    let point = daemon.point().to_owned();
    nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH).expect("unmounting");
    assert_eq!(shown_kb(&pod, "away"), host_memory_kb());
    let bind = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(next.point()), &point, None::<&str>, bind, None::<&str>)
        .expect("a bind mount");
    assert_eq!(shown_kb(&pod, "back"), SMALL_KB);
    let log = plugin.log();
    assert_eq!(
        log.matches("containers start without it").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("answers at").count(), 2, "{log}");
    nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH).expect("unmounting");
    next
}

fn plugin_and_runtime_restart_in_any_order(containerd: &mut Containerd, daemon: &Daemon) {
    let asking = [("lxcfs.rs/view", "true")];
    let plugin = Plugin::start(containerd, daemon.point(), &["--default", "off"]);
    assert_eq!(
        shown_kb(&containerd.pod(&pod_of("shop", &[])), "main"),
        host_memory_kb()
    );
    let registered = registrations(containerd);
    containerd.restart();
    plugin.await_next(containerd, registered);
    let pod = containerd.pod(&pod_of("shop", &asking));
    assert_eq!(shown_kb(&pod, "main"), SMALL_KB);
    drop(plugin);
    assert_eq!(shown_kb(&pod, "late"), host_memory_kb());
    drop(pod);

    // The runtime starts it itself, under a name of its own, and configures it.
    symlink(binary(), containerd.dir().join("plugins/10-lxcfs")).expect("a link");
    let config = format!(
        "views = {:?}\nexclude-namespaces = [\"shop\"]\n",
        daemon.point()
    );
    fs::write(containerd.dir().join("conf.d/10-lxcfs.conf"), config).expect("a configuration");
    containerd.restart();
    assert_eq!(
        shown_kb(&containerd.pod(&pod_of("kube-system", &[])), "main"),
        SMALL_KB
    );
    assert_eq!(
        shown_kb(&containerd.pod(&pod_of("shop", &[])), "main"),
        host_memory_kb()
    );
    let started = containerd.plugins();
    assert_eq!(started.len(), 1);
    containerd.stop();
    let gone = || {
        let mut pids = started.iter();
        pids.all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
            .then_some(())
    };
    assert!(
        wait_for(patience(10), gone).is_some(),
        "the plugin outlives its runtime"
    );
}

#[test]
fn a_plugin_that_is_started_wrongly_says_so_in_one_sentence() {
    for socket in ["", "x", "-1", "0", "99"] {
        let mut plugin = Command::new(binary());
        plugin.env("NRI_PLUGIN_SOCKET", socket);
        let ran = run(&mut plugin);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(
            ran.err.contains("NRI_PLUGIN_SOCKET is no open fd"),
            "{ran:?}"
        );
        assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    }
    let ran = run(Command::new(binary()).args(["nri", "--index", "x"]));
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[test]
fn who_speaks_another_protocol_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("nri.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let log = dir.path().join("log");
    let child = Command::new(binary())
        .args(["nri", "--socket"])
        .arg(&socket)
        .stderr(fs::File::create(&log).expect("a log file"))
        .spawn()
        .expect("starting the plugin");
    let plugin = Plugin { child, log };
    let (mut runtime, _) = listener.accept().expect("a connection");
    // A frame of four gigabytes.
    runtime
        .write_all(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff])
        .expect("writing");
    let said = || {
        plugin
            .log()
            .contains("a frame of 4294967295 bytes")
            .then_some(())
    };
    assert!(wait_for(patience(10), said).is_some(), "{}", plugin.log());
    // It tries again.
    listener.accept().expect("another connection");
}
