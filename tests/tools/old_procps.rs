//! `ps` of Debian 11 (3.3.17) and of Debian 12 (4.0.2), which take the ages of processes from `/proc/uptime`, where newer
//! ones ask a clock. Their figures are right where the container is in a time namespace.

use std::path::Path;
use std::process::Command;

use crate::common::cgroup::cgroup_version;
use crate::common::daemon::binary;
use crate::common::docker::{Docker, Image, SIX_FILES, options, proc_volumes};
use crate::common::figures::numbers;
use crate::common::{
    Daemon, Ran, alone, beside_others, has, images, patience, report, run_within, skip, unique,
};
use crate::truth::{host_uptime, now_seconds};

const SUITES: [&str; 2] = ["bullseye", "bookworm"];

/// A busy loop of three seconds, and what is said about it. The `used` line is the kernel's.
const SCRIPT: &str = r#"sh -c "while :; do :; done" & busy=$!
sleep 3
echo used $(cut -d " " -f 14,15 /proc/$busy/stat)
echo ps $(ps -o etimes=,pcpu= -p $busy)
echo started $(date -d "$(ps -o lstart= -p $busy)" +%s)
echo since $(date -d "$(uptime -s)" +%s)
echo up $(cat /proc/uptime)
echo btime $(grep btime /proc/stat)
echo psutil $(python3 -c "import psutil, sys; print(psutil.boot_time(), psutil.Process(int(sys.argv[1])).create_time())" $busy)
kill $busy"#;

/// What the script printed in a container that was started at `start`.
#[derive(Debug)]
struct Said {
    text: String,
    start: f64,
    end: f64,
}

impl Said {
    fn new(start: f64, ran: Ran) -> Self {
        let text = ran.ok().replace('\r', "");
        Self {
            text,
            start,
            end: now_seconds(),
        }
    }

    #[track_caller]
    fn get(&self, what: &str, index: usize) -> f64 {
        let line = self
            .text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{what} ")));
        let numbers = numbers(line.unwrap_or_default());
        *numbers
            .get(index)
            .unwrap_or_else(|| panic!("no {what} in {self:?}"))
    }

    /// `ps` knows how old the busy process is, and how busy.
    #[track_caller]
    fn assert_ps_is_right(&self) {
        let elapsed = self.get("ps", 0);
        let most = self.end - self.start;
        assert!((2.0..=most + 1.0).contains(&elapsed), "{self:?}");
        let used = (self.get("used", 0) + self.get("used", 1)) / elapsed;
        let shown = self.get("ps", 1);
        // Ages are whole seconds: a process of 3 s may be 3.9 s old.
        assert!(
            (used * 0.75 - 5.0..=used * 1.1 + 5.0).contains(&shown),
            "{used} %: {self:?}"
        );
    }

    /// All that tells the time of boot tells the same: that of the container's start.
    #[track_caller]
    fn assert_one_boot(&self) {
        let boots = [
            self.get("since", 0),
            self.get("btime", 0),
            self.get("psutil", 0),
        ];
        let started = [self.get("started", 0), self.get("psutil", 1)];
        for moment in boots.into_iter().chain(started) {
            assert!(
                (self.start - 2.0..=self.end).contains(&moment),
                "{moment}: {self:?}"
            );
        }
        assert!(self.get("up", 0) <= self.end - self.start + 1.0, "{self:?}");
    }
}

/// A directory with the root file system of a release.
fn root_of(suite: &str) -> Result<tempfile::TempDir, String> {
    let tar = images::old_tar(suite)?;
    let root = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut command = Command::new("tar");
    run_within(
        command.arg("-C").arg(root.path()).arg("-xf").arg(tar),
        patience(60),
    )
    .ok();
    Ok(root)
}

