//! The content of every virtual file for every reader: collects what the views are made
//! of and has them rendered.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::unistd::getpid;

use super::tree::ProcFile;
use crate::cgroup::{Controller, FdBudget, Layout};
use crate::container::{Container, Containers, CpuView, Gone, Resolved, TICK_NSEC, Tasks};
use crate::host::process::Namespace;
use crate::host::{Host, boottime_nsec};
use crate::parse::cpu_list::CpuSet;
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
    own_time_namespace: Option<u64>,
}

impl Views {
    /// Views of the containers of this machine. At most `kept_fds` cgroup files are kept
    /// open.
    ///
    /// # Errors
    /// One sentence about the file of the kernel's that is missing.
    pub fn open(kept_fds: usize, options: Options) -> io::Result<Self> {
        let root = Path::new("/");
        let host = Arc::new(Host::open(root)?);
        let mountinfo = host.proc.read(getpid().as_raw(), "mountinfo")?;
        let layout = Layout::detect(&mountinfo, root, &Arc::new(FdBudget::new(kept_fds)))?;
        Ok(Self {
            own_time_namespace: host.proc.namespace(getpid().as_raw(), Namespace::Time),
            containers: Containers::new(Arc::clone(&host), Arc::new(layout)),
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

    /// Brings the load averages up to date.
    pub fn keep_loads(&self) {
        for container in self.containers.all() {
            container.keep_load(&self.host);
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
    pub fn render(&self, file: ProcFile, reader: i32) -> Result<Vec<u8>, Errno> {
        if self.off.load(Ordering::Relaxed) {
            return self.host_file(file);
        }
        self.for_container(reader, |resolved| {
            if accounted_by(file)
                .is_some_and(|controller| resolved.container.is_host_for(controller))
            {
                return Ok(self.host_file(file));
            }
            let mut out = Vec::with_capacity(4096);
            self.render_for(file, resolved, reader, &mut out)
                .map(|()| Ok(out))
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

    fn host_file(&self, file: ProcFile) -> Result<Vec<u8>, Errno> {
        self.host
            .proc_file(file.name())
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    fn render_for(
        &self,
        file: ProcFile,
        resolved: &Resolved,
        reader: i32,
        out: &mut Vec<u8>,
    ) -> Result<(), Gone> {
        let container = &*resolved.container;
        match file {
            ProcFile::Cpuinfo => {
                view::cpuinfo::render(&self.host.cpuinfo(), &self.shown(container)?, out);
            }
            ProcFile::Meminfo => self.meminfo(container, out)?,
            ProcFile::Swaps => self.swaps(container, out)?,
            ProcFile::Diskstats => self.diskstats(resolved, reader, out)?,
            ProcFile::Loadavg => self.loadavg(resolved, reader, out)?,
            ProcFile::Stat => self.stat(container, reader, out)?,
            ProcFile::Uptime => self.uptime(resolved, reader, out)?,
        }
        Ok(())
    }

    fn stat(&self, container: &Container, reader: i32, out: &mut Vec<u8>) -> Result<(), Gone> {
        let activity = container.activity(&self.host, &self.shown(container)?)?;
        let tasks = container.tasks(&self.host, reader)?;
        let host = self.host.stat();
        let input = view::stat::Input {
            cpus: &activity.cpus,
            ticks_per_sec: 1_000_000_000 / TICK_NSEC,
            interrupts: activity.interrupts,
            interrupt_columns: host.interrupt_columns,
            context_switches: activity.context_switches,
            btime_sec: self.btime_sec(host.btime_sec.unwrap_or(0), reader),
            processes: activity.forks,
            last_pid: self.last_pid(&tasks, reader),
            procs_running: tasks.running + 1,
            procs_blocked: tasks.blocked,
            softirqs: &activity.softirqs,
        };
        view::stat::render(&input, out);
        Ok(())
    }

    fn uptime(&self, resolved: &Resolved, reader: i32, out: &mut Vec<u8>) -> Result<(), Gone> {
        let container = &*resolved.container;
        let activity = container.activity(&self.host, &self.shown(container)?)?;
        let now_nsec = boottime_nsec();
        let uptime_nsec = match self.time_offset_nsec(reader) {
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

    /// What the reader's time namespace adds to the time since boot; 0 without one.
    fn time_offset_nsec(&self, reader: i32) -> i64 {
        let proc = &self.host.proc;
        if proc.namespace(reader, Namespace::Time) == self.own_time_namespace {
            return 0;
        }
        proc.boottime_offset_nsec(reader)
    }

    /// The boot time that the kernel itself shows to the reader.
    fn btime_sec(&self, host_sec: u64, reader: i32) -> u64 {
        let offset_sec = self.time_offset_nsec(reader).div_euclid(1_000_000_000);
        host_sec.saturating_add_signed(offset_sec.saturating_neg())
    }

    /// The newest pid that is to be seen from the reader's pid namespace.
    fn last_pid(&self, tasks: &Tasks, reader: i32) -> u64 {
        let pids =
            [reader, tasks.newest].map(|thread| self.host.proc.innermost_pid(thread).unwrap_or(0));
        pids.into_iter()
            .max()
            .and_then(|pid| u64::try_from(pid).ok())
            .unwrap_or(0)
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
