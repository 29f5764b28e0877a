//! What the command sees: namespaces, limits, views, root.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::common::daemon::{Daemon, binary};
use crate::common::{self, has, skip};
use crate::runner::{WITHOUT_DAEMONS, needs_root, run, sh};

#[test]
fn container_is_a_machine_of_its_own() {
    needs_root!();
    let script = "cut -d: -f3 /proc/self/cgroup | sort -u; hostname; cat /proc/1/comm; \
                  ls -d /proc/[0-9]* | wc -l";
    let text = sh(&[], script).ok();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..3], ["/", "lxcfs-run", "lxcfs"], "{text}");
    assert!(lines[3].parse::<u32>().unwrap() < 10, "{text}");

    for namespace in ["pid", "mnt", "cgroup", "uts", "ipc"] {
        let link = format!("/proc/self/ns/{namespace}");
        let own = run(&[], &["readlink", &link]).ok();
        assert_ne!(own.trim(), fs::read_link(&link).unwrap().to_str().unwrap());
    }
}

#[test]
fn views_lie_over_proc_and_sys() {
    needs_root!();
    let text = run(&["-m", "50m"], &["cat", "/proc/meminfo"]).ok();
    assert!(text.starts_with("MemTotal:          51200 kB\n"), "{text}");
    let mounts = run(&[], &["cat", "/proc/self/mounts"]).ok();
    for path in [
        "/proc/interrupts",
        "/proc/meminfo",
        "/proc/slabinfo",
        "/proc/softirqs",
        "/proc/stat",
        "/proc/vmstat",
        "/sys/devices/system/cpu",
        "/sys/devices/system/node",
        "/proc/pressure",
    ] {
        if !Path::new(path).exists() {
            continue;
        }
        let line = format!("lxcfs {path} fuse.lxcfs ");
        assert!(mounts.contains(&line), "{path}: {mounts}");
    }
}

#[test]
fn a_machine_without_fuse_gets_one_sentence() {
    needs_root!();
    for (device, words) in [
        ("", "cannot open /dev/fuse; load the kernel module fuse"),
        // One that the server finds out about.
        (
            "touch fuse; mount --bind /dev/null fuse",
            "cannot mount on ",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "mount -t tmpfs dev {0}; cd {0}; touch null; mount --bind /dev/null null; {device}
            mount --rbind {0} /dev; cd /; {WITHOUT_DAEMONS}",
            dir.path().display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]);
        command.arg(binary()).args(["run", "--", "true"]);
        let ran = common::run(&mut command);
        assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 1), "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
    }
}

#[test]
fn out_of_memory_kills_are_counted_in_vmstat() {
    needs_root!();
    let script = "head -c 200000000 /dev/zero | tail > /dev/null; grep oom_kill /proc/vmstat; \
                  cd /sys/fs/cgroup; cat memory.events memory/memory.oom_control 2> /dev/null | grep '^oom_kill '";
    let text = sh(&["-m", "20m", "--swap", "0"], script).ok();
    let lines: Vec<_> = text.lines().collect();
    let [shown, counted] = lines[..] else {
        panic!("{text}");
    };
    // A slow kernel may kill another one while the first still ends.
    assert_eq!(shown, counted);
    assert_ne!(shown, "oom_kill 0");
}

#[test]
fn iostat_shows_what_the_container_wrote() {
    needs_root!();
    if !has("iostat") {
        skip!("iostat is not installed");
    }
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = data.path().canonicalize().unwrap().join("data");
    let script = format!(
        "dd if=/dev/zero of={} bs=1M count=16 oflag=direct; cat /proc/diskstats; \
         echo; cat /sys/class/block/*/stat | wc -l; iostat -dk",
        file.display()
    );
    let text = sh(&[], &script).ok();
    let (diskstats, report) = text.split_once("\n\n").unwrap();
    let written_kb = |line: &str| -> Option<(String, u64)> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let sectors: u64 = words.get(9)?.parse().ok()?;
        Some((words.get(2)?.to_string(), sectors / 2))
    };
    let Some((disk, kb)) = diskstats
        .lines()
        .filter_map(written_kb)
        .find(|(_, kb)| *kb > 0)
    else {
        skip!("the kernel does not count this cgroup's I/O");
    };
    // Device, tps, kB_read/s, kB_wrtn/s, kB_dscd/s, kB_read, kB_wrtn, kB_dscd
    let line = report.lines().find(|line| line.starts_with(&disk)).unwrap();
    let shown: u64 = line
        .split_ascii_whitespace()
        .nth(6)
        .unwrap()
        .parse()
        .unwrap();
    assert!((kb..kb + 1024).contains(&shown), "{kb} kB in {text}");
}

