//! The server: answers requests on fds that the holder hands to it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::installed::THIS;
use super::pin::{self, Place};
use super::settings::Settings;
use crate::cli::DaemonArgs;
use crate::container::Journal;
use crate::container::load::PERIOD_NSEC;
use crate::fs::{Death, Ledger, LxcFs, Pins, Polls, SysTree, TriggerFiles, Views};
use crate::ops;
use crate::ops::status::Facts;
use crate::session::control::{self, Control, Order, Sign};
use crate::session::held::Held;
use crate::session::mount::Mount;
use crate::session::{CONTROL, server};
use crate::sys::write_watch::WriteWatch;
use crate::sys::{exec, process};

/// Housekeeping rounds from one clean-up to the next.
const ROUNDS_PER_CLEAN_UP: u32 = 6;

/// How often the server reads one of its own files, unless the watchdog is more impatient.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// The same after a failure.
const CHECK_AGAIN: Duration = Duration::from_secs(1);

/// A server that has answered a request so lately is well.
const LIVELY: Duration = Duration::from_millis(500);

/// How long a server may take until all of its threads rest.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A process that the kernel may end to get memory, though only after all others of the
/// host; the holder is not to be ended at all (proc_pid_oom_score_adj(5)).
const OOM_SCORE: &str = "-900";

/// Serves until the holder has it end or the file system is unmounted.
///
/// # Errors
/// One sentence about what stands in the way of serving.
pub fn run(args: &DaemonArgs) -> anyhow::Result<ExitCode> {
    let mut inherited = exec::inherited().context("cannot take over the fds of the holder")?;
    let control = inherited
        .iter()
        .position(|named| named.name == CONTROL)
        .map(|index| Control::of_server(inherited.swap_remove(index).fd));
    let (Some(control), Some(mountpoint)) = (control, &args.mountpoint) else {
        bail!("this command is for lxcfs itself; start it without `serve`")
    };
    let held = Held::adopt(inherited)
        .context("cannot take over the connection")?
        .context("the connection has ended")?;
    let pid = std::process::id();
    spare_the_holder();
    let journal = Journal::resume(held.journal.try_clone()?.into());
    let writes = held.writes.as_ref().and_then(|fd| fd.try_clone().ok());
    let settings = Settings::new(args, held.config.try_clone()?);
    // The rest of the fd table is for namespaces and what requests open for a moment.
    let views = Arc::new(
        Views::open(
            raise_fd_limit() / 8 * 5,
            settings.policy_at_start(),
            journal,
            writes.map(WriteWatch::from),
        )
        .context("cannot read the host's figures")?,
    );
    for limit in views.limits() {
        log::warn!("{limit}");
    }
    let sys = SysTree::open(Path::new("/sys")).context("cannot open /sys")?;
    // Readers that are not interrupted put several requests before a thread wakes up.
    if let Err(errno) = process::interrupt_nobody() {
        log::debug!("cannot change the scheduling policy: {errno}");
    }
    let fds = held
        .serving_fds(server::thread_count())
        .context("cannot open further fds of the FUSE connection")?;

    let Order::Start {
        before,
        mut views_off,
    } = control.next_order(pid)?
    else {
        return Ok(ExitCode::SUCCESS);
    };
    if views_off {
        views.toggle();
    }
    settings.note(views_off, held.minor);
    let death = match before {
        control::Death::InOrder => Death::Ended,
        control::Death::Killed => Death::Killed,
        control::Death::Crashed => Death::Crashed,
    };
    let ledger =
        Ledger::resume(&held.ledger, death).context("cannot use the memory of open files")?;
    let facts = Facts {
        resends_interrupted: held.resends_interrupted(),
    };
    let terms = held.terms.try_clone()?;
    let refused = terms.polls_are_refused();
    let files = TriggerFiles {
        polls: Polls::new(args.enable_psi_poll, refused, move || {
            terms.note_refused_polls()
        }),
        parking: held.parking.try_clone()?,
        events: held.events.try_clone()?,
    };
    let pins = Arc::new(Pins::resume(held.pin_list.try_clone()?));
    let filesystem = LxcFs::new(Arc::clone(&views), sys, ledger, files, Arc::clone(&pins));
    // Before the first answer: a holder that has not heard this takes the server for one
    // that cannot serve.
    control.sign(Sign::Serves, pid)?;
    held.resend().context("cannot go on with the connection")?;
    let can_resend = held.can_resend();
    let connect = |notifier| filesystem.connect(notifier, held.connection, can_resend);
    let threads = server::serve(&filesystem, &fds, connect).context("cannot start serving")?;
    drop(fds);
    let control = Arc::new(control);
    let place = Place {
        mountpoint: mountpoint.clone(),
        minor: held.minor,
    };
    pin::keep(pins, held.pins.try_clone()?, place)?;
    let interval = (super::daemon::patience(&held.terms) / 4).min(CHECK_INTERVAL);
    check_regularly(
        filesystem.clone(),
        mountpoint.clone(),
        held.minor,
        interval,
        Arc::clone(&control),
    )?;
    watch(threads, Arc::clone(&control))?;
    keep_house(Arc::clone(&views))?;
    answer_operators(&args.runtime_dir, Arc::clone(&views), facts)?;
    loop {
        match control.next_order(pid)? {
            Order::Toggle => {
                views.toggle();
                views_off = !views_off;
                settings.note(views_off, held.minor);
            }
            Order::Reload => match settings.policy() {
                Ok(policy) => {
                    views.set_policy(policy);
                    log::info!("read {} again", settings.path().display());
                }
                Err(error) => log::error!("{error}; what was read before stays in force"),
            },
            Order::Drain => return drain(&filesystem, mountpoint),
            Order::Start { .. } => {}
        }
    }
}