#[test]
fn old_ps_is_right_in_lxcfs_run() {
    // It would take the views of any daemon that is mounted, and lose them when that one ends.
    let _turn = alone();
    for suite in SUITES {
        let root = match root_of(suite) {
            Ok(root) => root,
            Err(why) => skip!("{why}"),
        };
        let start = now_seconds();
        let mut command = Command::new(binary());
        command
            .args(["run", "-m", "256m", "--cpus", "1", "--rootfs"])
            .arg(root.path());
        let said = Said::new(
            start,
            run_within(command.args(["--", "sh", "-c", SCRIPT]), patience(60)),
        );
        report(&format!(
            "{suite}, lxcfs run: {}",
            said.text.replace('\n', "; ")
        ));
        said.assert_ps_is_right();
        said.assert_one_boot();
    }
}

#[test]
fn old_ps_is_right_in_lxc_with_a_time_offset() {
    let _turn = beside_others();
    if !has("lxc-execute") || !Path::new("/usr/share/lxcfs/lxc.mount.hook").exists() {
        skip!("lxc and the mount hook of the lxcfs package are not installed");
    }
    let daemon = Daemon::start(&[]);
    for suite in SUITES {
        let root = match root_of(suite) {
            Ok(root) => root,
            Err(why) => skip!("{why}"),
        };
        let dir = tempfile::tempdir().expect("a directory");
        let memory = if cgroup_version() == 1 {
            "lxc.cgroup.memory.limit_in_bytes"
        } else {
            "lxc.cgroup2.memory.max"
        };
        let start = now_seconds();
        let config = format!(
            "lxc.include = /usr/share/lxc/config/common.conf\nlxc.rootfs.path = dir:{}\nlxc.net.0.type = none\n\
             lxc.apparmor.profile = unconfined\n{memory} = 256M\nlxc.time.offset.boot = -{:.0}s\n",
            root.path().display(),
            host_uptime().floor(),
        );
        let path = dir.path().join("config");
        std::fs::write(&path, config).expect("a configuration");
        std::fs::write(root.path().join("script"), SCRIPT).expect("a script");
        std::fs::create_dir_all("/var/lib/lxcfs").expect("the place the hook looks at");
        let script = format!(
            "mount --bind '{}' /var/lib/lxcfs && exec lxc-execute -P '{}' -n {} -f '{}' -- /bin/sh /script",
            daemon.point().display(),
            dir.path().display(),
            unique("lxc"),
            path.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
        let said = Said::new(start, run_within(&mut command, patience(60)));
        report(&format!("{suite}, LXC: {}", said.text.replace('\n', "; ")));
        said.assert_ps_is_right();
        said.assert_one_boot();
    }
}

/// Docker makes no time namespace: start times of processes count from the boot of the host, so that either uptime or
/// the ages of processes can be the container's.
#[test]
fn old_ps_in_docker_is_right_with_the_uptime_of_the_host() {
    let _turn = beside_others();
    let docker = match Docker::get() {
        Ok(docker) => docker,
        Err(why) => skip!("{why}"),
    };
    for suite in SUITES {
        if let Err(why) = docker.prepare(Image::Old(suite)) {
            skip!("{why}");
        }
        for option in ["--uptime=host", "--uptime=container"] {
            let daemon = Daemon::start(&[option]);
            let mut line = options("-m 256m --cpus 1");
            line.extend(proc_volumes(&daemon, &SIX_FILES));
            let start = now_seconds();
            let container = docker.container(Image::Old(suite), &line);
            let said = Said::new(start, container.exec_sh(SCRIPT));
            report(&format!(
                "{suite}, Docker, {option}: {}",
                said.text.replace('\n', "; ")
            ));
            let up = said.get("up", 0);
            if option == "--uptime=host" {
                said.assert_ps_is_right();
                assert!((up - host_uptime()).abs() < 5.0, "{said:?}");
            } else {
                assert!(up < said.end - said.start + 1.0, "{said:?}");
                // 0 in 3.3.17; in 4.0.2 a small negative number without its sign.
                let elapsed = said.get("ps", 0);
                assert!(elapsed == 0.0 || elapsed > 1e9, "{said:?}");
            }
            // Start times are right all the same.
            let started = said.get("started", 0);
            assert!((said.start - 2.0..=said.end).contains(&started), "{said:?}");
        }
    }
}
