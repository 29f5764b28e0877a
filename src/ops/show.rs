//! What a process reads from the files of `/proc`, and why.

use std::fmt::Write as _;

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;

use super::protocol::{ShowRequest, Shown, ShownFile};
use crate::cgroup::{Controller, Source};
use crate::fs::Views;
use crate::fs::tree::ProcFile;
use crate::reader::{Reason, Resolved};

/// Answers the request from these views.
///
/// # Errors
/// One sentence about the process or file that is not there.
pub fn show(views: &Views, request: &ShowRequest) -> anyhow::Result<Shown> {
    let ShowRequest { pid, file, explain } = request;
    let mut files = ProcFile::ALL.to_vec();
    files.retain(|file| views.permissions(*file).is_some());
    if let Some(name) = file {
        files = vec![by_name(name, &files)?];
    }
    let resolved = views.container(*pid).map_err(|errno| match errno {
        Errno::ESRCH => anyhow!("there is no process {pid}"),
        errno => anyhow!("cannot tell the container of process {pid}: {errno}; try it as root"),
    })?;
    let text_of = |file: ProcFile| -> anyhow::Result<String> {
        if *explain {
            return Ok(self::explain(file, &resolved)?);
        }
        let content = views
            .render(file, *pid)
            .with_context(|| format!("cannot render /proc/{}", file.path()))?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    };
    let files = files.into_iter().map(|file| {
        Ok(ShownFile {
            path: file.path().to_owned(),
            text: text_of(file)?,
        })
    });
    Ok(Shown {
        views_on: views.are_on(),
        files: files.collect::<anyhow::Result<_>>()?,
    })
}

fn by_name(name: &str, files: &[ProcFile]) -> anyhow::Result<ProcFile> {
    let path = name.trim_start_matches('/');
    let path = path.strip_prefix("proc/").unwrap_or(path);
    match ProcFile::by_path(path).filter(|file| files.contains(file)) {
        Some(file) => Ok(file),
        None => {
            let paths: Vec<_> = files.iter().map(|file| file.path()).collect();
            bail!(
                "there is no file {}; choose one of {}",
                name.escape_debug(),
                paths.join(", ")
            )
        }
    }
}

/// Where the figures of `file` come from.
fn explain(file: ProcFile, resolved: &Resolved) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    match resolved.reason {
        Reason::CgroupNamespace => writeln!(
            text,
            "container: the root of the process's cgroup namespace"
        )?,
        Reason::PidNamespace(init) => {
            writeln!(
                text,
                "container: the cgroup of process {init}, the init of the process's pid namespace"
            )?;
        }
        Reason::OwnCgroup => writeln!(
            text,
            "container: the process's own cgroup, as it shares the host's namespaces"
        )?,
        Reason::HiddenNamespaces => writeln!(
            text,
            "container: the process's own cgroup, as its namespaces cannot be seen"
        )?,
    }
    writeln!(
        text,
        "started: {} ms after boot",
        resolved.started_nsec / 1_000_000
    )?;
    writeln!(text, "options: {}", resolved.options)?;
    for (number, rule) in resolved.rules() {
        writeln!(
            text,
            "rule: [[container]] number {number} in the configuration, cgroup = {:?}",
            rule.cgroup.as_str()
        )?;
    }
    if resolved.container.is_host() {
        writeln!(text, "a process of the host: the host's own figures")?;
        return Ok(text);
    }
    for controller in controllers(file) {
        let sources = resolved.container.cgroup.sources(*controller);
        if sources.is_empty() {
            writeln!(
                text,
                "{}: not accounted for this cgroup",
                controller.v1_name()
            )?;
        }
        sources
            .iter()
            .try_for_each(|source| write_source(&mut text, source))?;
    }
    if let Some(resource) = file.resource() {
        match resolved.container.cgroup.pressure_source(resource) {
            Some(source) => write_source(&mut text, &source)?,
            None => writeln!(text, "pressure: not accounted for this cgroup")?,
        }
    }
    Ok(text)
}

fn write_source(text: &mut String, Source { path, content }: &Source) -> std::fmt::Result {
    match content.trim_end().split_once('\n') {
        None => writeln!(text, "{} = {}", path.display(), content.trim_end()),
        Some(_) => {
            writeln!(text, "{}:", path.display())?;
            content
                .lines()
                .try_for_each(|line| writeln!(text, "    {line}"))
        }
    }
}

/// What a file is made of.
const fn controllers(file: ProcFile) -> &'static [Controller] {
    match file {
        ProcFile::Cpuinfo => &[Controller::Cpuset, Controller::Cpu],
        ProcFile::Diskstats => &[Controller::Blkio],
        ProcFile::Arcstats | ProcFile::Meminfo | ProcFile::Slabinfo | ProcFile::Swaps => {
            &[Controller::Memory]
        }
        ProcFile::PressureCpu
        | ProcFile::PressureIo
        | ProcFile::PressureIrq
        | ProcFile::PressureMemory => &[],
        ProcFile::Vmstat => &[Controller::Memory, Controller::Blkio],
        ProcFile::Loadavg => &[Controller::Cpuacct, Controller::Pids],
        ProcFile::Interrupts | ProcFile::Softirqs | ProcFile::Stat | ProcFile::Uptime => {
            &[Controller::Cpuacct, Controller::Cpuset, Controller::Cpu]
        }
    }
}
