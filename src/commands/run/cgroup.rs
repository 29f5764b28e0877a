//! The cgroup of the command, with its limits, in every mounted hierarchy.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cgroup::{FdBudget, Layout, Version};
use crate::cli::RunArgs;
use crate::host::mounts::own_lines;
use crate::host::process::Proc;
use crate::parse::cpu_list::CpuSet;

/// The period to which a CPU limit applies, the kernel's own default.
const PERIOD: Duration = Duration::from_millis(100);

/// What the views show, by the names of cgroup v2.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "hugetlb", "pids"];

/// Cgroup v2 gets two levels. The command is in the lower one, which has the limits;
/// the upper one has the controllers enabled for it, which keeps systemd from
/// disabling them in the root because none of its own units needs them.
const LOWER: &str = "command";

/// A mounted hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    pub version: Version,
    /// v1 controllers, or the name as `name=systemd`; empty for v2.
    pub controllers: Vec<String>,
    pub mount_point: PathBuf,
}

/// All mounted hierarchies in an order that is the same for every process.
pub fn hierarchies() -> Result<Vec<Hierarchy>> {
    let proc = Proc::open(Path::new("/proc")).context("cannot read /proc")?;
    let mounts = own_lines(&proc, "cgroup").context("cannot list the mounts")?;
    let layout = Layout::detect(&mounts, Path::new("/"), &Arc::new(FdBudget::new(0)))?;
    let mut hierarchies: Vec<_> = layout
        .mounts()
        .map(|(version, controllers, mount_point)| Hierarchy {
            version,
            controllers: controllers.to_vec(),
            mount_point: mount_point.to_owned(),
        })
        .collect();
    hierarchies.sort_by(|a, b| a.controllers.cmp(&b.controllers));
    Ok(hierarchies)
}

/// The cgroup of one command.
#[derive(Debug)]
pub struct Cgroup<'a> {
    places: Vec<(&'a Hierarchy, PathBuf)>,
}

impl<'a> Cgroup<'a> {
    /// Creates the cgroup `name` below the top of each hierarchy and sets the limits.
    /// What was made before a failure stays for [`super::leftovers::remove`].
    pub fn create(hierarchies: &'a [Hierarchy], name: &str, args: &RunArgs) -> Result<Self> {
        let places = hierarchies
            .iter()
            .map(|hierarchy| Ok((hierarchy, hierarchy.create(name)?)))
            .collect::<Result<_>>()?;
        let cgroup = Self { places };
        cgroup.limit_memory(args)?;
        cgroup.limit_cpus(args)?;
        cgroup.limit_cpuset(args)?;
        Ok(cgroup)
    }

    /// Moves the calling process into the cgroup.
    pub fn join(&self) -> Result<()> {
        for (_, directory) in &self.places {
            write(&directory.join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// The mount points, each with the cgroup's directory below it.
    pub fn places(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.places
            .iter()
            .map(|(hierarchy, directory)| (hierarchy.mount_point.as_path(), directory.as_path()))
    }

    fn limit_memory(&self, args: &RunArgs) -> Result<()> {
        let Some(memory_bytes) = args.memory else {
            return Ok(());
        };
        let (version, directory) = self.directory("memory", "-m")?;
        let (limit, swap_limit) = match version {
            Version::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
            Version::V2 => ("memory.max", "memory.swap.max"),
        };
        write(&directory.join(limit), &memory_bytes.to_string())?;
        let Some(swap_bytes) = args.swap else {
            return Ok(());
        };
        let swap_limit = directory.join(swap_limit);
        ensure!(
            swap_limit.exists(),
            "--swap cannot be applied because this kernel does not account swap"
        );
        let bytes = match version {
            Version::V1 => memory_bytes.saturating_add(swap_bytes),
            Version::V2 => swap_bytes,
        };
        write(&swap_limit, &bytes.to_string())
    }

    fn limit_cpus(&self, args: &RunArgs) -> Result<()> {
        let Some(cpus) = args.cpus else {
            return Ok(());
        };
        let quota_usec = PERIOD.mul_f64(cpus).as_micros();
        let period_usec = PERIOD.as_micros();
        match self.directory("cpu", "--cpus")? {
            (Version::V1, directory) => {
                let period = directory.join("cpu.cfs_period_us");
                write(&period, &period_usec.to_string())?;
                write(&directory.join("cpu.cfs_quota_us"), &quota_usec.to_string())
            }
            (Version::V2, directory) => {
                let limit = format!("{quota_usec} {period_usec}");
                write(&directory.join("cpu.max"), &limit)
            }
        }
    }

    fn limit_cpuset(&self, args: &RunArgs) -> Result<()> {
        let Some(cpus) = &args.cpuset else {
            return Ok(());
        };
        let (version, directory) = self.directory("cpuset", "--cpuset")?;
        let effective = match version {
            Version::V1 => "cpuset.effective_cpus",
            Version::V2 => "cpuset.cpus.effective",
        };
        let text = read(&directory.join(effective))?;
        let offered = CpuSet::parse(effective, &text)?;
        if let Some(missing) = cpus.iter().find(|cpu| !offered.contains(*cpu)) {
            bail!("--cpuset {cpus} asks for CPU {missing}, but only {offered} can be used here");
        }
        write(&directory.join("cpuset.cpus"), &cpus.to_string())
    }

    /// Where `controller` (the same name in v1 and v2) is to be set for `option`.
    fn directory(&self, controller: &str, option: &str) -> Result<(Version, &Path)> {
        self.places
            .iter()
            .find(|(hierarchy, directory)| match hierarchy.version {
                Version::V1 => hierarchy.controllers.iter().any(|name| name == controller),
                Version::V2 => controllers(&directory.join("cgroup.controllers"))
                    .iter()
                    .any(|name| name == controller),
            })
            .map(|(hierarchy, directory)| (hierarchy.version, directory.as_path()))
            .with_context(|| {
                format!(
                    "{option} cannot be applied because no cgroup has the {controller} controller"
                )
            })
    }
}

impl Hierarchy {
    /// Creates the cgroup and returns the directory that processes can join.
    fn create(&self, name: &str) -> Result<PathBuf> {
        let upper = self.mount_point.join(name);
        make_directory(&upper)?;
        match self.version {
            Version::V1 => {
                if self.controllers.iter().any(|name| name == "cpuset") {
                    // Nothing can join as long as these are empty.
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        write(
                            &upper.join(file),
                            read(&self.mount_point.join(file))?.trim(),
                        )?;
                    }
                }
                Ok(upper)
            }
            Version::V2 => {
                enable_controllers(&self.mount_point);
                enable_controllers(&upper);
                let lower = upper.join(LOWER);
                make_directory(&lower)?;
                Ok(lower)
            }
        }
    }
}

/// Enables what can be enabled in the children of `directory`. What cannot is missed
/// when a limit asks for it.
fn enable_controllers(directory: &Path) {
    let file = directory.join("cgroup.subtree_control");
    let enabled = controllers(&file);
    for name in controllers(&directory.join("cgroup.controllers")) {
        if CONTROLLERS.contains(&name.as_str()) && !enabled.contains(&name) {
            if let Err(error) = write(&file, &format!("+{name}")) {
                log::debug!("{error:#}");
            }
        }
    }
}

/// The names in a file such as `cgroup.controllers`; none if there is no such file.
fn controllers(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn make_directory(directory: &Path) -> Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot create the cgroup {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {text} to {}", file.display()))
}
