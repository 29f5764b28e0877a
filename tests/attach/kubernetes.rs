//! `lxcfs deploy` in a pod, as the DaemonSet of share/kubernetes has it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::daemon::binary;
use crate::common::{Ran, alone, beside_others, patience, run, run_within, skip, wait_for};
use crate::cri::{Container, ContainerSpec, Containerd, Pod, PodSpec};
use crate::nri::{SMALL, SMALL_KB, registrations, shown_kb};

/// Where it installs itself.
const PROGRAM: &str = "/opt/lxcfs/lxcfs";
const PID_FILE: &str = "/run/lxcfs.pid";

/// A node: a mount namespace in which nothing that is installed touches the machine, and where no systemd is seen.
struct Node {
    process: Child,
}

impl Node {
    fn start() -> Self {
        Self::start_with_opt("rw")
    }

    /// A node whose `/opt` is mounted with these options.
    fn start_with_opt(options: &str) -> Self {
        let script = format!(
            "for dir in /run /opt /var/opt /var/log; do mount -t tmpfs node $dir || exit; done; \
            mount -o remount,{options} /opt; mkdir /run/views; touch /run/ready; exec sleep 1000000"
        );
        let process = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .expect("starting unshare");
        let node = Self { process };
        let ready = wait_for(patience(10), || {
            node.path("/run/ready").exists().then_some(())
        });
        assert!(ready.is_some(), "the mount namespace is not made");
        node
    }

