//! Parsers of the files under test, kept apart from the library's own so that both cannot be wrong together.

use std::collections::{BTreeMap, BTreeSet};

/// The ids in a list such as `0-2,5`.
#[track_caller]
pub fn cpu_list(text: &str) -> BTreeSet<u32> {
    try_cpu_list(text).unwrap_or_else(|| panic!("not a list of ids: {text:?}"))
}

/// [`cpu_list`], `None` for what is no list.
pub fn try_cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        ids.extend(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?);
    }
    Some(ids)
}

/// `/proc/meminfo` or `/proc/vmstat` by key; meminfo's sizes are in kB.
pub fn keyed(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let key = words.next()?.trim_end_matches(':');
            Some((key.to_owned(), words.next()?.parse().ok()?))
        })
        .collect()
}

/// The ids of the `processor` lines.
pub fn cpuinfo_ids(text: &str) -> BTreeSet<u32> {
    text.lines()
        .filter_map(|line| {
            line.strip_prefix("processor")?
                .trim_start()
                .strip_prefix(':')?
                .trim()
                .parse()
                .ok()
        })
        .collect()
}

/// Both figures of `/proc/uptime`, in seconds.
#[track_caller]
pub fn uptime(text: &str) -> (f64, f64) {
    let figures: Vec<f64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(figures.len(), 2, "not an uptime: {text:?}");
    (figures[0], figures[1])
}

/// `/proc/stat`; times in ticks.
#[derive(Debug, Clone)]
pub struct Stat {
    pub total: Vec<u64>,
    pub cpus: BTreeMap<u32, Vec<u64>>,
    /// All other lines.
    pub lines: BTreeMap<String, Vec<u64>>,
}

impl Stat {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        Self::try_parse(text).unwrap_or_else(|| panic!("not a /proc/stat: {text:?}"))
    }

    /// [`Stat::parse`], `None` for what is no such file.
    pub fn try_parse(text: &str) -> Option<Self> {
        let mut stat = Self {
            total: Vec::new(),
            cpus: BTreeMap::new(),
            lines: BTreeMap::new(),
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let numbers: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
            match name.strip_prefix("cpu").map(str::parse::<u32>) {
                Some(Ok(id)) => drop(stat.cpus.insert(id, numbers)),
                Some(Err(_)) => stat.total = numbers,
                None => drop(stat.lines.insert(name.to_owned(), numbers)),
            }
        }
        (stat.total.len() >= 8).then_some(stat)
    }

    pub fn ids(&self) -> BTreeSet<u32> {
        self.cpus.keys().copied().collect()
    }

    /// user + nice + system + irq + softirq of a cpu line.
    pub fn busy(line: &[u64]) -> u64 {
        line[0] + line[1] + line[2] + line[5] + line[6]
    }

    /// Busy, idle, iowait and steal together; guest time is already in user.
    pub fn capacity(line: &[u64]) -> u64 {
        line[..8].iter().sum()
    }

    /// What went backwards from `before` to `self`.
    pub fn decreases_since(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |name: String, old: &[u64], new: &[u64]| {
            for (column, (old, new)) in old.iter().zip(new).enumerate() {
                if new < old {
                    found.push(format!("{name} column {column}: {old} -> {new}"));
                }
            }
        };
        compare("cpu".to_owned(), &before.total, &self.total);
        for (id, old) in &before.cpus {
            if let Some(new) = self.cpus.get(id) {
                compare(format!("cpu{id}"), old, new);
            }
        }
        for name in ["intr", "ctxt", "btime", "processes", "softirq"] {
            if let (Some(old), Some(new)) = (before.lines.get(name), self.lines.get(name)) {
                compare(name.to_owned(), old, new);
            }
        }
        found
    }
}

/// `/proc/diskstats` by device name, the columns after the name.
pub fn diskstats(text: &str) -> BTreeMap<String, Vec<u64>> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(2);
            let name = words.next()?.to_owned();
            Some((name, words.filter_map(|word| word.parse().ok()).collect()))
        })
        .collect()
}

/// The numbers in the text, in order: for the output of tools.
pub fn numbers(text: &str) -> Vec<f64> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .filter_map(|word| word.parse().ok())
        .collect()
}
