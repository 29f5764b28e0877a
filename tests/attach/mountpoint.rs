//! What lies at the mountpoint before lxcfs is there and after it has gone.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::common::daemon::{Daemon, binary, mounted_at};
use crate::common::{beside_others, run, sh};

/// What can be mounted at the place already: a script with the place as `$1`, and a directory for its needs as `$2`.
const PLACES: [(&str, &str); 4] = [
    ("nothing", ":"),
    ("a tmpfs", "mount -t tmpfs t \"$1\""),
    ("a volume", "mount --bind \"$2\" \"$1\""),
    ("a bind of itself", "mount --bind \"$1\" \"$1\""),
];

/// A place with such a mount; unmounted when dropped.
struct Place(tempfile::TempDir);

impl Place {
    #[track_caller]
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Self(dir);
        for name in ["point", "more"] {
            fs::create_dir(place.0.path().join(name)).expect("a directory");
        }
        let mut command = Command::new("sh");
        command.args(["-ec", script, "mount"]).arg(place.point());
        run(command.arg(place.0.path().join("more"))).ok();
        place
    }

    fn point(&self) -> std::path::PathBuf {
        self.0.path().join("point")
    }

    fn daemon(&self) -> Daemon {
        Daemon::start_at(&binary(), &self.point(), &self.0.path().join("pid"), &[])
    }

    #[track_caller]
    fn assert_has_links(&self, why: &str) {
        let links = fs::read_link(self.point().join("proc/meminfo"));
        assert_eq!(
            links.ok().as_deref(),
            Some(Path::new("/proc/meminfo")),
            "{why}"
        );
        assert!(
            self.point().join("sys/devices/system/cpu/online").exists(),
            "{why}"
        );
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        while mounted_at(&self.point()).is_some() {
            if !sh(&format!("umount -l '{}'", self.point().display())).succeeded() {
                return;
            }
        }
    }
}

fn prepare(place: &Place) {
    run(Command::new(binary()).arg("prepare").arg(place.point())).ok();
}

#[test]
fn links_are_made_whatever_is_mounted_there() {
    let _turn = beside_others();
    for (what, script) in PLACES {
        let place = Place::new(script);
        prepare(&place);
        place.assert_has_links(what);
    }
}

#[test]
fn links_are_made_under_an_lxcfs_that_serves_and_under_a_dead_one() {
    let _turn = beside_others();
    for (what, script) in PLACES {
        for is_dead in [false, true] {
            let place = Place::new(script);
            let mut daemon = place.daemon();
            // The daemon has made them itself.
            let under = "mount --make-rprivate /; umount -l \"$1\"; rm -r \"$1/proc\" \"$1/sys\"";
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-ec", under, "under"]);
            run(command.arg(place.point())).ok();
            if is_dead {
                daemon.kill_all();
            }
            prepare(&place);
            assert!(mounted_at(&place.point()).is_some_and(|mount| mount.kind == "fuse.lxcfs"));
            run(Command::new("umount").arg("-l").arg(place.point())).ok();
            place.assert_has_links(what);
        }
    }
}

#[test]
fn the_daemon_leaves_links_by_itself() {
    let _turn = beside_others();
    for (what, script) in PLACES {
        let place = Place::new(script);
        let mut daemon = place.daemon();
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.ended().is_some());
        place.assert_has_links(what);
    }
}

#[test]
fn the_daemon_serves_at_a_place_that_cannot_be_written() {
    let _turn = beside_others();
    let place = Place::new("mount -t tmpfs -o ro t \"$1\"");
    let daemon = place.daemon();
    assert!(daemon.read("proc/meminfo").contains("MemTotal"));
    assert!(
        daemon.log().contains("can lack its files"),
        "{}",
        daemon.log()
    );
}
