//! What real machines' `/proc/cpuinfo`, `/sys/devices/system/cpu` and
//! `/sys/devices/system/node` become when they are narrowed to some of their CPUs: all
//! must tell the same story.
//!
//! The captures are not a part of this project. They are looked for in the
//! folder `cpu` of `$LXCFS_FIXTURES`, or else of `../shared/fixtures`.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs, io};

use lxcfs::host::NumaNode;
use lxcfs::parse::cpu_list::CpuSet;
use lxcfs::parse::cpuinfo::CpuInfo;
use lxcfs::view::{cpuinfo, sys_cpu, sys_node};

/// `/proc/cpuinfo` and the trees of CPUs and nodes of a host, or of a reader.
struct Machine {
    name: String,
    cpuinfo: Vec<u8>,
    /// Content of the files by path.
    files: BTreeMap<String, Vec<u8>>,
    dirs: BTreeSet<String>,
    /// Targets of the symbolic links by path.
    links: BTreeMap<String, PathBuf>,
    /// Content of the files of the tree of nodes by path.
    nodes: BTreeMap<String, Vec<u8>>,
}

impl Machine {
    /// Reads an archive by its table of contents and the files one after the
    /// other: making ten thousand small files takes far longer.
    fn load(archive: &Path) -> Self {
        let file_name = archive.file_name().unwrap().to_str().unwrap();
        let name = file_name.strip_suffix(".tar.gz").unwrap();
        let contents = tar(archive, ["--extract", "--to-stdout"]);
        let mut contents = contents.as_slice();
        let mut machine = Self {
            name: name.to_owned(),
            cpuinfo: Vec::new(),
            files: BTreeMap::new(),
            dirs: BTreeSet::new(),
            links: BTreeMap::new(),
            nodes: BTreeMap::new(),
        };
        let folder = format!("{name}/sys/devices/system/cpu/");
        let node_folder = format!("{name}/sys/devices/system/node/");
        let list = tar(archive, ["--list", "--verbose"]);
        for entry in String::from_utf8(list).unwrap().lines() {
            // Mode, owner, size, date, time and path, of a link with its target.
            let fields: Vec<&str> = entry.split_ascii_whitespace().collect();
            let [mode, _, size, _, _, path, rest @ ..] = fields.as_slice() else {
                panic!("{file_name}: {entry}");
            };
            let size = size.parse().unwrap();
            let (content, others) = contents.split_at(size);
            contents = others;
            let content = content.to_vec();
            let path = path.trim_start_matches("./");
            if let Some(path) = path.strip_prefix(&node_folder) {
                if mode.starts_with('-') {
                    machine.nodes.insert(path.to_owned(), content);
                    continue;
                }
            }
            let inside = path.strip_prefix(&folder);
            match (mode.chars().next(), inside) {
                (Some('-'), Some(path)) => {
                    machine.files.insert(path.to_owned(), content);
                }
                (Some('d'), Some(path)) => {
                    machine.dirs.insert(path.trim_end_matches('/').to_owned());
                }
                (Some('l'), Some(path)) => {
                    let target = rest.last().unwrap();
                    machine.links.insert(path.to_owned(), PathBuf::from(target));
                }
                _ if path.ends_with("/proc/cpuinfo") => machine.cpuinfo = content,
                _ => {}
            }
        }
        assert!(contents.is_empty() && !machine.cpuinfo.is_empty(), "{name}");
        machine
    }

    /// What a reader sees of this host.
    fn narrowed(&self, shown: &CpuSet) -> Self {
        let related = |policy| self.list(&format!("cpufreq/policy{policy}/related_cpus"));
        let seen = |path: &str| !sys_cpu::hides(path, shown, related);
        let mut view = Self {
            name: format!("{} {shown}", self.name),
            cpuinfo: Vec::new(),
            files: BTreeMap::new(),
            dirs: self.dirs.iter().filter(|dir| seen(dir)).cloned().collect(),
            links: self.links.clone(),
            nodes: BTreeMap::new(),
        };
        let cpuinfo = CpuInfo::parse(self.cpuinfo.clone());
        cpuinfo::render(&cpuinfo, shown, &mut view.cpuinfo);
        view.links.retain(|path, _| seen(path));
        for (path, content) in self.files.iter().filter(|(path, _)| seen(path)) {
            let seen = sys_cpu::narrow(path, content, shown);
            assert!(!seen.is_unknown, "{} {path}", self.name);
            let content = seen.content.into_owned();
            view.files.insert(path.clone(), content);
        }
        let memory = self.numa_nodes().iter().map(|node| node.id).collect();
        view.nodes = self.nodes_seen(shown, memory);
        view
    }

