//! The content of every virtual file for every reader: collects what the views are made
//! of and has them rendered.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::unistd::getpid;

use super::tree::ProcFile;
use crate::cgroup::{Controller, FdBudget, Layout};
use crate::container::{Container, Containers, CpuView, Gone, Journal, Resolved, TICK_NSEC, Tasks};
use crate::host::{Host, boottime_nsec};
use crate::parse::cpu_list::CpuSet;
use crate::sys::write_watch::WriteWatch;
use crate::view;
use crate::view::swaps::SwapView;

/// Choices of the operator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Which CPUs containers are shown.
    pub cpu_view: CpuView,
    /// Whether uptime counts from the host's boot instead of the container's start.
    pub host_uptime: bool,
    /// Whether no swap is shown.
    pub disable_swap: bool,
    /// Whether no zswap is shown.
    pub disable_zswap: bool,
}

/// All views of all containers.
#[derive(Debug)]
pub struct Views {
    host: Arc<Host>,
    containers: Containers,
    options: Options,
    off: AtomicBool,
}

impl Views {
    /// Views of the containers of this machine, whose counters go on where the `journal`
    /// has them. At most `kept_fds` cgroup files are kept open. With a `watch` on writes
    /// readers that come again and again are known at once.
    ///
    /// # Errors
    /// One sentence about the file of the kernel's that is missing.
    pub fn open(
        kept_fds: usize,
        options: Options,
        journal: Journal,
        watch: Option<WriteWatch>,
    ) -> io::Result<Self> {
        let root = Path::new("/");
        let host = Arc::new(Host::open(root)?);
        let mountinfo = host.proc.read(getpid().as_raw(), "mountinfo")?;
        let layout = Layout::detect(&mountinfo, root, &Arc::new(FdBudget::new(kept_fds)))?;
        Ok(Self {
            containers: Containers::new(Arc::clone(&host), Arc::new(layout), journal, watch),
            host,
            options,
            off: AtomicBool::new(false),
        })
    }

    /// Switches all views off, so that readers get the host's files, or on again. Gives
    /// whether they are on now.
    pub fn toggle(&self) -> bool {
        self.off.fetch_xor(true, Ordering::Relaxed)
    }

    /// When the host was started.
    #[must_use]
    pub fn host_start(&self) -> SystemTime {
        let since_epoch = Duration::from_secs(self.host.stat().btime_sec.unwrap_or(0));
        SystemTime::UNIX_EPOCH
            .checked_add(since_epoch)
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Brings the load averages up to date, and the journal too.
    pub fn keep_up(&self) {
        for container in self.containers.all() {
            container.keep_up(&self.host);
        }
    }

    /// Drops what is known of containers that have ended.
    pub fn clean_up(&self) {
        self.containers.clean_up();
    }

    /// What thread `reader` reads from `file`.
    ///
    /// # Errors
    /// `ESRCH` or `EIO` when its container cannot be told.
    pub fn render(&self, file: ProcFile, reader: i32) -> Result<Arc<[u8]>, Errno> {
        if self.off.load(Ordering::Relaxed) {
            return self.host_file(file);
        }
        self.for_container(reader, |resolved| {
            if accounted_by(file)
                .is_some_and(|controller| resolved.container.is_host_for(controller))
            {
                return Ok(self.host_file(file));
            }
            let make = || self.render_for(file, resolved, reader);
            match file {
                // Each reader is one more thread, or one less.
                ProcFile::Loadavg => make().map(Arc::from),
                _ => resolved.recent.get(file as usize, make),
            }
            .map(Ok)
        })?
    }

    /// The container of thread `reader`.
    ///
    /// # Errors
    /// As [`Views::render`].
    pub fn container(&self, reader: i32) -> Result<Arc<Resolved>, Errno> {
        self.containers.resolve(reader)
    }

    /// The CPUs that thread `reader` is shown; `None` for all there are.
    ///
    /// # Errors
    /// As [`Views::render`].
    pub fn cpus_shown(&self, reader: i32) -> Result<Option<CpuSet>, Errno> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.for_container(reader, |resolved| self.shown(&resolved.container).map(Some))
    }

    /// Does `work` for the container of `reader`. If its cgroup turns out to have been
    /// removed, the reader is looked up once more.
    fn for_container<T>(
        &self,
        reader: i32,
        work: impl Fn(&Resolved) -> Result<T, Gone>,
    ) -> Result<T, Errno> {
        let resolved = self.containers.resolve(reader)?;
        if let Ok(done) = work(&resolved) {
            return Ok(done);
        }
        self.containers.forget(&resolved.container);
        let resolved = self.containers.resolve(reader)?;
        work(&resolved).map_err(|Gone| Errno::ESRCH)
    }

