//! Every file of a cgroup in turn is not what the kernel documents: the figure that is made
//! of it is refused or has a defined value, and no other figure changes.

use std::fs;
use std::path::PathBuf;

use lxcfs::cgroup::Limit;
use lxcfs::cgroup::account::{Memory, MemoryStat};

use crate::tree::{Fault, Figures, Tree};

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    Empty,
    Garbage,
    Max,
    Huge,
    Binary,
    /// Reading it fails.
    Directory,
    Missing,
}

const ALL: [Bad; 7] = [
    Bad::Empty,
    Bad::Garbage,
    Bad::Max,
    Bad::Huge,
    Bad::Binary,
    Bad::Directory,
    Bad::Missing,
];

impl Bad {
    fn put(self, path: &PathBuf) {
        fs::remove_file(path).unwrap();
        match self {
            Self::Empty => fs::write(path, "").unwrap(),
            Self::Garbage => fs::write(path, "garbage, not figures\n: =\n\n 1 2 x\n").unwrap(),
            Self::Max => fs::write(path, "max\n").unwrap(),
            Self::Huge => fs::write(path, "99999999999999999999\n").unwrap(),
            Self::Binary => fs::write(path, b"\xff\xfe\0\x80 1\n\0\0").unwrap(),
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::Missing => {}
        }
    }

    /// How a reader that needs the file fails.
    fn fault<T>(self, file: &'static str) -> Result<T, Fault> {
        Err(match self {
            Self::Directory => Fault::Io(file),
            _ => Fault::Parse(file),
        })
    }
}

/// Writes files below `sys/fs/cgroup`.
fn write(tree: &Tree, files: &[(&str, &str)]) {
    for (path, content) in files {
        fs::write(tree.root.join("sys/fs/cgroup").join(path), content).unwrap();
    }
}

