//! Files behave as the kernel's own procfs files do.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use crate::common::daemon::mounted_at;
use crate::common::{Cell, Daemon, Limits, beside_others, has, run, skip};

const SEVEN_FILES: [&str; 7] = [
    "meminfo",
    "cpuinfo",
    "stat",
    "uptime",
    "swaps",
    "diskstats",
    "loadavg",
];

const ONLINE: &str = "sys/devices/system/cpu/online";

#[test]
fn type_source_and_options_are_those_engines_and_df_know() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let mount = mounted_at(daemon.point()).expect("a mount");
    assert_eq!(
        (mount.kind.as_str(), mount.source.as_str()),
        ("fuse.lxcfs", "lxcfs")
    );
    for option in [
        "rw",
        "nosuid",
        "nodev",
        "noexec",
        "allow_other",
        "default_permissions",
    ] {
        assert!(
            mount.options.iter().any(|have| have == option),
            "no {option} in {:?}",
            mount.options
        );
    }
}

#[test]
fn every_file_has_size_0_mode_0444_and_owner_root() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    for file in SEVEN_FILES {
        let stat = fs::metadata(daemon.path("proc").join(file))
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let got = (
            stat.mode(),
            stat.len(),
            stat.uid(),
            stat.gid(),
            stat.nlink(),
        );
        assert_eq!(got, (0o100_444, 0, 0, 0, 1), "{file}");
        assert!(
            !daemon.read(&format!("proc/{file}")).is_empty(),
            "{file} is empty"
        );
    }
}

#[test]
fn reads_of_any_size_give_one_snapshot() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    for file in SEVEN_FILES {
        let path = daemon.path("proc").join(file);
        for size in [1, 7, 512, 4096, 131_072] {
            let mut open = File::open(&path).expect("opening");
            let mut text = Vec::new();
            let mut buffer = vec![0; size];
            loop {
                match open.read(&mut buffer).expect("reading") {
                    0 => break,
                    count => text.extend_from_slice(&buffer[..count]),
                }
            }
            let text = String::from_utf8(text).expect("text");
            assert!(
                text.ends_with('\n'),
                "{file} by {size} bytes is cut: {text:?}"
            );
            let whole = fs::read_to_string(&path).expect("reading");
            let words = |text: &str| {
                text.lines()
                    .filter_map(|l| l.split_whitespace().next().map(str::to_owned))
                    .count()
            };
            assert_eq!(words(&text), words(&whole), "{file} by {size} bytes");
        }
    }
}

#[test]
fn a_handle_keeps_its_snapshot_until_it_is_rewound() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let mut open = File::open(daemon.path("proc/uptime")).expect("opening");
    let mut first = [0; 4];
    open.read_exact(&mut first).expect("reading");
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let mut rest = String::new();
    open.read_to_string(&mut rest).expect("reading on");
    open.rewind().expect("rewinding");
    let mut later = String::new();
    open.read_to_string(&mut later).expect("reading again");
    let seconds = |text: &str| text.split('.').next().unwrap().parse::<f64>().unwrap();
    let earlier = format!("{}{rest}", String::from_utf8_lossy(&first));
    let passed = seconds(&later) - seconds(&earlier);
    assert!((1.0..5.0).contains(&passed), "{earlier:?} then {later:?}");
}

#[test]
fn the_first_read_may_be_behind_the_start() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    for file in SEVEN_FILES.into_iter().filter(|file| *file != "swaps") {
        let open = File::open(daemon.path("proc").join(file)).expect("opening");
        let mut buffer = [0; 64];
        let count = open
            .read_at(&mut buffer, 3)
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(count > 0, "{file}: nothing at offset 3");
        let past = open
            .read_at(&mut buffer, 10_000_000)
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(past, 0, "{file}: data past the end");
    }
}

#[test]
fn sendfile_finds_content_as_busybox_cat_needs() {
    let _turn = beside_others();
    if !has("busybox") {
        skip!("busybox is not installed");
    }
    let daemon = Daemon::start(&[]);
    for file in SEVEN_FILES
        .map(|file| format!("proc/{file}"))
        .into_iter()
        .chain([ONLINE.to_owned()])
    {
        let read = run(Command::new("busybox").arg("cat").arg(daemon.path(&file))).ok();
        assert!(read.ends_with('\n'), "{file}: {read:?}");
    }
}

#[test]
fn sendfile_in_two_containers_gives_each_its_own_figures() {
    let _turn = beside_others();
    if !has("busybox") {
        skip!("busybox is not installed");
    }
    let daemon = Daemon::start(&[]);
    let path = daemon.arg("proc/meminfo");
    std::thread::scope(|scope| {
        for mib in [40_u64, 80] {
            let path = &path;
            scope.spawn(move || {
                let cell = Cell::start(&Limits {
                    memory_bytes: Some(mib << 20),
                    ..Limits::default()
                });
                // Both at the same time: what the kernel keeps of one's pages must not be what the other gets.
                let script = format!(
                    "n=0; while [ $n -lt 300 ]; do n=$((n+1)); line=$(busybox cat {path} | head -n1)
                     case $line in *' {} kB') ;; *) echo \"$line\"; exit 3;; esac; done",
                    mib << 10
                );
                cell.run(&["sh", "-c", &script]).ok();
            });
        }
    });
}

#[test]
fn nobody_may_write_or_change_anything() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let refused =
        |error: std::io::Error| matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
    for below in [
        "proc/meminfo",
        "proc/stat",
        "sys/devices/system/cpu/online",
        "sys/devices/system/cpu/uevent",
    ] {
        let path = daemon.path(below);
        for options in [
            OpenOptions::new().write(true),
            OpenOptions::new().read(true).write(true),
        ] {
            let error = options
                .open(&path)
                .err()
                .unwrap_or_else(|| panic!("root may open {below} for writing"));
            assert!(refused(error), "{below}");
        }
        assert!(
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).is_err_and(refused),
            "chmod {below}"
        );
        assert!(fs::remove_file(&path).is_err_and(refused), "unlink {below}");
        let as_nobody = format!("exec 3>> '{}'", path.display());
        let nobody = [
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "sh",
            "-c",
            &as_nobody,
        ];
        assert!(
            !run(Command::new("setpriv").args(nobody)).succeeded(),
            "uid 65534 may open {below} for writing"
        );
    }
    assert!(
        File::create(daemon.path("proc/new")).is_err_and(refused),
        "create"
    );
    assert!(
        fs::create_dir(daemon.path("proc/new")).is_err_and(refused),
        "mkdir"
    );
}

#[test]
fn eight_readers_at_once_all_get_whole_files() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let read_all = || {
        for round in 0..100 {
            let file = SEVEN_FILES[round % SEVEN_FILES.len()];
            let text = daemon.read(&format!("proc/{file}"));
            assert!(text.ends_with('\n'), "{file}: {text:?}");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(read_all);
        }
    });
}

#[test]
fn a_container_with_a_limit_sees_it_and_the_host_does_not() {
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let cell = Cell::start(&Limits {
        memory_bytes: Some(64 << 20),
        ..Limits::default()
    });
    assert!(
        cell.read(&daemon, "proc/meminfo")
            .starts_with("MemTotal:          65536 kB\n")
    );
    let host = fs::read_to_string("/proc/meminfo").expect("meminfo");
    if Cell::start(&Limits::default())
        .cgroup
        .memory_limit_bytes()
        .is_none()
    {
        let unlimited = Cell::start(&Limits::default()).read(&daemon, "proc/meminfo");
        assert_eq!(unlimited.lines().next(), host.lines().next());
    }
}
