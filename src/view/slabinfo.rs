//! `/proc/slabinfo` (kernel: mm/slab_common.c and slabinfo(5)).
//!
//! The kernel tells how much slab memory a cgroup uses, but not in which caches. The file
//! has one line for each of the two kinds that are known, in pages, so that the sums that
//! tools make of it are exact.

use super::{meminfo, put, put_spaces, put_u64_padded};

/// What the file is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// What `/proc/meminfo` is made of.
    pub memory: meminfo::Input<'a>,
    /// Size of a page.
    pub page_kb: u64,
}

const HEADER: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
: tunables <limit> <batchcount> <sharedfactor> \
: slabdata <active_slabs> <num_slabs> <sharedavail>
";

/// Renders both lines, named as in `memory.stat` of cgroup v2. They are there without any
/// memory too: slabtop(1) takes a file without caches for one with absurd ones.
pub fn render(input: &Input<'_>, out: &mut Vec<u8>) {
    let figures = meminfo::Figures::new(&input.memory);
    put(out, HEADER);
    for (name, kb) in [
        ("slab_reclaimable", figures.slab_reclaimable),
        ("slab_unreclaimable", figures.slab_unreclaimable),
    ] {
        let pages = kb.checked_div(input.page_kb).unwrap_or(0);
        put_cache(out, name, pages, input.page_kb.saturating_mul(1024));
    }
}

/// A cache with one object in each slab and one page in each object.
fn put_cache(out: &mut Vec<u8>, name: &str, pages: u64, page_bytes: u64) {
    put(out, name);
    put_spaces(out, 17_usize.saturating_sub(name.len()));
    for (value, width) in [(pages, 6), (pages, 6), (page_bytes, 6), (1, 4), (1, 4)] {
        put(out, " ");
        put_u64_padded(out, value, width);
    }
    put(out, " : tunables    0    0    0 : slabdata");
    for value in [pages, pages, 0] {
        put(out, " ");
        put_u64_padded(out, value, 6);
    }
    put(out, "\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Limit;
    use crate::cgroup::account::{Memory, MemoryStat};
    use crate::parse::meminfo::MemInfo;
    use crate::view::swaps::SwapView;

    fn rendered(stat: MemoryStat, page_kb: u64) -> String {
        let host = MemInfo::parse("MemTotal: 4000000 kB\n");
        let memory = Memory {
            limit_bytes: Limit::Value(50 << 20),
            usage_bytes: 20 << 20,
            stat,
            ..Memory::default()
        };
        let input = Input {
            memory: meminfo::Input {
                host: &host,
                memory: &memory,
                swap: SwapView::new(0, None),
                hide_zswap: false,
            },
            page_kb,
        };
        let mut out = Vec::new();
        render(&input, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Number of slabs, pages in each.
    fn slabs(text: &str) -> Vec<(u64, u64)> {
        let lines = text.lines().skip(2);
        let words = lines.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        words
            .map(|words| (words[14].parse().unwrap(), words[5].parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_sum_is_what_memory_stat_has() {
        let stat = MemoryStat {
            slab_reclaimable: Some(3 << 20),
            slab_unreclaimable: Some(1 << 20),
            ..MemoryStat::default()
        };
        let text = rendered(stat, 4);
        assert_eq!(slabs(&text), [(768, 1), (256, 1)], "{text}");
        assert_eq!(slabs(&rendered(stat, 64)), [(48, 1), (16, 1)]);
    }

    #[test]
    fn lines_have_the_kernels_columns() {
        let text = rendered(MemoryStat::default(), 4);
        let cache = text.lines().last().unwrap();
        assert_eq!(
            cache,
            "slab_unreclaimable      0      0   4096    1    1 : tunables    0    0    0 : slabdata      0      0      0"
        );
        assert!(text.starts_with("slabinfo - version: 2.1\n# name            <active_objs> "));
    }
}
