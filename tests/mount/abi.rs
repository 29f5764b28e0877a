//! Programs that size by the kernel's CPUs what the kernel fills for each of them: in a container they do with the
//! views what they do without them.

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::path::Path;
use std::{env, fs, mem};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::common::figures::cpu_list;
use crate::common::{Cell, Daemon, Limits, beside_others, has, patience, run_within, skip};

/// Set for this program as a process of a container.
const ROLE: &str = "LXCFS_TEST_ABI";

const CPU_TREE: &str = "sys/devices/system/cpu";
const URCU: &CStr = c"liburcu.so.8";

/// One value for each possible CPU.
const BPFTOOL: &str = "mount -t bpf bpf /mnt; \
    bpftool map create /mnt/counts type percpu_array key 4 value 8 entries 2 name counts; \
    bpftool -j map dump pinned /mnt/counts";
/// The greatest of one value for each possible CPU, set on the last one. The end does not hang on an event, since those
/// are taken from the CPUs that are online only.
const BPFTRACE: &str =
    "taskset -c $LAST bpftrace -c '/bin/sleep 0.2' -e 'BEGIN { @counted = max(7); }' < /dev/null";

/// A container with a quota, or one with a cpuset, and the daemon beside it.
struct Place {
    daemon: Daemon,
    cell: Cell,
    limits: String,
}

impl Place {
    fn each(check: impl Fn(&Self)) {
        let online = cpu_list(&fs::read_to_string(format!("/{CPU_TREE}/online")).expect("CPUs"));
        let last = online.last().expect("a CPU").to_string();
        let quota = Limits {
            cpus: Some(1.0),
            ..Limits::default()
        };
        let cpuset = Limits {
            cpuset: Some(&last),
            ..Limits::default()
        };
        for limits in [quota, cpuset] {
            check(&Self {
                daemon: Daemon::start(&[]),
                cell: Cell::start(&limits),
                limits: format!("{limits:?}"),
            });
        }
    }

    /// What programs print in the container, with the daemon's views or without.
    fn printed(&self, with_views: bool, script: &str) -> String {
        let bind = |path: &str| format!("mount --bind {} /{path}; ", self.daemon.arg(path));
        let views = || ["proc/cpuinfo", "proc/stat", CPU_TREE].map(bind).concat();
        let script = with_views.then(views).unwrap_or_default() + script;
        let mut command = self
            .cell
            .command(&["unshare", "--mount", "sh", "-ec", &script]);
        let last = self.highest_allowed().to_string();
        run_within(command.env(ROLE, "yes").env("LAST", last), patience(60)).ok()
    }

    fn highest_allowed(&self) -> u32 {
        let cpus = self.cell.cgroup.cpuset();
        *cpus.last().expect("a CPU")
    }

    /// That lines with this word are the same with the views as without.
    fn compare(&self, script: &str, word: &str) {
        let told = |with_views| {
            let printed = self.printed(with_views, script);
            let lines = printed.lines().filter(|line| line.contains(word));
            let lines: Vec<&str> = lines.collect();
            assert!(!lines.is_empty(), "{script} printed {printed:?}");
            lines.join("\n")
        };
        assert_eq!(told(true), told(false), "{script} with {}", self.limits);
    }
}

/// A test of this program as a process of the container.
fn own_script(test: &str) -> String {
    let program = env::current_exe().expect("this program");
    format!("{} --exact abi::{test} --nocapture", program.display())
}

fn is_in_container() -> bool {
    env::var_os(ROLE).is_some()
}

fn has_one_cpu() -> bool {
    let online = fs::read_to_string(format!("/{CPU_TREE}/online")).expect("CPUs");
    cpu_list(&online).len() < 2
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

type Create = unsafe extern "C" fn(c_ulong) -> c_int;
type Get = unsafe extern "C" fn(c_int) -> *mut c_void;

/// Two functions of liburcu's, where that is installed.
fn urcu_functions() -> Option<(Create, Get)> {
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
    unsafe {
        Some((
            mem::transmute::<*mut c_void, Create>(create),
            mem::transmute::<*mut c_void, Get>(get),
        ))
    }
}

/// For which of its CPUs the process has a worker of liburcu's.
fn urcu_workers() -> Vec<bool> {
    let (create, get) = urcu_functions().expect("liburcu");
    // SAFETY: both take any number.
    unsafe {
        create(0);
        let cpus = allowed().into_iter();
        cpus.map(|cpu| !get(cpu as c_int).is_null()).collect()
    }
}

#[test]
fn programs_that_size_by_the_kernels_cpus_find_them_all() {
    if is_in_container() {
        let is_taken = mask_of_configured();
        println!("abi: {} CPUs configured", configured());
        println!("abi: a mask of that size is taken: {is_taken}");
        println!("abi: CPUs beyond: {:?}", cpus_beyond_configured());
        return;
    }
    if has_one_cpu() {
        skip!("this machine has one CPU");
    }
    let _turn = beside_others();
    let script = own_script("programs_that_size_by_the_kernels_cpus_find_them_all");
    Place::each(|place| place.compare(&script, "abi: "));
}

#[test]
fn liburcu_has_a_worker_for_each_cpu() {
    if is_in_container() {
        println!("abi: liburcu has workers: {:?}", urcu_workers());
        return;
    }
    if has_one_cpu() {
        skip!("this machine has one CPU");
    }
    if urcu_functions().is_none() {
        skip!("liburcu is not installed");
    }
    let _turn = beside_others();
    let script = own_script("liburcu_has_a_worker_for_each_cpu");
    Place::each(|place| place.compare(&script, "abi: liburcu"));
}

#[test]
fn bpftool_gets_a_value_for_each_cpu() {
    if has_one_cpu() {
        skip!("this machine has one CPU");
    }
    if !has("bpftool") {
        skip!("bpftool is not installed");
    }
    let _turn = beside_others();
    Place::each(|place| place.compare(BPFTOOL, "value"));
}

#[test]
fn bpftrace_finds_what_was_counted_on_the_last_cpu() {
    if has_one_cpu() {
        skip!("this machine has one CPU");
    }
    if !has("bpftrace") {
        skip!("bpftrace is not installed");
    }
    let _turn = beside_others();
    Place::each(|place| place.compare(BPFTRACE, "@counted"));
}

/// It does so only where it knows all of them.
#[test]
fn jemalloc_has_an_arena_for_each_cpu_or_shares_them() {
    if has_one_cpu() {
        skip!("this machine has one CPU");
    }
    let library = format!("/usr/lib/{}-linux-gnu/libjemalloc.so.2", env::consts::ARCH);
    if !Path::new(&library).exists() {
        skip!("jemalloc is not installed");
    }
    let _turn = beside_others();
    let options = "MALLOC_CONF=percpu_arena:percpu,stats_print:true";
    let script = format!("env {options} LD_PRELOAD={library} true 2>&1");
    Place::each(|place| {
        let printed = place.printed(true, &script);
        let value = |key: &str| {
            let mut lines = printed.lines();
            let value = lines.find_map(|line| line.trim().strip_prefix(key));
            value.expect("one of jemalloc's options").trim()
        };
        let arenas: u32 = value("opt.narenas:").parse().expect("a number of arenas");
        let by_cpu = value("opt.percpu_arena:") != "\"disabled\"";
        let highest = place.highest_allowed();
        assert!(
            !by_cpu || arenas > highest,
            "{arenas} arenas, {}",
            place.limits
        );
    });
}
