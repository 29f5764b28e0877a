//! The content of every virtual file for every reader: collects what the views are made
//! of and has them rendered.

mod cpus;
mod disks;
mod memory;
mod pressure;
mod sources;
mod sys;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;

pub use self::pressure::Stalls;
use self::sources::Sources;
use super::tree::ProcFile;
use crate::cgroup::account::{Memory, Swap};
use crate::cgroup::{FdBudget, Layout};
use crate::container::policy::{Policy, Rule, Uptime};
use crate::container::{Activity, Gone, Journal};
use crate::host::{Host, vantage};
use crate::parse::cpu_list::CpuSet;
use crate::parse::meminfo::MemInfo;
use crate::reader::{Readers, Resolved, Subject};
use crate::sys::clock::boottime_nsec;
use crate::sys::write_watch::WriteWatch;
use crate::view;
use crate::view::swaps::SwapView;

/// All views of all containers.
#[derive(Debug)]
pub struct Views {
    host: Arc<Host>,
    layout: Arc<Layout>,
    kept_fds: Arc<FdBudget>,
    readers: Readers,
    off: AtomicBool,
}

impl Views {
    /// Views of the containers of this machine, whose counters go on where the `journal`
    /// has them. At most `kept_fds` cgroup files are kept open. With a `watch` on writes
    /// readers that come again and again are known at once.
    ///
    /// # Errors
    /// As [`Views::check`].
    pub fn open(
        kept_fds: usize,
        policy: Policy,
        journal: Journal,
        watch: Option<WriteWatch>,
    ) -> io::Result<Self> {
        let kept_fds = Arc::new(FdBudget::new(kept_fds));
        let Sources { host, layout } = Sources::open(&kept_fds)?;
        Ok(Self {
            readers: Readers::new(
                Arc::clone(&host),
                Arc::clone(&layout),
                policy,
                journal,
                watch,
            ),
            host,
            layout,
            kept_fds,
            off: AtomicBool::new(false),
        })
    }

    /// Switches all views off, so that readers get the host's files, or on again. Gives
    /// whether they are on now.
    pub fn toggle(&self) -> bool {
        self.off.fetch_xor(true, Ordering::Relaxed)
    }

    /// Whether readers get the views, and not the host's files.
    #[must_use]
    pub fn are_on(&self) -> bool {
        !self.off.load(Ordering::Relaxed)
    }

    /// The operator's rules that are about no process that runs now, with their numbers. `None`
    /// if that cannot be told until `deadline`.
    #[must_use]
    pub fn unmatched_rules(&self, deadline: Instant) -> Option<Vec<(usize, Rule)>> {
        self.readers.unmatched_rules(deadline)
    }

    /// Has everything that is read from now on follow another policy.
    pub fn set_policy(&self, policy: Policy) {
        self.readers.set_policy(policy);
    }

