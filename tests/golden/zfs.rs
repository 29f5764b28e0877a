//! A host with ZFS, whose cache no container has a part of.

use std::fs;
use std::sync::Arc;

use lxcfs::container::Journal;
use lxcfs::container::policy::Policy;
use lxcfs::host::Host;
use lxcfs::reader::Readers;
use lxcfs::view;
use lxcfs::view::swaps::SwapView;

use crate::tree::Tree;

#[test]
fn a_host_with_zfs_has_a_cache_and_the_container_has_none_of_it() {
    let tree = Tree::copy_of("debian13-v2");
    assert!(!Host::open(&tree.root).unwrap().has_arcstats());
    let directory = tree.root.join("proc/spl/kstat/zfs");
    fs::create_dir_all(&directory).unwrap();
    let arcstats = include_str!("../fixtures/views/arcstats/host-2.3");
    fs::write(directory.join("arcstats"), arcstats).unwrap();

    let host = Arc::new(Host::open(&tree.root).unwrap());
    assert!(host.has_arcstats());
    let readers = Readers::new(
        Arc::clone(&host),
        tree.layout(),
        Policy::default(),
        Journal::none(),
        None,
    );
    let resolved = readers.identify(4242, true).unwrap().resolved;
    let memory = resolved.container.memory(&host).unwrap();
    let meminfo = host.meminfo();
    let mut out = Vec::new();
    let input = view::arcstats::Input {
        host: &host.arcstats(),
        memory: view::meminfo::Input {
            host: &meminfo,
            memory: &memory,
            swap: SwapView::new(0, None),
            hide_zswap: false,
        },
    };
    view::arcstats::render(&input, &mut out);
    let text = String::from_utf8(out).unwrap();
    let value = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        let words: Vec<_> = line.unwrap().split_ascii_whitespace().collect();
        words[2].parse::<u64>().unwrap()
    };
    assert_eq!(text.lines().count(), arcstats.lines().count());
    assert_eq!((value("size"), value("c_max")), (0, 52_428_800));
    assert_eq!(value("memory_free_bytes"), 3_408 << 10);
}
