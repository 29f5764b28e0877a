//! The daemon as a service of systemd, with the unit as it is shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::daemon::{binary, mounted_at};
use crate::common::{Ran, children, patience, run_within, unique, wait_for};

/// Whether systemd manages this machine.
pub fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Puts a program into the place of another, as package managers do.
pub fn install(program: &Path, place: &Path) {
    let new = place.with_extension("new");
    // By another process: one that this one starts meanwhile would have the file open for writing too.
    run_within(
        Command::new("cp").args([program, new.as_path()]),
        patience(30),
    )
    .ok();
    fs::rename(&new, place).expect("renaming the program");
}

/// The shipped unit under another name, with a program and a mount point of its own.
pub struct Unit {
    name: String,
    file: PathBuf,
    dir: tempfile::TempDir,
}

impl Unit {
    pub fn install(has_fd_store: bool) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let name = format!("{}.service", unique("lxcfs"));
        let unit = Self {
            file: Path::new("/run/systemd/system").join(&name),
            name,
            dir,
        };
        install(&binary(), &unit.program());
        let (program, point) = (unit.program(), unit.point());
        let shipped = include_str!("../../systemd/lxcfs.service");
        let pid_file = unit.dir.path().join("pid");
        let mut text = shipped
            .replace(
                "/usr/bin/lxcfs -f",
                &format!("/usr/bin/lxcfs -f -p {}", pid_file.display()),
            )
            .replace("/usr/bin/lxcfs", program.to_str().expect("ASCII"))
            .replace("/var/lib/lxcfs", point.to_str().expect("ASCII"));
        assert!(
            !text.contains("/usr/bin/lxcfs") && !text.contains("/var/lib"),
            "{text}"
        );
        if !has_fd_store {
            let is_of_store =
                |line: &&str| line.contains("FDSTORE=") || line.contains("DescriptorStoreMax=");
            assert_eq!(text.lines().filter(is_of_store).count(), 2, "{text}");
            let others = text.lines().filter(|line| !is_of_store(line));
            text = others.collect::<Vec<_>>().join("\n");
        }
        fs::write(&unit.file, text).expect("a unit file");
        run_within(Command::new("systemctl").arg("daemon-reload"), patience(30)).ok();
        unit
    }

    /// Has the daemon started with further options from now on.
    pub fn add_options(&self, options: &str) {
        let text = fs::read_to_string(&self.file).expect("the unit file");
        let text = text.replace(" -f -p ", &format!(" {options} -f -p "));
        fs::write(&self.file, text).expect("a unit file");
        run_within(Command::new("systemctl").arg("daemon-reload"), patience(30)).ok();
    }

    /// Where its program lies.
    pub fn program(&self) -> PathBuf {
        self.dir.path().join("lxcfs")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    #[track_caller]
    pub fn systemctl(&self, verb: &str) {
        self.try_systemctl(verb).ok();
    }

    pub fn try_systemctl(&self, verb: &str) -> Ran {
        run_within(
            Command::new("systemctl").args([verb, &self.name]),
            patience(30),
        )
    }

    pub fn property(&self, name: &str) -> String {
        let show = ["show", "--value", "-p", name, &self.name];
        run_within(Command::new("systemctl").args(show), patience(30))
            .ok()
            .trim()
            .to_owned()
    }

    /// The holder, or 0.
    pub fn holder(&self) -> i32 {
        self.property("MainPID").parse().expect("a pid")
    }

    /// The server, which there must be one of sooner or later.
    #[track_caller]
    pub fn server(&self) -> i32 {
        let server = wait_for(patience(20), || children(self.holder()).first().copied());
        server.unwrap_or_else(|| panic!("no server: {}", self.log()))
    }

    /// The processes in the unit's cgroup.
    pub fn processes(&self) -> Vec<i32> {
        let cgroup = self.property("ControlGroup");
        let list = fs::read_to_string(format!("/sys/fs/cgroup{cgroup}/cgroup.procs"));
        list.unwrap_or_default()
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect()
    }

    pub fn cgroup(&self) -> PathBuf {
        PathBuf::from(format!("/sys/fs/cgroup{}", self.property("ControlGroup")))
    }

    pub fn meminfo(&self) -> std::io::Result<String> {
        fs::read_to_string(self.point().join("proc/meminfo"))
    }

    pub fn log(&self) -> String {
        let mut command = Command::new("journalctl");
        command.args(["--no-pager", "-o", "cat", "-u", &self.name]);
        run_within(&mut command, patience(30)).out
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the unit's log:\n{}", self.log());
        }
        let _ = self.try_systemctl("stop");
        while mounted_at(&self.point()).is_some()
            && nix::mount::umount2(&self.point(), nix::mount::MntFlags::MNT_DETACH).is_ok()
        {
        }
        let _ = fs::remove_file(&self.file);
        let _ = Command::new("systemctl").arg("daemon-reload").status();
    }
}