#[test]
fn views_of_a_daemon_are_taken() {
    needs_root!();
    let daemon = Daemon::start(&[]);
    let point = daemon.point().to_str().unwrap();
    let script = format!("stat -c %d /proc/meminfo {point}/proc/meminfo");
    let wanted = Command::new(binary())
        .args(["run", "--views", point, "sh", "-c", &script])
        .output();
    let text = String::from_utf8(wanted.unwrap().stdout).unwrap();
    let devices: Vec<_> = text.lines().collect();
    assert_eq!(devices.len(), 2, "{text}");
    assert_eq!(devices[0], devices[1]);
}

/// A FUSE file system of another user, who shows root what they like and answers when they like.
const OF_ANOTHER_USER: &str = r#"
    point=$(mktemp -d)
    exec 9<>/dev/fuse
    mount -i -t fuse.lxcfs -o \
        fd=9,rootmode=40000,user_id=65534,group_id=65534,allow_other,default_permissions lxcfs "$point"
    "$@"
    code=$?
    umount --lazy "$point"
    rmdir "$point"
    exit $code"#;

#[test]
fn another_users_file_system_is_not_taken_for_a_daemon() {
    needs_root!();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", WITHOUT_DAEMONS, "sh"]);
    command.args(["sh", "-ec", OF_ANOTHER_USER, "sh"]);
    command.arg(binary());
    command.args(["run", "-m", "50m", "--", "head", "-n", "1", "/proc/meminfo"]);
    let text = common::run(&mut command).ok();
    assert_eq!(text, "MemTotal:          51200 kB\n");
}

#[test]
fn uptime_of_the_kernel_starts_at_zero() {
    needs_root!();
    if !Path::new("/proc/self/ns/time_for_children").exists() {
        skip!("the kernel has no time namespaces");
    }
    let start = Instant::now();
    let text = sh(&[], "umount /proc/uptime && cat /proc/uptime").ok();
    let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    let most = start.elapsed().as_secs_f64();
    assert!((0.0..=most).contains(&seconds), "{text}");
}

#[test]
fn memory_limit_is_enforced() {
    needs_root!();
    // A line without an end has to be held in memory as a whole.
    let script = "head -c 60000000 /dev/zero | tail -n 1 | wc -c";
    let text = sh(&["-m", "200m"], script).ok();
    assert_eq!(text.trim(), "60000000");
    let ran = sh(&["-m", "20m", "--swap", "0"], script);
    assert_ne!(ran.out.trim(), "60000000", "{ran:?}");
    // Whoever the kernel chooses: the one that holds the line, or all of the container.
    assert!([Some(0), Some(137)].contains(&ran.code), "{ran:?}");
}

#[test]
fn cpu_limit_is_enforced() {
    needs_root!();
    let script = "date +%s.%N; timeout 2 sh -c 'while :; do :; done'; times; date +%s.%N; \
                  cat /sys/fs/cgroup/cpu*/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null; true";
    let text = sh(&["--cpus", "0.2"], script).ok();
    let lines: Vec<_> = text.lines().collect();
    // The second line of `times` is of the children: user and system time as `0m0.4s`.
    let seconds: f64 = lines[2].split(['m', 's']).nth(1).unwrap().parse().unwrap();
    let at = |line: usize| lines[line].parse::<f64>().unwrap();
    // A fifth of the time is allowed, and one more period at either end.
    let most = 0.2 * (at(3) - at(0)) + 0.3;
    assert!((0.02..most).contains(&seconds), "{text}");
    let throttled = text
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled "));
    assert!(throttled.unwrap().parse::<u64>().unwrap() > 0, "{text}");
}

