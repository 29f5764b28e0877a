//! Programs that size by the kernel's CPUs what the kernel fills for each of them: in a container they do with the
//! views what they do without them.

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::path::Path;
use std::{env, fs, mem};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::common::figures::cpu_list;
use crate::common::{Cell, Daemon, Limits, beside_others, has, patience, report, run_within, skip};

/// Set for this program as a process of a container.
const ROLE: &str = "LXCFS_TEST_ABI";

const CPU_TREE: &str = "sys/devices/system/cpu";
const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
const URCU: &CStr = c"liburcu.so.8";

/// One value for each possible CPU.
const BPFTOOL: &str = "mount -t bpf bpf /mnt; \
    bpftool map create /mnt/counts type percpu_array key 4 value 8 entries 2 name counts; \
    bpftool -j map dump pinned /mnt/counts";
/// The greatest of one value for each possible CPU, set on the last one. The end does not hang on an event, since those
/// are taken from the CPUs that are online only.
const BPFTRACE: &str =
    "taskset -c $LAST bpftrace -c '/bin/sleep 0.2' -e 'BEGIN { @counted = max(7); }' < /dev/null";

/// What programs print in the container, with the daemon's views or without.
fn printed(cell: &Cell, views: Option<&Daemon>, script: &str) -> String {
    let bind = |daemon: &Daemon| {
        let bind = |path: &str| format!("mount --bind {} /{path}; ", daemon.arg(path));
        ["proc/cpuinfo", "proc/stat", CPU_TREE].map(bind).concat()
    };
    let script = views.map(bind).unwrap_or_default() + script;
    let mut command = cell.command(&["unshare", "--mount", "sh", "-ec", &script]);
    let last = cell.cgroup.cpuset().last().expect("a CPU").to_string();
    run_within(command.env(ROLE, "yes").env("LAST", last), patience(60)).ok()
}

/// This program as a process of the container.
fn own_script() -> String {
    let program = env::current_exe().expect("this program");
    let test = "abi::programs_that_size_by_the_kernels_cpus_find_them_all";
    format!("{} --exact {test} --nocapture", program.display())
}

fn configured() -> usize {
    let count = sysconf(SysconfVar::_NPROCESSORS_CONF).expect("the number of CPUs");
    count.expect("a number of CPUs") as usize
}

fn allowed() -> Vec<usize> {
    let mask = sched_getaffinity(Pid::from_raw(0)).expect("an affinity");
    let is_set = |cpu: &usize| mask.is_set(*cpu).unwrap_or(false);
    (0..CpuSet::count()).filter(is_set).collect()
}

/// What the kernel says to a mask for as many CPUs as there seem to be, the way .NET asks.
fn mask_of_configured() -> bool {
    let words = configured().div_ceil(c_ulong::BITS as usize);
    let mut mask: Vec<c_ulong> = vec![0; words];
    let bytes = mem::size_of_val(mask.as_slice());
    // SAFETY: the kernel writes at most so many bytes into the mask.
    unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, bytes, mask.as_mut_ptr()) > 0 }
}

/// CPUs on which a thread finds itself beyond those that there seem to be, the way users of restartable sequences
/// index by the CPU.
fn cpus_beyond_configured() -> Vec<usize> {
    let own = sched_getaffinity(Pid::from_raw(0)).expect("an affinity");
    let runs_beyond = |cpu: &usize| {
        let mut one = CpuSet::new();
        one.set(*cpu).expect("a CPU");
        sched_setaffinity(Pid::from_raw(0), &one).expect("an affinity for one CPU");
        sched_getcpu().expect("a CPU") >= configured()
    };
    let beyond = allowed().into_iter().filter(runs_beyond).collect();
    sched_setaffinity(Pid::from_raw(0), &own).expect("the affinity from before");
    beyond
}