/// Reads the cgroup of 4242 with each kind of badness in each file. `expected` gets the
/// figures of the good cgroup and of its parent.
fn check(
    tree: &Tree,
    above: &str,
    files: &[(&str, &'static str)],
    expected: impl Fn(&'static str, Bad, Figures, Figures) -> Figures,
) {
    let good = Figures::read(&tree.cgroup_of(4242));
    let above = Figures::read(&tree.cgroup(above));
    for (directory, file) in files {
        let path = tree.root.join("sys/fs/cgroup").join(directory).join(file);
        let content = fs::read(&path).unwrap();
        for bad in ALL {
            bad.put(&path);
            let found = Figures::read(&tree.cgroup_of(4242));
            let expected = expected(file, bad, good.clone(), above.clone());
            assert_eq!(found, expected, "{file}: {bad:?}");
            match bad {
                Bad::Directory => fs::remove_dir(&path).unwrap(),
                Bad::Missing => {}
                _ => fs::remove_file(&path).unwrap(),
            }
            fs::write(&path, &content).unwrap();
        }
        assert_eq!(Figures::read(&tree.cgroup_of(4242)), good);
    }
}

/// Without `memory.stat` nothing is known but the sum.
fn no_stat(memory: &mut Memory) {
    memory.stat = MemoryStat::default();
}

#[test]
fn bad_files_of_cgroup_v2() {
    const SCOPE: &str = "system.slice/docker-c0ffee.scope";
    let files = [
        "memory.max",
        "memory.current",
        "memory.stat",
        "memory.swap.max",
        "memory.swap.current",
        "hugetlb.2MB.max",
        "hugetlb.2MB.current",
        "cpu.max",
        "cpu.stat",
        "cpuset.cpus.effective",
        "io.stat",
        "cgroup.threads",
        "pids.current",
    ];
    let files = files.map(|file| (SCOPE, file));
    let tree = Tree::copy_of("debian13-v2");
    write(
        &tree,
        &[
            (&format!("{SCOPE}/hugetlb.2MB.max"), "8388608\n"),
            (&format!("{SCOPE}/hugetlb.2MB.current"), "2097152\n"),
            (&format!("{SCOPE}/pids.current"), "7\n"),
            ("system.slice/hugetlb.2MB.max", "16777216\n"),
            ("system.slice/hugetlb.2MB.current", "4194304\n"),
            ("system.slice/memory.swap.current", "33554432\n"),
        ],
    );
    check(&tree, "0::/system.slice\n", &files, v2);
}

fn v2(file: &'static str, bad: Bad, good: Figures, above: Figures) -> Figures {
    let parent = above.memory.unwrap();
    match (file, bad) {
        // A limit that is missing, or larger than any, does not limit this level.
        ("memory.max", Bad::Missing | Bad::Max | Bad::Huge) => {
            good.with_memory(|memory| memory.limit_bytes = Limit::Max)
        }
        ("memory.swap.max", Bad::Missing | Bad::Max | Bad::Huge) => good.with_memory(|memory| {
            memory.swap.as_mut().unwrap().limit_bytes = Limit::Max;
        }),
        ("hugetlb.2MB.max", Bad::Missing | Bad::Max | Bad::Huge) => good.with_memory(|memory| {
            memory.hugetlb[0].limit_bytes = parent.hugetlb[0].limit_bytes;
        }),
        ("cpu.max", Bad::Missing) => Figures {
            cpu_limit_millis: Ok(Limit::Max),
            ..good
        },
        // An account that is missing is the parent's.
        ("memory.current", Bad::Missing) => {
            good.with_memory(|memory| memory.usage_bytes = parent.usage_bytes)
        }
        ("memory.swap.current", Bad::Missing) => good.with_memory(|memory| {
            memory.swap.as_mut().unwrap().usage_bytes = parent.swap.unwrap().usage_bytes;
        }),
        ("memory.stat", Bad::Missing) => good.with_memory(|memory| memory.stat = parent.stat),
        ("hugetlb.2MB.current", Bad::Missing) => good.with_memory(|memory| {
            memory.hugetlb[0].usage_bytes = parent.hugetlb[0].usage_bytes;
        }),
        ("cpu.stat", Bad::Missing) => Figures {
            cpu_usage: above.cpu_usage,
            ..good
        },
        ("io.stat", Bad::Missing) => Figures {
            io: above.io,
            ..good
        },
        // As is the CPU set, which may be empty.
        ("cpuset.cpus.effective", Bad::Missing | Bad::Empty) => Figures {
            cpuset: above.cpuset,
            ..good
        },
        // Lines that cannot be read are left out.
        ("memory.stat", bad) if bad != Bad::Directory => good.with_memory(no_stat),
        ("io.stat", bad) if bad != Bad::Directory => Figures {
            io: Ok(Vec::new()),
            ..good
        },
        ("cgroup.threads", bad) if bad != Bad::Directory => Figures {
            threads: Ok(Vec::new()),
            ..good
        },
        ("cpu.max", bad) => Figures {
            cpu_limit_millis: bad.fault(file),
            ..good
        },
        ("cpu.stat", bad) => Figures {
            cpu_usage: bad.fault(file),
            ..good
        },
        ("cpuset.cpus.effective", bad) => Figures {
            cpuset: bad.fault(file),
            ..good
        },
        ("io.stat", bad) => Figures {
            io: bad.fault(file),
            ..good
        },
        ("cgroup.threads", bad) => Figures {
            threads: bad.fault(file),
            ..good
        },
        // Without the controller the list of threads is all that is known.
        ("pids.current", Bad::Missing) => Figures {
            thread_count: Ok(None),
            ..good
        },
        ("pids.current", bad) => Figures {
            thread_count: bad.fault(file),
            ..good
        },
        (_, bad) => Figures {
            memory: bad.fault(file),
            ..good
        },
    }
}

#[test]
fn bad_files_of_cgroup_v1() {
    let files = [
        ("memory/docker/c0ffee", "memory.limit_in_bytes"),
        ("memory/docker/c0ffee", "memory.usage_in_bytes"),
        ("memory/docker/c0ffee", "memory.stat"),
        ("memory/docker/c0ffee", "memory.memsw.limit_in_bytes"),
        ("memory/docker/c0ffee", "memory.memsw.usage_in_bytes"),
        ("cpu/docker/c0ffee", "cpu.cfs_quota_us"),
        ("cpu/docker/c0ffee", "cpu.cfs_period_us"),
        ("cpu/docker/c0ffee", "cpu.stat"),
        ("cpuacct/docker/c0ffee", "cpuacct.usage_percpu"),
        ("cpuacct/docker/c0ffee", "cpuacct.stat"),
        ("cpuset/docker/c0ffee", "cpuset.effective_cpus"),
        (
            "blkio/docker/c0ffee",
            "blkio.throttle.io_serviced_recursive",
        ),
        (
            "blkio/docker/c0ffee",
            "blkio.throttle.io_service_bytes_recursive",
        ),
    ];
    let above = "7:blkio:/docker\n4:memory:/docker\n3:cpuset:/docker\n2:cpuacct:/docker\n1:cpu:/docker\n0::/\n";
    let tree = Tree::copy_of("debian12-v1");
    // The parent of the only cgroup that did anything has the same figures.
    write(
        &tree,
        &[
            ("memory/docker/memory.usage_in_bytes", "20000768\n"),
            (
                "memory/docker/memory.stat",
                "total_cache 40960\ntotal_swap 0\n",
            ),
            ("cpu/docker/cpu.stat", "throttled_time 5\n"),
            (
                "cpuacct/docker/cpuacct.usage_percpu",
                "5000000000 7000000000 \n",
            ),
            ("cpuacct/docker/cpuacct.stat", "user 50\nsystem 30\n"),
            (
                "blkio/docker/blkio.throttle.io_serviced_recursive",
                "254:0 Read 100\n254:0 Write 200\n",
            ),
            (
                "blkio/docker/blkio.throttle.io_service_bytes_recursive",
                "254:0 Read 409600\n254:0 Write 819200\n",
            ),
        ],
    );
    // Then each file speaks for itself.
    let stat = "memory/docker/c0ffee/memory.stat";
    let text = tree.read(&format!("sys/fs/cgroup/{stat}"));
    let is_limit = |line: &&str| line.starts_with("hierarchical_");
    let without_limits: String = text
        .lines()
        .filter(|line| !is_limit(line))
        .map(|line| format!("{line}\n"))
        .collect();
    write(&tree, &[(stat, &without_limits)]);
    check(&tree, above, &files, v1);
}

#[test]
fn bad_limits_of_cgroup_v1_do_no_harm_while_memory_stat_has_them() {
    let directory = "memory/docker/c0ffee";
    let files = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
    let tree = Tree::copy_of("debian12-v1");
    check(
        &tree,
        "4:memory:/docker\n0::/\n",
        &files.map(|file| (directory, file)),
        |_, _, good, _| good,
    );
}

fn v1(file: &'static str, bad: Bad, good: Figures, above: Figures) -> Figures {
    let parent = above.memory.unwrap();
    let parent_cpu = above.cpu_usage.unwrap();
    let used_nsec = 1_240_609_224;
    match (file, bad) {
        // Without a memory limit all of memsw may be swap.
        ("memory.limit_in_bytes", Bad::Missing | Bad::Max | Bad::Huge) => {
            good.with_memory(|memory| {
                memory.limit_bytes = Limit::Max;
                memory.swap.as_mut().unwrap().limit_bytes = Limit::Value(104_857_600);
            })
        }
        ("memory.memsw.limit_in_bytes", Bad::Missing | Bad::Max | Bad::Huge) => {
            good.with_memory(|memory| memory.swap.as_mut().unwrap().limit_bytes = Limit::Max)
        }
        ("cpu.cfs_quota_us" | "cpu.cfs_period_us", Bad::Missing) => Figures {
            cpu_limit_millis: Ok(Limit::Max),
            ..good
        },
        ("memory.usage_in_bytes", Bad::Missing) => {
            good.with_memory(|memory| memory.usage_bytes = parent.usage_bytes)
        }
        // Whether swap is accounted is all that this file tells while `total_swap` is there.
        ("memory.memsw.usage_in_bytes", Bad::Missing) => good,
        ("memory.stat", Bad::Missing) => good.with_memory(|memory| memory.stat = parent.stat),
        ("memory.stat", bad) if bad != Bad::Directory => good.with_memory(no_stat),
        ("cpu.stat", Bad::Missing) => {
            good.with_cpu(|cpu| cpu.throttled_nsec = parent_cpu.throttled_nsec)
        }
        ("cpu.stat", bad) if bad != Bad::Directory => good.with_cpu(|cpu| cpu.throttled_nsec = 0),
        ("cpuacct.usage_percpu", Bad::Missing) => good.with_cpu(|cpu| {
            let per_cpu_nsec = parent_cpu.per_cpu_nsec.unwrap();
            cpu.system_nsec = 200_000_000;
            cpu.user_nsec = per_cpu_nsec.iter().sum::<u64>() - cpu.system_nsec;
            cpu.per_cpu_nsec = Some(per_cpu_nsec);
        }),
        // Use that cannot be told apart counts as user time.
        ("cpuacct.stat", bad) if !matches!(bad, Bad::Directory | Bad::Missing) => {
            good.with_cpu(|cpu| (cpu.user_nsec, cpu.system_nsec) = (used_nsec, 0))
        }
        ("cpuacct.stat", Bad::Missing) => good.with_cpu(|cpu| {
            let system_nsec = parent_cpu.system_nsec;
            (cpu.user_nsec, cpu.system_nsec) = (used_nsec - system_nsec, system_nsec);
        }),
        ("cpuset.effective_cpus", Bad::Missing | Bad::Empty) => Figures {
            cpuset: above.cpuset,
            ..good
        },
        ("blkio.throttle.io_serviced_recursive", bad) if bad != Bad::Directory => Figures {
            io: good.io.map(|mut io| {
                (io[0].reads, io[0].writes) = match bad {
                    Bad::Missing => (100, 200),
                    _ => (0, 0),
                };
                io
            }),
            ..good
        },
        ("blkio.throttle.io_service_bytes_recursive", bad) if bad != Bad::Directory => Figures {
            io: good.io.map(|mut io| {
                (io[0].read_bytes, io[0].written_bytes) = match bad {
                    Bad::Missing => (409_600, 819_200),
                    _ => (0, 0),
                };
                io
            }),
            ..good
        },
        ("cpu.cfs_quota_us" | "cpu.cfs_period_us", bad) => Figures {
            cpu_limit_millis: bad.fault(file),
            ..good
        },
        ("cpu.stat" | "cpuacct.usage_percpu" | "cpuacct.stat", bad) => Figures {
            cpu_usage: bad.fault(file),
            ..good
        },
        ("cpuset.effective_cpus", bad) => Figures {
            cpuset: bad.fault(file),
            ..good
        },
        (file, bad) if file.starts_with("blkio") => Figures {
            io: bad.fault(file),
            ..good
        },
        (_, bad) => Figures {
            memory: bad.fault(file),
            ..good
        },
    }
}

#[test]
fn a_kernel_without_recursive_blkio_files_has_the_others() {
    let tree = Tree::copy_of("debian12-v1");
    for directory in ["", "docker/", "docker/c0ffee/"] {
        for file in ["io_serviced", "io_service_bytes"] {
            let name = format!("sys/fs/cgroup/blkio/{directory}blkio.throttle.{file}_recursive");
            fs::remove_file(tree.root.join(name)).unwrap();
        }
    }
    write(
        &tree,
        &[(
            "blkio/docker/c0ffee/blkio.throttle.io_serviced",
            "254:0 Read 7\n254:0 Write 8\n",
        )],
    );
    let io = tree.cgroup_of(4242).io().unwrap();
    assert_eq!(
        (io[0].reads, io[0].writes, io[0].read_bytes),
        (7, 8, 4_247_552)
    );
}

#[test]
fn a_bad_limit_of_an_ancestor_is_refused_too() {
    let tree = Tree::copy_of("debian13-v2");
    let slice = tree.root.join("sys/fs/cgroup/system.slice");
    for file in ["memory.max", "cpu.max"] {
        fs::write(slice.join(file), "garbage\n").unwrap();
    }
    let figures = Figures::read(&tree.cgroup_of(4242));
    assert_eq!(figures.memory, Err(Fault::Parse("memory.max")));
    assert_eq!(figures.cpu_limit_millis, Err(Fault::Parse("cpu.max")));
}

#[test]
fn a_quota_beyond_all_numbers_is_none() {
    let tree = Tree::copy_of("debian13-v2");
    let scope = tree
        .root
        .join("sys/fs/cgroup/system.slice/docker-c0ffee.scope");
    for (content, limit) in [
        ("99999999999999999999 100000\n", Ok(Limit::Max)),
        ("1 18446744073709551615\n", Ok(Limit::Value(1))),
        ("100000 0\n", Ok(Limit::Max)),
        (
            "100000 99999999999999999999\n",
            Err(Fault::Parse("cpu.max")),
        ),
    ] {
        fs::write(scope.join("cpu.max"), content).unwrap();
        let figures = Figures::read(&tree.cgroup_of(4242));
        assert_eq!(figures.cpu_limit_millis, limit, "{content:?}");
    }
}

#[test]
fn a_kept_file_is_read_anew_each_time() {
    let tree = Tree::copy_of("debian13-v2");
    let scope = tree
        .root
        .join("sys/fs/cgroup/system.slice/docker-c0ffee.scope");
    let cgroup = tree.cgroup_of(4242);
    for usage_bytes in [1_u64, 123_456_789, 0] {
        fs::write(scope.join("memory.current"), format!("{usage_bytes}\n")).unwrap();
        let memory = cgroup.memory(false).unwrap().unwrap();
        assert_eq!(memory.usage_bytes, usage_bytes);
    }
}
