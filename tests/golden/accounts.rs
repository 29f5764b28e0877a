//! What the reader of cgroup files makes of unusual trees.

use std::fs;
use std::sync::Arc;

use lxcfs::cgroup::account::{DeviceIo, Swap};
use lxcfs::cgroup::{FdBudget, Layout, Limit, Version};
use lxcfs::parse::cpu_list::CpuSet;

use crate::tree::{Fault, Figures, Tree, copy};

fn cpus(list: &str) -> Option<CpuSet> {
    Some(CpuSet::parse("test", list).unwrap())
}

#[test]
fn every_controller_is_taken_from_where_it_is_mounted() {
    let tree = Tree::fixture("hybrid");
    let layout = tree.layout();
    let versions: Vec<_> = layout.mounts().map(|(version, ..)| version).collect();
    assert_eq!(versions.iter().filter(|v| **v == Version::V2).count(), 1);
    assert_eq!(versions.len(), 5);

    let figures = Figures::read(&tree.cgroup_of(4242));
    let memory = figures.memory.unwrap();
    assert_eq!(memory.limit_bytes, Limit::Value(67_108_864));
    assert_eq!(memory.usage_bytes, 41_943_040);
    assert_eq!(memory.stat.file, Some(20_971_520), "not the line `cache`");
    assert_eq!(
        memory.swap,
        Some(Swap {
            limit_bytes: Limit::Value(157_286_400 - 67_108_864),
            usage_bytes: 4_194_304,
        })
    );
    let cpu = figures.cpu_usage.unwrap();
    assert_eq!(
        (cpu.user_nsec, cpu.system_nsec, cpu.throttled_nsec),
        (3_000_000_000, 1_000_000_000, 250_000_000)
    );
    assert_eq!(cpu.per_cpu_nsec, Some(vec![3_000_000_000, 1_000_000_000]));
    assert_eq!(figures.cpu_limit_millis, Ok(Limit::Value(500)));
    assert_eq!(figures.cpuset, Ok(cpus("0-1")));
    // The unified hierarchy, where the cgroup has another path.
    assert_eq!(
        figures.io,
        Ok(vec![DeviceIo {
            major: 8,
            minor: 0,
            reads: 16,
            read_bytes: 1_048_576,
            writes: 1,
            written_bytes: 4096,
            ..DeviceIo::default()
        }])
    );
    assert_eq!(figures.threads, Ok(vec![4241, 4242]));
}

#[test]
fn what_linux_4_18_does_not_account_is_unknown_not_zero() {
    let figures = Figures::read(&Tree::fixture("v2-linux-4.18").cgroup_of(4242));
    let memory = figures.memory.unwrap();
    assert_eq!(memory.stat.anon, Some(10_485_760));
    assert_eq!(
        (memory.stat.kernel, memory.stat.pagetables, memory.swap),
        (None, None, None)
    );
    let cpu = figures.cpu_usage.unwrap();
    assert_eq!((cpu.user_nsec, cpu.nice_nsec), (3_500_000_000, None));
    assert_eq!(cpu.throttled_nsec, 40_000_000);
    assert_eq!(figures.cpuset, Ok(None));
    assert_eq!(figures.cpu_limit_millis, Ok(Limit::Value(1500)));
}

#[test]
fn limits_are_the_smallest_and_accounts_the_nearest_on_the_way_to_the_root() {
    let figures = Figures::read(&Tree::fixture("v2-nested").cgroup_of(4242));
    let memory = figures.memory.unwrap();
    assert_eq!(memory.limit_bytes, Limit::Value(104_857_600));
    assert_eq!(memory.usage_bytes, 3 * 10_485_760);
    assert_eq!(memory.stat.anon, Some(3 * 4_194_304));
    assert_eq!(
        memory.swap,
        Some(Swap {
            limit_bytes: Limit::Value(20_971_520),
            usage_bytes: 3 * 1_048_576,
        })
    );
    assert_eq!(figures.cpu_limit_millis, Ok(Limit::Value(1500)));
    assert_eq!(figures.cpuset, Ok(cpus("1-3")));
    assert_eq!(figures.io.unwrap()[0].discards, 3);
    // CPU time is accounted in every cgroup: the leaf's own counts.
    assert_eq!(figures.cpu_usage.unwrap().user_nsec, 1_400_000_000);
}

#[test]
fn the_root_cgroup_is_the_machine_and_accounts_nothing_of_its_own() {
    for (fixture, memberships) in [
        ("debian13-v2", "0::/\n"),
        (
            "debian12-v1",
            "7:blkio:/\n4:memory:/\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n0::/\n",
        ),
    ] {
        let cgroup = Tree::fixture(fixture).cgroup(memberships);
        assert_eq!(cgroup.memory(true).unwrap(), None, "{fixture}");
        assert_eq!(cgroup.cpu_usage(true).unwrap(), None, "{fixture}");
        assert_eq!(cgroup.cpu_limit_millis().unwrap(), Limit::Max);
        assert_eq!(cgroup.io().unwrap(), []);
        assert_eq!(cgroup.threads().unwrap(), Vec::<i32>::new());
    }
}