    /// The files of nodes that a reader sees who may use the memory of some nodes.
    fn nodes_seen(&self, cpus: &CpuSet, memory: CpuSet) -> BTreeMap<String, Vec<u8>> {
        let shown = sys_node::Shown::new(&self.numa_nodes(), cpus.clone(), memory);
        let seen = self.nodes.iter();
        seen.filter(|(path, _)| !sys_node::hides(path, &shown))
            .map(|(path, content)| {
                let seen = sys_node::narrow(path, content, &shown);
                assert!(!seen.is_unknown, "{} {path}", self.name);
                (path.clone(), seen.content.into_owned())
            })
            .collect()
    }

    fn numa_nodes(&self) -> Vec<NumaNode> {
        let mut nodes: Vec<_> = node_cpus(&self.nodes)
            .map(|(id, cpus)| NumaNode {
                id,
                cpus,
                ..NumaNode::default()
            })
            .collect();
        nodes.sort_by_key(|node| node.id);
        nodes
    }

    fn text(&self, path: &str) -> Option<&str> {
        let text = self.files.get(path)?;
        Some(std::str::from_utf8(text).unwrap().trim_end())
    }

    fn list(&self, path: &str) -> Option<CpuSet> {
        let text = self.text(path)?;
        Some(CpuSet::parse("list", text).unwrap())
    }

    fn cpus(&self, path: &str) -> CpuSet {
        let list = self.list(path);
        list.unwrap_or_else(|| panic!("{}: no {path}", self.name))
    }

    fn cpu_dirs(&self) -> CpuSet {
        let ids = self.dirs.iter().filter_map(|dir| dir.strip_prefix("cpu"));
        ids.filter_map(|id| id.parse().ok()).collect()
    }

    /// The CPUs of cpuinfo, found in the way of its readers.
    fn processors(&self) -> Vec<usize> {
        let text = std::str::from_utf8(&self.cpuinfo).unwrap();
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        let id = |(key, value): (&str, &str)| match key.trim() {
            "processor" => value.trim().parse().ok(),
            key => {
                let id = key.strip_prefix("processor ").or(key.strip_prefix("CPU"));
                id?.parse().ok()
            }
        };
        fields.filter_map(id).collect()
    }

    /// The number in a field of a CPU's record in cpuinfo.
    fn field(&self, cpu: usize, key: &str) -> Option<usize> {
        let text = std::str::from_utf8(&self.cpuinfo).unwrap();
        let value = |record: &str, key: &str| {
            let mut fields = record.lines().filter_map(|line| line.split_once(':'));
            let (_, value) = fields.find(|(name, _)| name.trim() == key)?;
            value.trim().parse::<usize>().ok()
        };
        let mut records = text.split("\n\n");
        value(
            records.find(|record| value(record, "processor") == Some(cpu))?,
            key,
        )
    }
}

/// The nodes with the CPUs of their masks.
fn node_cpus(files: &BTreeMap<String, Vec<u8>>) -> impl Iterator<Item = (usize, CpuSet)> {
    files.iter().filter_map(|(path, content)| {
        let id = path.strip_suffix("/cpumap")?.strip_prefix("node")?;
        let mask = std::str::from_utf8(content).unwrap();
        Some((
            id.parse().unwrap(),
            CpuSet::parse_mask("cpumap", mask).unwrap(),
        ))
    })
}

/// What `tar` writes when it does `action`.
fn tar(archive: &Path, action: [&str; 2]) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.args(action).arg("--gzip").arg("--file").arg(archive);
    let output = tar.output().unwrap();
    assert!(output.status.success(), "{tar:?}");
    output.stdout
}

fn fixtures() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures");
    let fixtures = env::var_os("LXCFS_FIXTURES").map_or(default.into(), PathBuf::from);
    fixtures.join("cpu")
}

/// All captures; none where there is no folder of them.
fn machines() -> &'static [Machine] {
    static MACHINES: OnceLock<Vec<Machine>> = OnceLock::new();
    MACHINES.get_or_init(|| {
        let Ok(entries) = fs::read_dir(fixtures()) else {
            return Vec::new();
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        let archives = paths.filter(|path| path.extension().is_some_and(|end| end == "gz"));
        archives.map(|archive| Machine::load(&archive)).collect()
    })
}