/// Answers what has been read already and ends, so that the next server finds nothing half
/// done.
fn drain(filesystem: &LxcFs, mountpoint: &Path) -> anyhow::Result<ExitCode> {
    filesystem.drain();
    let mut nudge = None;
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    while !filesystem.rests(server::thread_count(), Duration::from_millis(20)) {
        if Instant::now() >= deadline {
            bail!("some requests could not be answered in time");
        }
        // A thread that waits for a request only notices when it gets one.
        if nudge.is_none() {
            nudge = Some(
                reader(THIS.as_ref(), mountpoint)
                    .stderr(Stdio::null())
                    .spawn()?,
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The holder is the last process to be ended when memory runs out, this one the last but
/// one: it would be started again.
fn spare_the_holder() {
    const FILE: &str = "/proc/self/oom_score_adj";
    let inherited = std::fs::read_to_string(FILE).unwrap_or_default();
    if inherited.trim() == "-1000" {
        if let Err(error) = std::fs::write(FILE, OOM_SCORE) {
            log::debug!("cannot write {FILE}: {error}");
        }
    }
}

/// Allows as many open files as the system lets this process have.
fn raise_fd_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Reads one of the files, in a process of its own: if this one were killed while it waits
/// for itself, the wait would keep its fds open, and the connection alive, for ever.
pub(super) fn reader(program: &Path, mountpoint: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("answers")
        .arg(mountpoint.join("proc/uptime"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Tells the holder again and again that the files are answered. One that answers others has too
/// much to do, and another server would not do better.
fn check_regularly(
    filesystem: LxcFs,
    mountpoint: PathBuf,
    minor: u32,
    interval: Duration,
    control: Arc<Control>,
) -> anyhow::Result<()> {
    let work = move || {
        loop {
            // What is not mounted there cannot be read from there; containers may go on.
            let answers = Mount::is_at(&mountpoint, minor).then(|| answers(&mountpoint, interval));
            match answers {
                None | Some(Ok(())) => {
                    let _ = control.sign(Sign::Answers, std::process::id());
                    thread::sleep(interval);
                }
                Some(Err(error)) if filesystem.has_answered_within(LIVELY) => {
                    log::warn!("the mounted files are answered slowly: {error:#}");
                    let _ = control.sign(Sign::Answers, std::process::id());
                    thread::sleep(interval);
                }
                Some(Err(error)) => {
                    log::error!("the mounted files do not answer: {error:#}");
                    thread::sleep(interval.min(CHECK_AGAIN));
                }
            }
        }
    };
    spawn("check", work)
}

/// Whether one of the files can be read within this time.
fn answers(mountpoint: &Path, timeout: Duration) -> anyhow::Result<()> {
    let mut child = reader(THIS.as_ref(), mountpoint)
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the check")?;
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            let said = child.wait_with_output()?.stderr;
            let said = String::from_utf8_lossy(&said);
            bail!("{}", said.trim().trim_start_matches("lxcfs: "));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            bail!("no answer in {timeout:?}");
        }
        thread::sleep(pause);
        pause = (pause * 2).min(CHECK_AGAIN);
    }
}

/// Tells the holder when the serving threads end, which they do when the connection ends.
fn watch(threads: Vec<thread::JoinHandle<()>>, control: Arc<Control>) -> anyhow::Result<()> {
    spawn("watch", move || {
        for thread in threads {
            let _ = thread.join();
        }
        let _ = control.sign(Sign::Disconnected, std::process::id());
    })
}

/// Keeps load averages up to date and drops what is known of ended containers.
fn keep_house(views: Arc<Views>) -> anyhow::Result<()> {
    spawn("housekeeping", move || {
        for round in 1_u32.. {
            thread::sleep(Duration::from_nanos(PERIOD_NSEC));
            views.keep_up();
            if round % ROUNDS_PER_CLEAN_UP == 0 {
                views.clean_up();
            }
        }
    })
}

/// Answers on the control socket. Readers are served without it, too.
fn answer_operators(runtime_dir: &Path, views: Arc<Views>, facts: Facts) -> anyhow::Result<()> {
    let path = ops::control::path(runtime_dir);
    match ops::control::listen(&path) {
        Ok(listener) => spawn("control", move || {
            ops::control::serve(&listener, &views, &facts);
        }),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            log::info!(
                "another lxcfs has {}; give this one its own --runtime-dir to ask it",
                path.display()
            );
            Ok(())
        }
        Err(error) => {
            log::warn!("cannot make the control socket {}: {error}", path.display());
            Ok(())
        }
    }
}

/// Starts a thread that nobody waits for.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .context("cannot start a thread")
}