    fn host_file(&self, file: ProcFile) -> Result<Arc<[u8]>, Errno> {
        self.host
            .proc_file(file.name())
            .map(Arc::from)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    fn render_for(
        &self,
        file: ProcFile,
        resolved: &Resolved,
        reader: i32,
    ) -> Result<Vec<u8>, Gone> {
        let mut text = Vec::with_capacity(4096);
        let out = &mut text;
        let container = &*resolved.container;
        match file {
            ProcFile::Cpuinfo => {
                view::cpuinfo::render(&self.host.cpuinfo(), &self.shown(container)?, out);
            }
            ProcFile::Meminfo => self.meminfo(container, out)?,
            ProcFile::Swaps => self.swaps(container, out)?,
            ProcFile::Diskstats => self.diskstats(resolved, reader, out)?,
            ProcFile::Loadavg => self.loadavg(resolved, reader, out)?,
            ProcFile::Stat => self.stat(resolved, reader, out)?,
            ProcFile::Uptime => self.uptime(resolved, out)?,
        }
        Ok(text)
    }

    fn stat(&self, resolved: &Resolved, reader: i32, out: &mut Vec<u8>) -> Result<(), Gone> {
        let container = &*resolved.container;
        let activity = container.activity(&self.host, &self.shown(container)?)?;
        let tasks = container.tasks(&self.host, reader)?;
        let host = self.host.stat();
        let input = view::stat::Input {
            cpus: &activity.cpus,
            ticks_per_sec: 1_000_000_000 / TICK_NSEC,
            interrupts: activity.interrupts,
            interrupt_columns: host.interrupt_columns,
            context_switches: activity.context_switches,
            btime_sec: btime_sec(host.btime_sec.unwrap_or(0), resolved.time_offset_nsec),
            processes: activity.forks,
            last_pid: self.last_pid(&tasks, reader),
            procs_running: tasks.running + 1,
            procs_blocked: tasks.blocked,
            softirqs: &activity.softirqs,
        };
        view::stat::render(&input, out);
        Ok(())
    }

    fn uptime(&self, resolved: &Resolved, out: &mut Vec<u8>) -> Result<(), Gone> {
        let container = &*resolved.container;
        let activity = container.activity(&self.host, &self.shown(container)?)?;
        let now_nsec = boottime_nsec();
        let uptime_nsec = match resolved.time_offset_nsec {
            0 => now_nsec.saturating_sub(self.started_nsec(resolved)),
            offset => now_nsec.saturating_add_signed(offset),
        };
        view::uptime::render(
            &view::uptime::Input {
                uptime_nsec,
                idle_nsec: activity.idle_nsec,
            },
            out,
        );
        Ok(())
    }

    fn loadavg(&self, resolved: &Resolved, reader: i32, out: &mut Vec<u8>) -> Result<(), Gone> {
        let tasks = resolved.container.tasks(&self.host, reader)?;
        let input = view::loadavg::Input {
            load: &resolved
                .container
                .load(tasks.active(), resolved.started_nsec),
            running: tasks.running + 1,
            total: tasks.total,
            last_pid: self.last_pid(&tasks, reader),
        };
        view::loadavg::render(&input, out);
        Ok(())
    }

    fn diskstats(&self, resolved: &Resolved, reader: i32, out: &mut Vec<u8>) -> Result<(), Gone> {
        let host = self.host.diskstats();
        let age_nsec = boottime_nsec().saturating_sub(self.started_nsec(resolved));
        let input = view::diskstats::Input {
            host: &host,
            disks: &resolved.container.disks(&host, age_nsec)?,
            backing: &resolved.container.backing_disks(&self.host, reader),
        };
        view::diskstats::render(&input, out);
        Ok(())
    }

    fn started_nsec(&self, resolved: &Resolved) -> u64 {
        if self.options.host_uptime {
            0
        } else {
            resolved.started_nsec
        }
    }

    /// The newest pid in the reader's pid namespace. A thread that is about to enter the
    /// container, or in a namespace beside the reader's, has none there.
    fn last_pid(&self, tasks: &Tasks, reader: i32) -> u64 {
        let own = self.host.proc.pids_by_namespace(reader);
        let newest = self.host.proc.pids_by_namespace(tasks.newest);
        let level = own.len().saturating_sub(1);
        let newest = newest.get(level).or(own.last()).copied().unwrap_or(0);
        u64::try_from(newest.max(own.last().copied().unwrap_or(0))).unwrap_or(0)
    }

    fn shown(&self, container: &Container) -> Result<CpuSet, Gone> {
        container.cpus_shown(&self.host, self.options.cpu_view)
    }

    fn meminfo(&self, container: &Container, out: &mut Vec<u8>) -> Result<(), Gone> {
        let memory = container.memory(&self.host)?;
        let host = self.host.meminfo();
        let input = view::meminfo::Input {
            host: &host,
            memory: &memory,
            swap: self.swap_view(memory.swap, host.get("SwapTotal")),
            hide_zswap: self.options.disable_zswap,
        };
        view::meminfo::render(&input, out);
        Ok(())
    }

    fn swaps(&self, container: &Container, out: &mut Vec<u8>) -> Result<(), Gone> {
        let memory = container.memory(&self.host)?;
        view::swaps::render(
            &self.swap_view(memory.swap, self.host.meminfo().get("SwapTotal")),
            out,
        );
        Ok(())
    }

    fn swap_view(
        &self,
        swap: Option<crate::cgroup::account::Swap>,
        host_total_kb: Option<u64>,
    ) -> SwapView {
        SwapView::new(
            host_total_kb.unwrap_or(0),
            swap.filter(|_| !self.options.disable_swap),
        )
    }
}

/// The controller whose accounting the file is made of; none for a list of CPUs.
fn accounted_by(file: ProcFile) -> Option<Controller> {
    match file {
        ProcFile::Cpuinfo => None,
        ProcFile::Diskstats => Some(Controller::Blkio),
        ProcFile::Meminfo | ProcFile::Swaps => Some(Controller::Memory),
        ProcFile::Loadavg | ProcFile::Stat | ProcFile::Uptime => Some(Controller::Cpuacct),
    }
}

/// The boot time that the kernel itself shows in a time namespace.
fn btime_sec(host_sec: u64, offset_nsec: i64) -> u64 {
    host_sec.saturating_add_signed(offset_nsec.div_euclid(1_000_000_000).saturating_neg())
}