/// Runs `check` for each capture, or says that `test` was skipped.
fn for_each_machine(test: &str, check: impl Fn(&Machine)) {
    if machines().is_empty() {
        let folder = fixtures();
        // Not `eprintln`, which the test harness keeps to itself.
        let mut stderr = io::stderr();
        writeln!(stderr, "SKIPPED {test}: no captures in {folder:?}").unwrap();
    }
    machines().iter().for_each(check);
}

/// Runs `check` for what readers with several sets of CPUs see of each capture.
fn for_each_view(test: &str, check: impl Fn(&Machine, &Machine, &CpuSet)) {
    for_each_machine(test, |host| {
        let online = host.cpus("online");
        let pick = |keep: fn(usize) -> bool| {
            let cpus = online.iter().enumerate();
            cpus.filter(|(index, _)| keep(*index))
                .map(|(_, cpu)| cpu)
                .collect()
        };
        let highest = online.iter().last().into_iter().collect();
        let gaps: CpuSet = pick(|index| matches!(index % 7, 1 | 2 | 5));
        for shown in [
            online.lowest(1),
            highest,
            pick(|index| index % 2 == 1),
            gaps,
            online.clone(),
        ] {
            check(host, &host.narrowed(&shown), &shown);
        }
    });
}

#[test]
fn all_cpus_leave_everything_as_it_is() {
    for_each_machine("all_cpus_leave_everything_as_it_is", |host| {
        let all = CpuSet::parse("all", "0-16383").unwrap();
        let seen = host.narrowed(&all);
        assert!(seen.cpuinfo == host.cpuinfo, "{}", host.name);
        assert_eq!(seen.dirs, host.dirs);
        assert_eq!(seen.links, host.links);
        let follow = ["online", "offline", "present", "enabled"];
        for (path, content) in host
            .files
            .iter()
            .filter(|(path, _)| !sys_cpu::counts_activity(path) && !follow.contains(&path.as_str()))
        {
            assert_eq!(seen.files.get(path), Some(content), "{} {path}", host.name);
        }
    });
}

#[test]
fn cpuinfo_lists_and_directories_agree() {
    for_each_view(
        "cpuinfo_lists_and_directories_agree",
        |host, seen, shown| {
            let name = &seen.name;
            let expected: Vec<usize> = shown.iter().collect();
            assert_eq!(seen.processors(), expected, "{name}: cpuinfo");
            assert_eq!(seen.cpu_dirs(), *shown, "{name}: directories");
            for list in ["online", "present"] {
                assert_eq!(seen.cpus(list), *shown, "{name}: {list}");
            }
            for own in ["possible", "kernel_max"] {
                assert_eq!(seen.files.get(own), host.files.get(own), "{name}: {own}");
            }
            assert_eq!(seen.files["offline"], b"\n", "{name}: offline");
            for cpu in shown.iter() {
                // A CPU that cannot go offline may lack the file.
                let online = seen.text(&format!("cpu{cpu}/online")).unwrap_or("1");
                assert_eq!(online, "1", "{name}: cpu{cpu}/online");
            }
        },
    );
}

#[test]
fn cpuinfo_counts_what_the_topology_shows() {
    for_each_view(
        "cpuinfo_counts_what_the_topology_shows",
        |_, seen, shown| {
            for cpu in shown.iter() {
                let Some(siblings) = seen.field(cpu, "siblings") else {
                    continue;
                };
                let topology = |cpu, file| seen.cpus(&format!("cpu{cpu}/topology/{file}"));
                let package = topology(cpu, "core_siblings_list");
                let cores: BTreeSet<String> = package
                    .iter()
                    .map(|cpu| topology(cpu, "thread_siblings_list").to_string())
                    .collect();
                let name = format!("{} cpu{cpu}", seen.name);
                assert_eq!(siblings, package.len(), "{name}: siblings");
                assert_eq!(
                    seen.field(cpu, "cpu cores"),
                    Some(cores.len()),
                    "{name}: cpu cores"
                );
            }
        },
    );
}