#[test]
fn cpuset_is_applied() {
    needs_root!();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.contains("Cpus_allowed_list:\t0-") {
        skip!("needs CPUs 0 and 1");
    }
    let text = run(&["--cpuset", "1"], &["cat", "/proc/self/status"]).ok();
    assert!(text.contains("\nCpus_allowed_list:\t1\n"), "{text}");
}

#[test]
fn runs_nest() {
    needs_root!();
    if !Path::new("/sys/fs/cgroup/memory").is_dir() {
        // A v2 cgroup with processes in it cannot give its children controllers.
        skip!("needs cgroup v1");
    }
    let binary = binary();
    let lxcfs = binary.to_str().unwrap();
    let inner = [lxcfs, "run", "-m", "50m", "head", "-n1", "/proc/meminfo"];
    let text = run(&["-m", "100m"], &inner).ok();
    assert_eq!(text, "MemTotal:          51200 kB\n");
}

#[test]
fn rootfs_becomes_the_root_and_is_let_go() {
    needs_root!();
    let rootfs = tempfile::tempdir().unwrap();
    let bin = rootfs.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let works = fs::copy("/bin/busybox", bin.join("busybox")).is_ok()
        && Command::new("chroot")
            .arg(rootfs.path())
            .args(["/bin/busybox", "true"])
            .status()
            .is_ok_and(|status| status.success());
    if !works {
        skip!("needs busybox-static");
    }
    let path = rootfs.path().to_str().unwrap();
    let script = "set -e; b=/bin/busybox; $b head -n1 /proc/meminfo; $b ls /; \
                  echo x > /dev/null; $b ls /dev/pts/ptmx; \
                  $b ls -d /sys/devices/system/cpu; $b pwd";
    let shell = ["/bin/busybox", "sh", "-c", script];
    let text = run(&["-m", "50m", "--rootfs", path], &shell).ok();
    let expected = "MemTotal:          51200 kB\nbin\ndev\nproc\nsys\n/dev/pts/ptmx\n\
                    /sys/devices/system/cpu\n/\n";
    assert_eq!(text, expected);

    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(path), "{mounts}");
    let ran = run(&["--rootfs", path], &["no-such-command"]);
    assert_eq!(ran.code, Some(127));
}

/// As a rescue system or a build has it, with what is mounted shared with the host.
const IN_CHROOT: &str = r#"
    set -e
    mount --make-rshared /
    for dir in usr proc sys dev; do
        mkdir "$1/$dir"
        mount --rbind "/$dir" "$1/$dir"
    done
    for dir in bin lib lib64; do
        ln -s "usr/$dir" "$1/$dir"
    done
    mkdir "$1/run" "$1/tmp" "$1/root" "$1/root/bin"
    cp "$2" "$1/lxcfs"
    cp /bin/busybox "$1/root/bin"
    wc -l < /proc/self/mountinfo > "$1/before"
    chroot "$1" sh -ec 'cd /usr/bin; /lxcfs run -m 50m -- sh -c "head -n 1 /proc/meminfo; pwd; ls -d env"'
    chroot "$1" /lxcfs run -m 50m --rootfs /root -- /bin/busybox head -n 1 /proc/meminfo
    chroot "$1" /lxcfs prepare /tmp/views
    wc -l < /proc/self/mountinfo | diff - "$1/before""#;

#[test]
fn works_in_a_chroot_whose_root_is_no_mount_point() {
    needs_root!();
    if !Path::new("/bin/busybox").exists() {
        skip!("needs busybox-static");
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "set -- sh -c '{}' sh \"$@\"\n{WITHOUT_DAEMONS}",
        IN_CHROOT.replace('\'', r"'\''")
    );
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(dir.path())
        .arg(binary());
    let text = crate::common::run(&mut command).ok();
    let total = "MemTotal:          51200 kB\n";
    assert_eq!(text, format!("{total}/usr/bin\nenv\n{total}"));
}
