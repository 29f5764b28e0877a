//! Incus: its command line for a daemon of each instance, and its containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::{binary, mounted_at};
use crate::common::{
    Cell, Limits, beside_others, children, patience, pss_kb, report, run, wait_for,
};

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
