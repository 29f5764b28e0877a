//! Incus: the daemons that it starts for its instances, and its containers.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::cgroup::cgroup_version;
use crate::common::daemon::{binary, mounted_at};
use crate::common::{
    Cell, Daemon, Limits, Ran, beside_others, children, images, patience, pss_kb, report, run,
    run_within, skip, wait_for,
};
use crate::lxc;
use crate::shown::{PRINT, Shown, add_free};

/// The daemon that Incus starts for one instance; killed and unmounted when dropped.
struct Instance {
    dir: tempfile::TempDir,
    child: Child,
}

impl Instance {
    /// Starts it as `incusd` does: in the foreground, and without waiting.
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for made in ["run", "devices/lxcfs"] {
            fs::create_dir_all(dir.path().join(made)).expect("a directory");
        }
        let child = Self::spawn(dir.path());
        Self { dir, child }
    }

    fn spawn(dir: &Path) -> Child {
        Command::new(binary())
            .arg("-f")
            .arg("-p")
            .arg(dir.join("run/lxcfs.pid"))
            .arg("--runtime-dir")
            .arg(dir.join("run/lxcfs"))
            .arg(dir.join("devices/lxcfs"))
            // Incus was started by systemd for its socket, and passes on what says so.
            .envs([
                ("LISTEN_PID", "1"),
                ("LISTEN_FDS", "1"),
                ("LISTEN_FDNAMES", "unix"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting the daemon")
    }

    fn point(&self) -> PathBuf {
        self.dir.path().join("devices/lxcfs")
    }

    /// Waits until its files can be bound.
    #[track_caller]
    fn wait(&self) {
        let answers = || {
            let text = fs::read_to_string(self.point().join("proc/meminfo")).ok()?;
            text.starts_with("MemTotal").then_some(())
        };
        wait_for(patience(10), answers).expect("the daemon answers");
    }

    /// Stops it as `incusd` does: by the pid file, then a lazy unmount.
    #[track_caller]
    fn stop(&mut self) {
        let file = self.dir.path().join("run/lxcfs.pid");
        let text = fs::read_to_string(file).expect("the pid file");
        let pid: i32 = text.trim().parse().expect("a pid");
        assert_eq!(u32::try_from(pid).expect("a pid"), self.child.id());
        let server = children(pid);
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killing the daemon");
        self.child.wait().expect("the end of the daemon");
        run(Command::new("umount").arg("-l").arg(self.point())).ok();
        assert!(mounted_at(&self.point()).is_none());
        let is_gone = |pid: &i32| !Path::new(&format!("/proc/{pid}")).exists();
        wait_for(patience(10), || server.iter().all(is_gone).then_some(()))
            .expect("nothing of it is left");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = run(Command::new("umount").args(["-q", "-l"]).arg(self.point()));
    }
}

#[test]
fn each_instance_has_a_daemon_of_its_own() {
    let _turn = beside_others();
    let before = Instant::now();
    let mut one = Instance::start();
    let mut other = Instance::start();
    one.wait();
    other.wait();
    let took = before.elapsed();
    let container = Cell::start(&Limits {
        memory_bytes: Some(50 << 20),
        ..Limits::default()
    });
    let total = |instance: &Instance| {
        let file = instance.point().join("proc/meminfo");
        let text = container.run(&["cat", file.to_str().expect("ASCII")]).ok();
        assert!(text.contains("MemTotal:          51200 kB"), "{text}");
    };
    total(&one);
    total(&other);
    let pid = i32::try_from(one.child.id()).expect("a pid");
    let processes = [vec![pid], children(pid)].concat();
    let memory_kb: u64 = processes.into_iter().filter_map(pss_kb).sum();
    report(&format!(
        "two daemons answered after {took:?}; each uses {memory_kb} kB"
    ));

    one.stop();
    total(&other);
    // The instance starts again with what is left.
    one.child = Instance::spawn(one.dir.path());
    one.wait();
    total(&one);
    one.stop();
    other.stop();
}

/// Where distributions put the daemon, which is in nobody's path.
const INCUSD: [&str; 3] = [
    "/usr/libexec/incus/incusd",
    "/usr/bin/incusd",
    "/opt/incus/bin/incusd",
];

/// A daemon of Incus with its own directory and mount namespace; ended with its containers when dropped.
struct Incus {
    dir: tempfile::TempDir,
    child: Child,
}

impl Incus {
    /// Starts it where `views` are at the place that the hook knows.
    #[track_caller]
    fn start(incusd: &str, views: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("a mode");
        // It looks for a program of this name.
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).expect("a directory");
        symlink(binary(), bin.join("lxcfs")).expect("a link");
        let path = std::env::var("PATH").unwrap_or_default();
        let script = format!(
            "{}PATH='{}':{path}; exec {incusd} --group root",
            lxc::install(dir.path(), views),
            bin.display()
        );
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
            .env("INCUS_DIR", dir.path().join("incus"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).expect("a log file"))
            .spawn()
            .expect("starting incusd");
        let incus = Self { dir, child };
        incus.ok("admin waitready --timeout 300");
        incus
    }

    /// Runs the client.
    #[track_caller]
    fn run(&self, arguments: &str, further: &[&str]) -> Ran {
        let mut client = Command::new("incus");
        client.env("INCUS_DIR", self.dir.path().join("incus"));
        client.args(arguments.split(' ')).args(further);
        run_within(&mut client, patience(60))
    }

    #[track_caller]
    fn ok(&self, arguments: &str) {
        let ran = self.run(arguments, &[]);
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        assert!(ran.succeeded(), "{ran:?}\n{log}");
    }
}

impl Drop for Incus {
    fn drop(&mut self) {
        let mut delete = Command::new("timeout");
        delete.args(["100", "incus", "delete", "--force", "c"]);
        let _ = delete
            .env("INCUS_DIR", self.dir.path().join("incus"))
            .output();
        let incusd = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        let _ = kill(incusd, Signal::SIGTERM);
        if wait_for(patience(10), || self.child.try_wait().ok().flatten()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// An image with metadata, as a tar file in `dir`.
#[track_caller]
fn make_image(dir: &Path) -> PathBuf {
    let root = dir.join("rootfs");
    fs::create_dir(&root).expect("a directory");
    images::make_busybox(&root).expect("a root file system");
    add_free(&root);
    let metadata = format!(
        "architecture: {}\ncreation_date: 1700000000\n",
        std::env::consts::ARCH
    );
    fs::write(dir.join("metadata.yaml"), metadata).expect("metadata");
    let tar = dir.join("image.tar");
    let mut command = Command::new("tar");
    command.arg("-C").arg(dir).arg("-cf").arg(&tar);
    run_within(command.args(["metadata.yaml", "rootfs"]), patience(30)).ok();
    tar
}

#[test]
fn incus_starts_containers_with_the_views() {
    let Some(incusd) = INCUSD.into_iter().find(|path| Path::new(path).exists()) else {
        skip!("incus is not installed");
    };
    if cgroup_version() == 1 {
        skip!("Incus wants another layout of cgroups");
    }
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let image = make_image(dir.path());
    let daemon = Daemon::start(&[]);
    let incus = Incus::start(incusd, daemon.point());
    incus.ok("storage create default dir");
    incus.ok("profile device add default root disk path=/ pool=default");
    incus.ok(&format!("image import --alias busybox {}", image.display()));
    let print = || Shown::new(&incus.run("exec c -- sh -c", &[PRINT]).ok());

    incus.ok("launch busybox c -c limits.memory=50MiB -c limits.cpu=0-0");
    let shown = print();
    shown.assert_limited();
    shown.assert_own_pressure();

    let has_option = incus.run("config set instances.lxcfs.per_instance=true", &[]);
    if has_option.succeeded() {
        incus.ok("restart --force c");
        let pid_file = incus.dir.path().join("incus/run/c/lxcfs.pid");
        let pid = fs::read_to_string(pid_file).expect("the pid file of the container's own daemon");
        let process = Path::new("/proc").join(pid.trim());
        assert!(process.exists(), "its daemon does not run");
        let shown = print();
        shown.assert_limited();
        shown.assert_own_pressure();
        incus.ok("stop --force c");
        wait_for(patience(10), || (!process.exists()).then_some(())).expect("its daemon ends");
        incus.ok("config unset instances.lxcfs.per_instance");
    } else {
        report("this Incus has no instances.lxcfs.per_instance");
        incus.ok("stop --force c");
    }

    drop(daemon);
    incus.ok("start c");
    print().assert_without_views();
}
