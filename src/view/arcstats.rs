//! `/proc/spl/kstat/zfs/arcstats`: the cache of ZFS, as it looks from a container.
//!
//! The cache is the host's; no part of it is accounted to a cgroup. Tools add its size to
//! the memory that can be had, or subtract it from the memory used. Here there is none.

use super::{Class, meminfo, put, put_spaces, put_u64};
use crate::parse::arcstats::{ArcStats, Line};

/// What the file is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The host's own file: its lines and settings.
    pub host: &'a ArcStats,
    /// What `/proc/meminfo` is made of.
    pub memory: meminfo::Input<'a>,
}

/// Renders the host's lines, in the host's order, with the container's values.
pub fn render(input: &Input<'_>, out: &mut Vec<u8>) {
    let figures = meminfo::Figures::new(&input.memory);
    let c_min = input.host.lines.iter().find(|line| line.name == "c_min");
    put(out, &input.host.head);
    for line in &input.host.lines {
        let value = match &*line.name {
            "c_max" | "c_min" => line.value.min(bytes(figures.total)),
            // The cache wants to be as small as it may.
            "c" => c_min.map_or(0, |line| line.value).min(bytes(figures.total)),
            "memory_all_bytes" => bytes(figures.total),
            "memory_free_bytes" => bytes(figures.free),
            _ => 0,
        };
        put_line(out, line, value);
    }
}

/// The lines that are not zero, with their class. arc_summary(1) divides by `c_min`.
pub const LINES: [(&str, Class); 5] = [
    ("c", Class::Derived),
    ("c_min", Class::Derived),
    ("c_max", Class::Derived),
    ("memory_all_bytes", Class::Exact),
    ("memory_free_bytes", Class::Exact),
];

fn put_line(out: &mut Vec<u8>, line: &Line, value: u64) {
    for (text, width) in [(&line.name, 32), (&line.data_type, 5)] {
        put(out, text);
        put_spaces(out, width.max(text.len() + 1) - text.len());
    }
    put_u64(out, value);
    put(out, "\n");
}

const fn bytes(kb: u64) -> u64 {
    kb.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Limit;
    use crate::cgroup::account::Memory;
    use crate::parse::meminfo::MemInfo;
    use crate::view::swaps::SwapView;

    const HOST: &str = include_str!("../../tests/fixtures/views/arcstats/host-2.3");

    /// The file for a container with this limit.
    fn rendered(host: &str, limit_bytes: u64) -> String {
        let meminfo = MemInfo::parse("MemTotal: 16343704 kB\n");
        let memory = Memory {
            limit_bytes: Limit::Value(limit_bytes),
            usage_bytes: 20 << 20,
            ..Memory::default()
        };
        let input = Input {
            host: &ArcStats::parse(host),
            memory: meminfo::Input {
                host: &meminfo,
                memory: &memory,
                swap: SwapView::new(0, None),
                hide_zswap: false,
            },
        };
        let mut out = Vec::new();
        render(&input, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn renders_a_container_without_a_cache_of_its_own() {
        assert_eq!(
            rendered(HOST, 1 << 30),
            include_str!("../../tests/fixtures/views/arcstats/container-1g")
        );
    }

    #[test]
    fn no_limit_of_the_cache_exceeds_the_containers_memory() {
        let stats = ArcStats::parse(&rendered(HOST, 50 << 20));
        for line in stats.lines {
            assert!(line.value <= 50 << 20, "{line:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_stays_empty() {
        assert_eq!(rendered("", 1 << 30), "");
    }

    #[test]
    fn only_classified_lines_have_values() {
        let stats = ArcStats::parse(&rendered(HOST, 1 << 30));
        let mut named: Vec<_> = stats
            .lines
            .iter()
            .filter(|line| line.value > 0)
            .map(|line| &*line.name)
            .collect();
        let mut known = LINES.map(|(name, _)| name);
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known);
    }
}