#[test]
fn masks_equal_lists_and_have_no_hidden_cpu() {
    for_each_view(
        "masks_equal_lists_and_have_no_hidden_cpu",
        |host, seen, shown| {
            let lists = seen.files.keys().filter(|path| path.ends_with("_list"));
            // The list of frequencies of an Exynos bus is none of CPUs.
            for path in lists.filter(|path| path.starts_with("cpu")) {
                let name = format!("{} {path}", seen.name);
                let list = seen.cpus(path);
                assert_eq!(list, host.cpus(path).intersection(shown), "{name}");
                let id = path.strip_prefix("cpu").unwrap().split('/').next();
                assert!(list.contains(id.unwrap().parse().unwrap()), "{name}");
                let mask = match path.strip_suffix("shared_cpu_list") {
                    Some(cache) => format!("{cache}shared_cpu_map"),
                    None => path.strip_suffix("_list").unwrap().to_owned(),
                };
                let text = seen.text(&mask).unwrap();
                assert_eq!(CpuSet::parse_mask("mask", text).unwrap(), list, "{name}");
                assert_eq!(text.len(), host.text(&mask).unwrap().len(), "{name}");
            }
        },
    );
}

#[test]
fn policies_are_there_for_the_cpus_that_have_them() {
    for_each_view(
        "policies_are_there_for_the_cpus_that_have_them",
        |_, seen, shown| {
            let name = &seen.name;
            let links = seen.links.iter();
            let linked: BTreeSet<String> = links
                .filter(|(path, _)| path.ends_with("/cpufreq"))
                // On older kernels it leads to the first CPU of the policy.
                .filter(|(_, target)| target.starts_with("../cpufreq"))
                .map(|(_, target)| target.strip_prefix("..").unwrap())
                .map(|target| target.to_str().unwrap().to_owned())
                .collect();
            let policies = seen.dirs.iter();
            let policies: BTreeSet<String> = policies
                .filter(|dir| dir.starts_with("cpufreq/policy") && dir.matches('/').count() == 1)
                .cloned()
                .collect();
            assert_eq!(policies, linked, "{name}");
            for (path, _) in seen.files.iter().filter(|(path, _)| {
                ["related_cpus", "affected_cpus", "freqdomain_cpus"]
                    .iter()
                    .any(|file| path.ends_with(file))
            }) {
                let cpus = seen.cpus(path);
                assert!(!cpus.is_empty(), "{name}: {path}");
                assert_eq!(cpus.intersection_len(shown), cpus.len(), "{name}: {path}");
            }
        },
    );
}

#[test]
fn nodes_have_the_cpus_shown_and_no_others() {
    for_each_view(
        "nodes_have_the_cpus_shown_and_no_others",
        |host, seen, shown| {
            let name = &seen.name;
            let all = node_cpus(&host.nodes).flat_map(|(_, cpus)| cpus.iter().collect::<Vec<_>>());
            let all: CpuSet = all.collect();
            let cpus: Vec<usize> = node_cpus(&seen.nodes)
                .flat_map(|(_, cpus)| cpus.iter().collect::<Vec<_>>())
                .collect();
            let united: CpuSet = cpus.iter().copied().collect();
            assert_eq!(united, all.intersection(shown), "{name}");
            assert_eq!(united.len(), cpus.len(), "{name}: a CPU in two nodes");
            for (path, content) in &seen.nodes {
                if path.ends_with("/cpumap") {
                    assert_eq!(content.len(), host.nodes[path].len(), "{name}: {path}");
                }
            }
        },
    );
}

#[test]
fn a_node_is_there_for_its_cpus_or_its_memory_only() {
    for_each_machine("a_node_is_there_for_its_cpus_or_its_memory_only", |host| {
        for node in host.numa_nodes() {
            let own = node.cpus.intersection(&host.cpus("online"));
            for cpu in own.iter() {
                let shown = CpuSet::from_iter([cpu]);
                let name = format!("{} cpu{cpu}", host.name);
                let seen = host.nodes_seen(&shown, CpuSet::new());
                let nodes: Vec<usize> = node_cpus(&seen).map(|(id, _)| id).collect();
                assert_eq!(nodes, [node.id], "{name}");
                // The link from the CPU to its node leads to one that is there.
                let links = host.links.keys();
                let link = links.filter(|path| path.starts_with(&format!("cpu{cpu}/node")));
                for path in link {
                    assert_eq!(*path, format!("cpu{cpu}/node{}", node.id), "{name}");
                }
            }
            let elsewhere = host
                .cpus("online")
                .iter()
                .find(|cpu| !node.cpus.contains(*cpu));
            if let Some(cpu) = elsewhere {
                let memory = CpuSet::from_iter([node.id]);
                let seen = host.nodes_seen(&CpuSet::from_iter([cpu]), memory);
                let own = node_cpus(&seen).find(|(id, _)| *id == node.id).unwrap();
                assert!(own.1.is_empty(), "{}", host.name);
                assert_eq!(node_cpus(&seen).count(), 2, "{}", host.name);
            }
        }
    });
}