    /// What readers cannot be shown on this machine or from where this process is, a sentence
    /// for each.
    #[must_use]
    pub fn limits(&self) -> Vec<&'static str> {
        let mut limits = vantage::limits(&self.host.proc);
        limits.extend(self.layout.limits());
        limits
    }

    /// When the host was started.
    #[must_use]
    pub fn host_start(&self) -> SystemTime {
        let since_epoch = Duration::from_secs(self.host.stat().btime_sec.unwrap_or(0));
        SystemTime::UNIX_EPOCH
            .checked_add(since_epoch)
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Brings the load averages up to date, and the journal too; forgets idle readers and
    /// containers that have ended.
    pub fn keep_up(&self) {
        self.readers.let_go();
        for container in self.readers.all() {
            container.keep_up(&self.host);
        }
        self.readers.forget_idle_readers();
    }

    /// Drops what has not been needed for long.
    pub fn clean_up(&self) {
        self.readers.clean_up();
    }

    /// What thread `reader` reads from `file`.
    ///
    /// # Errors
    /// `ESRCH` or `EIO` when its container cannot be told.
    pub fn render(&self, file: ProcFile, reader: i32) -> Result<Arc<[u8]>, Errno> {
        if file == ProcFile::Cpuinfo && self.host.has_cpuinfo_of_linux32(reader) {
            return self.cpuinfo_of_linux32(reader).map(Arc::from);
        }
        if self.off.load(Ordering::Relaxed) {
            return self.host_file(file);
        }
        self.for_container(reader, tells_time(file), |known| {
            let resolved = &*known.resolved;
            if shows_host(file, resolved) {
                return Ok(self.host_file(file));
            }
            // Threads are counted, and the reader is to be one of them.
            let since_nsec = match file {
                ProcFile::Loadavg => known.known_since_nsec(),
                _ => 0,
            };
            let make = || self.render_for(file, known);
            let text = resolved
                .texts
                .get(file as usize, known.now, since_nsec, make);
            text.map(Ok)
        })?
    }

    /// The permissions of the file; `None` if this machine does not have it.
    #[must_use]
    pub fn permissions(&self, file: ProcFile) -> Option<u16> {
        match file {
            ProcFile::Arcstats => self.host.has_arcstats().then_some(file.mode()),
            _ => file.resource().map_or(Some(file.mode()), |resource| {
                self.host.pressure(resource).map(|file| file.permissions)
            }),
        }
    }

    /// The container of thread `reader`.
    ///
    /// # Errors
    /// As [`Views::render`].
    pub fn container(&self, reader: i32) -> Result<Arc<Resolved>, Errno> {
        self.readers
            .identify(reader, true)
            .map(|subject| subject.resolved)
    }

    /// Where thread `reader` seemed to be the last time, as a number for each container.
    /// Good for an order of requests, not for an answer.
    #[must_use]
    pub fn container_seen_last(&self, reader: i32) -> Option<usize> {
        self.readers.seen_last(reader)
    }

    /// Whether there is a file about the cache of ZFS.
    #[must_use]
    pub fn has_arcstats(&self) -> bool {
        self.host.has_arcstats()
    }

    /// Does `work` for the container of `reader`. If its cgroup turns out to have been
    /// removed, the reader is looked up once more. `tells_time` says whether the reader's time
    /// namespace matters.
    fn for_container<T>(
        &self,
        reader: i32,
        tells_time: bool,
        work: impl Fn(&Subject) -> Result<T, Gone>,
    ) -> Result<T, Errno> {
        let known = self.readers.identify(reader, tells_time)?;
        if let Ok(done) = work(&known) {
            return Ok(done);
        }
        self.readers.forget(&known.resolved.container);
        let known = self.readers.identify(reader, tells_time)?;
        work(&known).map_err(|Gone| Errno::ESRCH)
    }

    fn host_file(&self, file: ProcFile) -> Result<Arc<[u8]>, Errno> {
        self.host
            .proc_file(file.path())
            .map(Arc::from)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    fn render_for(&self, file: ProcFile, reader: &Subject) -> Result<Arc<[u8]>, Gone> {
        let mut text = Vec::new();
        self.render_to(file, reader, &mut text)?;
        Ok(text.into())
    }

    fn render_to(&self, file: ProcFile, reader: &Subject, out: &mut Vec<u8>) -> Result<(), Gone> {
        let resolved = &*reader.resolved;
        match file {
            ProcFile::Arcstats => self.arcstats(resolved, out)?,
            ProcFile::Cpuinfo => self.cpuinfo(reader, out)?,
            ProcFile::Meminfo => self.meminfo(resolved, out)?,
            ProcFile::Swaps => self.swaps(resolved, out)?,
            ProcFile::Diskstats => self.diskstats(reader, out)?,
            ProcFile::Loadavg => self.loadavg(reader, out)?,
            ProcFile::Slabinfo => self.slabinfo(resolved, out)?,
            ProcFile::Stat => self.stat(reader, out)?,
            ProcFile::Interrupts => self.interrupts(reader, out)?,
            ProcFile::Softirqs => self.softirqs(reader, out)?,
            ProcFile::Uptime => self.uptime(reader, out)?,
            ProcFile::Vmstat => self.vmstat(resolved, out)?,
            ProcFile::PressureCpu
            | ProcFile::PressureIo
            | ProcFile::PressureIrq
            | ProcFile::PressureMemory => self.pressure(file, resolved, out)?,
        }
        Ok(())
    }

    fn stat(&self, reader: &Subject, out: &mut Vec<u8>) -> Result<(), Gone> {
        let resolved = &*reader.resolved;
        let container = &resolved.container;
        let tasks = container.tasks(&self.host, reader.tid, reader.now)?;
        let last_pid = reader.last_pid(&tasks, &self.host.proc);
        // The host's numbers are far beyond those of others in the container.
        if resolved.has_pid_namespace() {
            container.note_pid(last_pid);
        }
        let activity = self.activity(reader, &self.shown(reader)?)?;
        let host = self.host.stat();
        let input = view::stat::Input {
            cpus: &activity.cpus,
            away: &activity.away,
            interrupts: activity.interrupts,
            interrupt_columns: host.interrupt_columns,
            context_switches: activity.context_switches,
            btime_sec: btime_sec(host.btime_sec.unwrap_or(0), resolved.time_offset_nsec),
            processes: activity.forks.max(last_pid),
            procs_running: tasks.running + 1,
            procs_blocked: tasks.blocked,
            softirqs: &activity.softirqs,
        };
        view::stat::render(&input, out);
        Ok(())
    }

    fn interrupts(&self, reader: &Subject, out: &mut Vec<u8>) -> Result<(), Gone> {
        let shown = self.shown(reader)?;
        let count = self.activity(reader, &shown)?.interrupts;
        view::interrupts::render_interrupts(&self.host.interrupts(), &shown, count, out);
        Ok(())
    }

    fn softirqs(&self, reader: &Subject, out: &mut Vec<u8>) -> Result<(), Gone> {
        let shown = self.shown(reader)?;
        let counts = self.activity(reader, &shown)?.softirqs;
        view::interrupts::render_softirqs(&self.host.softirqs(), &shown, &counts, out);
        Ok(())
    }

    fn uptime(&self, reader: &Subject, out: &mut Vec<u8>) -> Result<(), Gone> {
        let activity = self.activity(reader, &self.shown(reader)?)?;
        view::uptime::render(
            &view::uptime::Input {
                uptime_nsec: uptime_nsec(&reader.resolved),
                idle_nsec: activity.idle_nsec,
            },
            out,
        );
        Ok(())
    }

    fn loadavg(&self, reader: &Subject, out: &mut Vec<u8>) -> Result<(), Gone> {
        let resolved = &*reader.resolved;
        let tasks = resolved
            .container
            .tasks(&self.host, reader.tid, reader.now)?;
        let input = view::loadavg::Input {
            load: &resolved
                .container
                .load(tasks.active(), resolved.started_nsec),
            running: tasks.running + 1,
            total: resolved.container.thread_count(&tasks)?,
            last_pid: reader.last_pid(&tasks, &self.host.proc),
        };
        view::loadavg::render(&input, out);
        Ok(())
    }

    fn activity(&self, reader: &Subject, shown: &CpuSet) -> Result<Activity, Gone> {
        reader.resolved.container.activity(&self.host, shown)
    }

    fn meminfo(&self, resolved: &Resolved, out: &mut Vec<u8>) -> Result<(), Gone> {
        let memory = self.memory(resolved)?;
        let host = self.host.meminfo();
        view::meminfo::render(&memory_input(resolved, &host, &memory), out);
        Ok(())
    }

    fn swaps(&self, resolved: &Resolved, out: &mut Vec<u8>) -> Result<(), Gone> {
        let swap = self.memory(resolved)?.swap;
        let host_total_kb = self.host.meminfo().get("SwapTotal");
        view::swaps::render(&swap_view(resolved, swap, host_total_kb), out);
        Ok(())
    }
}

fn memory_input<'a>(
    resolved: &Resolved,
    host: &'a MemInfo,
    memory: &'a Memory,
) -> view::meminfo::Input<'a> {
    view::meminfo::Input {
        host,
        memory,
        swap: swap_view(resolved, memory.swap, host.get("SwapTotal")),
        hide_zswap: !resolved.options.zswap,
    }
}

