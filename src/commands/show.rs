//! `lxcfs show`: what a process reads, and why.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::print::print;
use crate::attach::running::find_pid;
use crate::cli::{RuntimeDirArgs, ShowArgs};
use crate::config;
use crate::container::Journal;
use crate::container::policy::{Change, Policy};
use crate::fs::Views;
use crate::host::mounts::{Extent, Limit};
use crate::host::process::Proc;
use crate::ops::protocol::{Request, ShowRequest, Shown, ShownFile};
use crate::ops::{control, show};
use crate::places::spot::is_of_lxcfs;

/// Cgroup files that are kept open while the command runs.
const KEPT_FDS: usize = 256;

/// Prints the files for the process.
///
/// # Errors
/// One sentence about the process or file that is not there.
pub fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let proc = Proc::open(Path::new("/proc")).context("cannot read /proc")?;
    let (pid, _) = find_pid(&args.process, &proc)?;
    let request = ShowRequest {
        pid,
        file: args.file.clone(),
        explain: args.explain,
    };
    let shown = ask(&args.runtime_dir, &request)?.map_or_else(|| by_itself(args, &request), Ok)?;
    if !shown.views_on {
        log::warn!("the views are switched off by SIGUSR2: every process reads the host's files");
    }
    report_unattached(pid, &shown.files, &proc);
    print(text(&shown.files)).context("cannot print the files")?;
    Ok(ExitCode::SUCCESS)
}

/// What the daemon says; `None` if there is none.
fn ask(
    RuntimeDirArgs { runtime_dir }: &RuntimeDirArgs,
    request: &ShowRequest,
) -> anyhow::Result<Option<Shown>> {
    control::ask(&control::path(runtime_dir), Request::Show(request.clone()))
}

/// The figures without a daemon: by the configuration alone, and without counters that go on
/// from read to read.
fn by_itself(args: &ShowArgs, request: &ShowRequest) -> anyhow::Result<Shown> {
    log::warn!(
        "no lxcfs answers at {}: these figures are by the configuration file alone",
        control::path(&args.runtime_dir.runtime_dir).display()
    );
    let policy =
        config::policy(args.config.as_deref(), &Change::default()).unwrap_or_else(|error| {
            log::warn!("{error}; these figures are by the defaults");
            Policy::default()
        });
    let views = Views::open(KEPT_FDS, policy, Journal::none(), None)
        .context("cannot read the host's figures")?;
    show::show(&views, request)
}

/// Says which of the files the process reads from the kernel, as nothing of lxcfs is mounted
/// over them.
fn report_unattached(pid: i32, files: &[ShownFile], proc: &Proc) {
    let mut names: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    let extent = proc.visit_mounts(&format!("{pid}/mountinfo"), Limit::THOROUGH, |line| {
        if is_of_lxcfs(line) {
            let point = line.mount_point();
            names.retain(|name| !Path::new("/proc").join(name).starts_with(&point));
        }
    });
    match (extent, names.len()) {
        (Err(_), _) | (_, 0) => {}
        (Ok(Extent::Part), _) => log::warn!(
            "process {pid} has too many mounts to tell whether it reads the kernel's own: {}",
            names.join(", ")
        ),
        (Ok(Extent::Whole), missing) if missing > 1 && missing == files.len() => log::warn!(
            "nothing is attached to process {pid}: it reads the kernel's own files; with the \
             views it would read this"
        ),
        (Ok(Extent::Whole), _) => log::warn!(
            "not attached to process {pid}, which reads the kernel's own: {}",
            names.join(", ")
        ),
    }
}

fn text(files: &[ShownFile]) -> Vec<u8> {
    if let [file] = files {
        return file.text.clone().into_bytes();
    }
    let sections = files
        .iter()
        .map(|file| format!("==> /proc/{} <==\n{}", file.path, file.text));
    sections.collect::<Vec<_>>().join("\n").into_bytes()
}