#[test]
fn a_name_may_hold_spaces_colons_and_parentheses() {
    let tree = Tree::copy_of("debian13-v2");
    let slice = tree.root.join("sys/fs/cgroup/system.slice");
    let usual = Figures::read(&tree.cgroup_of(4242));
    for name in ["my app:v1 (test)", ":0::", "a\\x2db) R (", "(deleted)"] {
        fs::rename(slice.join("docker-c0ffee.scope"), slice.join(name)).unwrap();
        for end in ["", " (deleted)"] {
            let cgroup = tree.cgroup(&format!("0::/system.slice/{name}{end}\n"));
            assert_eq!(Figures::read(&cgroup), usual, "{name:?}");
        }
        fs::rename(slice.join(name), slice.join("docker-c0ffee.scope")).unwrap();
    }
}

#[test]
fn a_path_outside_of_the_mount_is_refused() {
    let tree = Tree::fixture("debian13-v2");
    let layout = tree.layout();
    for memberships in ["0::/../other\n", "0::/system.slice/../system.slice\n"] {
        let error = layout.open(&layout.paths(memberships)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("lies outside of what is mounted"),
            "{error}"
        );
    }
}

#[test]
fn a_path_that_is_nowhere_is_no_cgroup() {
    let tree = Tree::fixture("debian13-v2");
    for memberships in ["0::/nowhere\n", "1:memory:/system.slice\n", ""] {
        let figures = Figures::read(&tree.cgroup(memberships));
        assert_eq!(figures.memory, Ok(Default::default()), "{memberships:?}");
        assert_eq!(figures.threads, Ok(Vec::new()), "{memberships:?}");
        assert_eq!(figures.cpu_limit_millis, Ok(Limit::Max), "{memberships:?}");
    }
}

#[test]
fn a_machine_without_cgroups_is_refused() {
    let tree = Tree::fixture("debian13-v2");
    let mountinfo = tree.read("proc/1/mountinfo");
    let budget = Arc::new(FdBudget::new(0));
    let without: String = mountinfo
        .lines()
        .filter(|line| !line.contains("cgroup2"))
        .map(|line| format!("{line}\n"))
        .collect();
    for text in ["", "garbage\n\0\n", &*without] {
        assert!(Layout::detect(text, &tree.root, &budget).is_err());
    }
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(Layout::detect(&mountinfo, elsewhere.path(), &budget).is_err());
}

#[test]
fn threads_are_counted_only_where_nobody_elses_are() {
    let tree = Tree::copy_of("debian12-v1");
    let pids = tree.root.join("sys/fs/cgroup/pids/docker");
    fs::create_dir_all(pids.join("c0ffee")).unwrap();
    fs::write(pids.join("pids.current"), "99\n").unwrap();
    fs::write(pids.join("c0ffee/pids.current"), "4\n").unwrap();
    for (path, count) in [("/docker/c0ffee", Some(4)), ("/docker", None), ("/", None)] {
        let memberships = format!("4:memory:/docker/c0ffee\n8:pids:{path}\n");
        assert_eq!(tree.cgroup(&memberships).thread_count().unwrap(), count);
    }
}

#[test]
fn a_removed_cgroup_is_gone_even_when_another_one_takes_its_name() {
    for (fixture, directories) in [
        ("debian13-v2", &["system.slice/docker-c0ffee.scope"][..]),
        (
            "debian12-v1",
            &[
                "memory/docker/c0ffee",
                "cpu/docker/c0ffee",
                "cpuacct/docker/c0ffee",
                "cpuset/docker/c0ffee",
                "blkio/docker/c0ffee",
            ],
        ),
    ] {
        let tree = Tree::copy_of(fixture);
        let origin = Tree::fixture(fixture).root.join("sys/fs/cgroup");
        let layout = tree.layout_with(&Arc::new(FdBudget::new(0)));
        let paths = layout.paths(&tree.read("proc/4242/cgroup"));
        let old = layout.open(&paths).unwrap();
        assert!(old.is_alive());
        let usual = Figures::read(&old);

        // Moved out of the way: the kernel gives no new cgroup the inode number of an old one, but
        // other file systems do.
        for (number, directory) in directories.iter().enumerate() {
            let directory = tree.root.join("sys/fs/cgroup").join(directory);
            fs::rename(directory, tree.root.join(format!("removed-{number}"))).unwrap();
        }
        let gone = Figures {
            memory: Err(Fault::Gone),
            cpu_usage: Err(Fault::Gone),
            cpu_limit_millis: Err(Fault::Gone),
            cpuset: Err(Fault::Gone),
            io: Err(Fault::Gone),
            threads: Err(Fault::Gone),
            // The v1 machine has no hierarchy of pids.
            thread_count: if fixture == "debian13-v2" {
                Err(Fault::Gone)
            } else {
                Ok(None)
            },
        };
        assert_eq!(Figures::read(&old), gone, "{fixture}");
        assert!(!old.is_alive());

        for directory in directories {
            let directory_again = tree.root.join("sys/fs/cgroup").join(directory);
            fs::create_dir(&directory_again).unwrap();
            copy(&origin.join(directory), &directory_again);
        }
        assert_eq!(Figures::read(&old), gone, "{fixture}");
        assert_eq!(Figures::read(&layout.open(&paths).unwrap()), usual);
    }
}