fn swap_view(resolved: &Resolved, swap: Option<Swap>, host_total_kb: Option<u64>) -> SwapView {
    SwapView::new(
        host_total_kb.unwrap_or(0),
        swap.filter(|_| resolved.options.swap),
    )
}

/// Since when the uptime counts, in `CLOCK_BOOTTIME`.
fn started_nsec(resolved: &Resolved) -> u64 {
    match resolved.options.uptime {
        Uptime::Container => resolved.started_nsec,
        Uptime::Host => 0,
    }
}

/// The uptime that readers are shown.
fn uptime_nsec(resolved: &Resolved) -> u64 {
    let now_nsec = boottime_nsec();
    match resolved.time_offset_nsec {
        0 => now_nsec.saturating_sub(started_nsec(resolved)),
        offset => now_nsec.saturating_add_signed(offset),
    }
}

/// Whether a file is the host's own: to processes of the host, and where the operator wants
/// it so.
fn shows_host(file: ProcFile, resolved: &Resolved) -> bool {
    let options = &resolved.options;
    options.passthrough
        || (file == ProcFile::Loadavg && !options.loadavg)
        || resolved.container.is_host()
}

/// Whether the reader's time namespace makes a difference to the file.
fn tells_time(file: ProcFile) -> bool {
    matches!(file, ProcFile::Stat | ProcFile::Uptime) || file.resource().is_some()
}

/// The boot time that the kernel itself shows in a time namespace.
fn btime_sec(host_sec: u64, offset_nsec: i64) -> u64 {
    host_sec.saturating_add_signed(offset_nsec.div_euclid(1_000_000_000).saturating_neg())
}
