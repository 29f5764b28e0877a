//! Imports run downwards only, as docs/ARCHITECTURE.md says.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down. What stands in one line may use each other.
const LAYERS: [&[&str]; 17] = [
    &["main"],
    &["commands"],
    &["doctor"],
    &["daemon"],
    &["cli", "config"],
    &["nri"],
    &["attach", "remount"],
    &["places"],
    &["session"],
    &["ops"],
    &["fs"],
    &["reader"],
    &["view"],
    &["container"],
    &["cgroup", "host"],
    &["freshness", "parse"],
    &["sys"],
];

fn layer(module: &str) -> usize {
    let layer = LAYERS.iter().position(|layer| layer.contains(&module));
    layer.unwrap_or_else(|| panic!("module {module} is in no layer"))
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The modules that a text names after `crate::`.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let paths = text.split("crate::").skip(1);
    let modules = paths.filter_map(|path| {
        path.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
    });
    modules.filter(|module| module.starts_with(|c: char| c.is_lowercase()))
}

#[test]
fn imports_run_downwards_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 100);
    let mut upwards = Vec::new();
    for file in files {
        let within = file.strip_prefix(&src).unwrap();
        let own = within.components().next().unwrap().as_os_str();
        let own = own.to_str().unwrap().trim_end_matches(".rs");
        if own == "lib" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        if within.ends_with("tests.rs") {
            continue;
        }
        // Tests may use what they like.
        let text = text.split("#[cfg(test)]").next().unwrap();
        for module in named(text) {
            if module != own && layer(module) < layer(own) {
                upwards.push(format!("{} uses {module}", within.display()));
            }
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
}
