//! `docs/SEMANTICS.md` and the renderers name the same lines with the same classes.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use lxcfs::freshness::validity;
use lxcfs::parse::pressure::Share;
use lxcfs::view::{Class, arcstats, meminfo, stat, vmstat};

/// The rows of the table below the heading of this file: every line in it with the
/// cells beside it.
fn rows(file: &str) -> Vec<(String, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SEMANTICS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let heading = format!("## `{file}`");
    let section = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows: Vec<_> = section
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| ") && !line.starts_with("| line "))
        .map(|line| {
            let mut cells = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned());
            (cells.next().unwrap(), cells.collect())
        })
        .collect();
    assert!(!rows.is_empty(), "no table for {file}");
    rows
}

fn class(name: &str) -> Class {
    match name {
        "exact" => Class::Exact,
        "derived" => Class::Derived,
        "apportioned" => Class::Apportioned,
        "fact" => Class::Fact,
        "zero" => Class::Zero,
        other => panic!("{other} is no class"),
    }
}

/// The classes of all lines that a table names in backquotes.
fn documented(file: &str) -> BTreeMap<String, Class> {
    let mut classes = BTreeMap::new();
    for (lines, cells) in rows(file) {
        for line in lines.split('`').skip(1).step_by(2) {
            let before = classes.insert(line.to_owned(), class(&cells[0]));
            assert_eq!(before, None, "{line} is there twice");
        }
    }
    classes
}

fn rendered<'a>(lines: impl Iterator<Item = (&'a str, Class)>) -> BTreeMap<String, Class> {
    lines
        .map(|(line, class)| (line.to_owned(), class))
        .collect()
}

#[test]
fn every_table_has_the_same_columns_and_only_the_five_classes() {
    for file in [
        "/proc/meminfo",
        "/proc/swaps",
        "/proc/cpuinfo",
        "/sys/devices/system/cpu",
        "/proc/stat",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/diskstats",
        "/proc/vmstat",
        "/proc/slabinfo",
        "/proc/spl/kstat/zfs/arcstats",
        "/proc/pressure",
    ] {
        for (line, cells) in rows(file) {
            assert_eq!(cells.len(), 4, "{file}: {line}");
            class(&cells[0]);
        }
    }
}

#[test]
fn meminfo_is_documented_as_it_is_rendered() {
    assert_eq!(documented("/proc/meminfo"), rendered(meminfo::lines()));
}

#[test]
fn stat_is_documented_as_it_is_rendered() {
    assert_eq!(documented("/proc/stat"), rendered(stat::LINES.into_iter()));
}

#[test]
fn pressure_is_documented_as_it_is_rendered() {
    let lines = Share::ALL.map(|share| (share.name(), Class::Exact));
    assert_eq!(documented("/proc/pressure"), rendered(lines.into_iter()));
}

#[test]
fn vmstat_is_documented_as_it_is_rendered() {
    assert_eq!(documented("/proc/vmstat"), rendered(vmstat::lines()));
}

/// Every line in `tests/fixtures/DIRECTORY/KERNEL` is classified, under the name that
/// `name_of` gives it.
fn check_known(
    directory: &str,
    known: &BTreeMap<String, Class>,
    name_of: impl Fn(&str) -> String,
) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut kernels = 0;
    for entry in std::fs::read_dir(path.join(directory)).unwrap() {
        let path = entry.unwrap().path();
        for key in std::fs::read_to_string(&path).unwrap().lines() {
            let is_known = known.contains_key(&name_of(key));
            assert!(is_known, "{key} of {}", path.display());
        }
        kernels += 1;
    }
    kernels
}

#[test]
fn the_meminfo_lines_of_all_known_kernels_are_classified() {
    let known = rendered(meminfo::lines());
    assert!(check_known("meminfo-keys", &known, str::to_owned) >= 6);
}

#[test]
fn the_vmstat_lines_of_all_known_kernels_are_classified() {
    const ZONES: [&str; 6] = ["dma", "dma32", "normal", "high", "movable", "device"];
    let known = rendered(vmstat::lines());
    let name_of = |key: &str| match key.rsplit_once('_') {
        Some((name, zone)) if ZONES.contains(&zone) => format!("{name}_ZONE"),
        _ => key.to_owned(),
    };
    assert!(check_known("vmstat-keys", &known, name_of) >= 3);
}

#[test]
fn the_arcstats_lines_with_a_value_are_documented() {
    let documented = documented("/proc/spl/kstat/zfs/arcstats");
    assert_eq!(documented, rendered(arcstats::LINES.into_iter()));
}

#[test]
fn the_table_of_ages_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SEMANTICS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text
        .lines()
        .skip_while(|line| *line != "## How old a figure can be");
    let section = section.skip(1).take_while(|line| !line.starts_with("## "));
    let rows: Vec<_> = section
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .collect();
    let expected = validity::ALL.iter();
    let expected: Vec<_> = expected
        .map(|(what, ages)| format!("| {what} | {ages} |"))
        .collect();
    assert_eq!(rows, expected);
}