    /// A path as the node sees it.
    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.process.id()))
    }

    fn daemon(&self) -> Option<i32> {
        fs::read_to_string(self.path(PID_FILE))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Takes lxcfs off the node.
    fn uninstall(&self) -> Ran {
        run_within(
            Command::new(binary())
                .args(["deploy", "--uninstall", "--views", "/run/views", "--host"])
                .arg(self.process.id().to_string()),
            patience(90),
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(pid) = self.daemon() {
            run(Command::new("kill").arg(pid.to_string()));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A directory with a version of the program, and what it is linked with mounted where it looks for that.
struct Version(PathBuf);

impl Version {
    fn make(dir: &Path, name: &str, is_next: bool) -> Self {
        let dir = dir.join(name);
        fs::create_dir(&dir).expect("a directory");
        let next = std::env::var_os("LXCFS_NEXT_BIN").filter(|_| is_next);
        let program = dir.join("lxcfs");
        fs::copy(next.map_or_else(binary, PathBuf::from), &program).expect("a copy");
        if is_next {
            // Behind its end, where nothing reads it.
            let mut file = fs::File::options()
                .append(true)
                .open(&program)
                .expect("the copy");
            file.write_all(b"next").expect("writing to the copy");
        }
        Self(dir)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.join("log")).unwrap_or_default()
    }

    /// The pod of the DaemonSet, once it has brought the daemon up and its plugin is registered.
    fn deploy<'a>(&self, containerd: &'a Containerd, node: &Node) -> Pod<'a> {
        let registered = registrations(containerd);
        let pod = containerd.pod(&PodSpec {
            namespace: "kube-system",
            host: true,
            ..PodSpec::default()
        });
        let command = format!(
            "exec /pkg/lxcfs deploy --views /run/views --host {} --socket {} 2>/pkg/log",
            node.process.id(),
            containerd.nri_socket().display()
        );
        let here = self.0.to_str().expect("ASCII");
        let libraries = ["/lib", "/lib64", "/usr/lib"]
            .into_iter()
            .filter(|path| Path::new(path).exists());
        let mut mounts: Vec<_> = libraries.map(|path| (path, path, false)).collect();
        mounts.push((here, "/pkg", false));
        pod.container(&ContainerSpec {
            name: "lxcfs",
            command: &["sh", "-c", &command],
            mounts: &mounts,
            is_privileged: true,
            ..ContainerSpec::default()
        });
        let done = wait_for(patience(60), || {
            (registrations(containerd) > registered).then_some(())
        });
        assert!(done.is_some(), "{}", self.log());
        pod
    }
}

/// Reads without pause and notes what fails.
const READER: &str = "while :; do for file in meminfo stat uptime; do \
    cat /proc/$file >/dev/null 2>>/tmp/errors || echo $file >>/tmp/errors; done; echo >>/tmp/rounds; done";

/// Waits for some more rounds of the reader, and tells what has failed.
fn errors(reader: &Container<'_>) -> String {
    reader.sh("n=$(wc -l </tmp/rounds); while [ $(wc -l </tmp/rounds) -lt $((n + 5)) ]; do sleep 0.1; done; cat /tmp/errors")
}

#[test]
fn pods_notice_nothing_of_a_rollout() {
    let _turn = beside_others();
    let node = Node::start();
    let containerd = match Containerd::start_in(Some(node.process.id())) {
        Ok(containerd) => containerd,
        Err(why) => skip!("{why}"),
    };
    let old = Version::make(containerd.dir(), "old", false);
    let new = Version::make(containerd.dir(), "new", true);
    let shop = PodSpec {
        namespace: "shop",
        ..PodSpec::default()
    };

    let deployed = old.deploy(&containerd, &node);
    let pod = containerd.pod(&shop);
    let reader = pod.container(&ContainerSpec {
        name: "reader",
        command: &["sh", "-c", READER],
        ..SMALL
    });
    assert_eq!(shown_kb(&pod, "first"), SMALL_KB);
    assert_eq!(errors(&reader), "");
    let daemon = node.daemon().expect("a daemon");
    let cgroups = fs::read_to_string(format!("/proc/{daemon}/cgroup")).expect("its cgroups");
    assert!(
        !cgroups.contains("pod"),
        "the daemon is in a cgroup of the pod: {cgroups}"
    );

    // The pod goes, and the daemon stays.
    deployed.remove().expect("removing the pod");
    assert_eq!(errors(&reader), "");

    // The next version takes over. What it is linked with is not the host's business.
    let deployed = new.deploy(&containerd, &node);
    assert!(
        new.log().contains("goes on with the new program"),
        "{}",
        new.log()
    );
    assert_eq!(node.daemon(), Some(daemon));
    let served_by = |pid| fs::read(format!("/proc/{pid}/exe")).expect("the program");
    assert!(served_by(daemon) == fs::read(new.0.join("lxcfs")).expect("the new version"));
    assert_eq!(errors(&reader), "");
    assert_eq!(shown_kb(&pod, "next"), SMALL_KB);

    // Again: nothing to do. Two pods at once, as a rollout with maxSurge has them, do no harm.
    let again = new.deploy(&containerd, &node);
    assert!(new.log().contains("is up to date"), "{}", new.log());
    assert_eq!(shown_kb(&pod, "again"), SMALL_KB);
    drop((deployed, again));

    // Off the node, but not as long as somebody reads.
    let refused = node.uninstall();
    assert!(
        refused.code == Some(1) && refused.err.contains("still have its files"),
        "{refused:?}"
    );
    assert_eq!(errors(&reader), "");
    drop(pod);
    node.uninstall().ok();
    assert_eq!(node.daemon(), None);
    assert!(!node.path(PROGRAM).exists());
    node.uninstall().ok();
}

#[test]
fn with_systemd_the_daemon_is_a_service_of_the_host() {
    if !Path::new("/run/systemd/system").exists() {
        skip!("systemd does not run here");
    }
    let _turn = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let old = Version::make(dir.path(), "old", false);
    let new = Version::make(dir.path(), "new", true);
    let deploy = |version: &Version, awaited: &str| {
        let mut plugin = Command::new(version.0.join("lxcfs"))
            .args(["deploy", "--socket"])
            .arg(dir.path().join("nri.sock"))
            .stderr(fs::File::create(version.0.join("log")).expect("a log file"))
            .spawn()
            .expect("starting lxcfs");
        let said = wait_for(patience(60), || {
            version
                .log()
                .contains("waiting for a runtime")
                .then_some(())
        });
        plugin.kill().expect("ending the plugin");
        plugin.wait().expect("its end");
        assert!(
            said.is_some() && version.log().contains(awaited),
            "{}",
            version.log()
        );
    };
    deploy(&old, "the daemon is started");
    let pid = || fs::read_to_string(PID_FILE).expect("the pid file");
    let daemon = pid();
    let cgroups =
        fs::read_to_string(format!("/proc/{}/cgroup", daemon.trim())).expect("its cgroups");
    assert!(cgroups.contains("lxcfs.service"), "{cgroups}");
    deploy(&new, "goes on with the new program");
    assert_eq!(pid(), daemon);
    run(Command::new("systemctl").args(["is-active", "lxcfs.service"])).ok();
    run(Command::new("systemctl").args(["is-enabled", "lxcfs.service"])).ok();

    let program = new.0.join("lxcfs");
    run_within(
        Command::new(program).args(["deploy", "--uninstall"]),
        patience(60),
    )
    .ok();
    assert!(!Path::new(PID_FILE).exists() && !Path::new("/opt/lxcfs").exists());
    assert!(!Path::new("/etc/systemd/system/lxcfs.service").exists());
}

/// What the manifests have the program do, it knows.
#[test]
fn the_command_lines_of_the_manifests_are_understood() {
    let manifests = [
        include_str!("../../share/kubernetes/daemonset.yaml"),
        include_str!("../../share/kubernetes/uninstall.yaml"),
    ];
    let lines: Vec<_> = manifests
        .iter()
        .flat_map(|manifest| manifest.lines())
        .filter_map(|line| {
            line.trim()
                .strip_prefix("args: [")
                .or(line.trim().strip_prefix("command: [/lxcfs, "))
        })
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in lines {
        let arguments = line.trim_end_matches(']').split(", ");
        let arguments = arguments.map(|argument| argument.trim_matches('"'));
        // Nothing of it is done.
        run(Command::new(binary()).args(arguments).arg("--help")).ok();
    }
}

#[test]
fn a_node_whose_opt_is_read_only_or_noexec_has_it_elsewhere_and_serves() {
    let _turn = beside_others();
    for options in ["ro", "noexec"] {
        let node = Node::start_with_opt(options);
        let log = tempfile::NamedTempFile::new().expect("a log file");
        let mut deploying = Command::new(binary())
            .args(["deploy", "--views", "/run/views", "--socket", "/run/none"])
            .arg("--host")
            .arg(node.process.id().to_string())
            .stderr(log.reopen().expect("the log file"))
            .spawn()
            .expect("the program under test");
        let said = || fs::read_to_string(log.path()).unwrap_or_default();
        let started = wait_for(patience(30), || {
            said().contains("the daemon is started").then_some(())
        });
        deploying.kill().expect("ending the pod");
        deploying.wait().expect("the end of the pod");
        assert!(started.is_some(), "{options}: {}", said());
        // That was said after the first answer.
        let served = fs::read_to_string(node.path("/run/views/proc/meminfo"));
        assert!(
            served.is_ok_and(|text| text.starts_with("MemTotal:")),
            "{options}"
        );
        assert!(node.path("/var/opt/lxcfs/lxcfs").exists(), "{options}");
        assert!(
            !node.path("/opt/lxcfs").exists(),
            "{options}: something is left"
        );
        node.uninstall().ok();
        assert!(!node.path("/var/opt/lxcfs").exists(), "{options}");
    }
}

#[test]
fn a_directory_that_cannot_be_used_gets_one_sentence_and_nothing_is_started() {
    let _turn = beside_others();
    let node = Node::start_with_opt("ro");
    let mut command = Command::new(binary());
    command.args(["deploy", "--views", "/run/views", "--dir", "/opt/lxcfs"]);
    command.arg("--host").arg(node.process.id().to_string());
    let ran = run_within(&mut command, patience(30));
    assert!(!ran.succeeded() && ran.err.contains("--dir"), "{ran:?}");
    assert!(ran.err.contains("Read-only file system"), "{ran:?}");
    assert_eq!(node.daemon(), None);
}