/// For which of its CPUs the process has a worker of liburcu's, where that is installed.
fn urcu_workers() -> Option<Vec<bool>> {
    type Create = unsafe extern "C" fn(c_ulong) -> c_int;
    type Get = unsafe extern "C" fn(c_int) -> *mut c_void;
    let symbol = |name: &CStr| {
        // SAFETY: loading the library runs its constructors only, and it stays loaded.
        let found = unsafe {
            let library = libc::dlopen(URCU.as_ptr(), libc::RTLD_NOW);
            libc::dlsym(library, name.as_ptr().cast::<c_char>())
        };
        Some(found).filter(|found| !found.is_null())
    };
    let create = symbol(c"urcu_memb_create_all_cpu_call_rcu_data")?;
    let get = symbol(c"urcu_memb_get_cpu_call_rcu_data")?;
    // SAFETY: these are the types that urcu-call-rcu.h declares.
    let (create, get) = unsafe {
        (
            mem::transmute::<*mut c_void, Create>(create),
            mem::transmute::<*mut c_void, Get>(get),
        )
    };
    // SAFETY: both take any number.
    unsafe {
        create(0);
        Some(
            allowed()
                .into_iter()
                .map(|cpu| !get(cpu as c_int).is_null())
                .collect(),
        )
    }
}

fn print_from_inside() {
    println!("abi: {} CPUs configured", configured());
    println!(
        "abi: a mask of that size is taken: {}",
        mask_of_configured()
    );
    println!("abi: CPUs beyond: {:?}", cpus_beyond_configured());
    println!("abi: liburcu has workers: {:?}", urcu_workers());
}

/// jemalloc has an arena for each CPU only where it knows all of them.
fn check_jemalloc(printed: &str, highest_allowed: u32) {
    let value = |key: &str| {
        let mut lines = printed.lines();
        let value = lines.find_map(|line| line.trim().strip_prefix(key));
        value.expect("one of jemalloc's options").trim()
    };
    let arenas: u32 = value("opt.narenas:").parse().expect("a number of arenas");
    let by_cpu = value("opt.percpu_arena:") != "\"disabled\"";
    assert!(!by_cpu || arenas > highest_allowed, "{arenas} arenas");
}

#[test]
fn programs_that_size_by_the_kernels_cpus_find_them_all() {
    if env::var_os(ROLE).is_some() {
        return print_from_inside();
    }
    let online = cpu_list(&fs::read_to_string(format!("/{CPU_TREE}/online")).expect("CPUs"));
    let last = online.last().expect("a CPU").to_string();
    if online.len() < 2 {
        skip!("this machine has one CPU");
    }
    let _turn = beside_others();
    let daemon = Daemon::start(&[]);
    let quota = Limits {
        cpus: Some(1.0),
        ..Limits::default()
    };
    let cpuset = Limits {
        cpuset: Some(&last),
        ..Limits::default()
    };
    for limits in [quota, cpuset] {
        let cell = Cell::start(&limits);
        let compare = |script: &str, is_told: fn(&&str) -> bool| {
            let told = |views| {
                let printed = printed(&cell, views, script);
                let lines: Vec<&str> = printed.lines().filter(is_told).collect();
                assert!(!lines.is_empty(), "{script} printed {printed:?}");
                lines.join("\n")
            };
            assert_eq!(told(Some(&daemon)), told(None), "{script} with {limits:?}");
        };
        compare(&own_script(), |line| line.starts_with("abi: "));
        for (program, script) in [("bpftool", BPFTOOL), ("bpftrace", BPFTRACE)] {
            if has(program) {
                compare(script, |line| {
                    line.contains("value") || line.contains("@counted")
                });
            } else {
                report(&format!("{program} is not installed"));
            }
        }
        if Path::new(JEMALLOC).exists() {
            let options = "MALLOC_CONF=percpu_arena:percpu,stats_print:true";
            let script = format!("env {options} LD_PRELOAD={JEMALLOC} true 2>&1");
            let highest = cell.cgroup.cpuset().last().copied().expect("a CPU");
            check_jemalloc(&printed(&cell, Some(&daemon), &script), highest);
        } else {
            report("jemalloc is not installed");
        }
    }
}
