//! `/proc/swaps`, and the one swap snapshot that `/proc/meminfo` shows as well.

use super::{put, put_u64};
use crate::cgroup::account::Swap;

/// Swap as the container sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwapView {
    /// What the container may use.
    pub total_kb: u64,
    /// What it uses, never more than `total_kb`.
    pub used_kb: u64,
}

impl SwapView {
    /// Swap under the cgroup's limit and the host's `SwapTotal`. Nothing where swap
    /// is not accounted: neither use nor limit would be the container's.
    #[must_use]
    pub fn new(host_total_kb: u64, swap: Option<Swap>) -> Self {
        swap.map_or_else(Self::default, |swap| {
            let total_kb = swap
                .limit_bytes
                .or_at_most(host_total_kb.saturating_mul(1024))
                / 1024;
            Self {
                total_kb,
                used_kb: total_kb.min(swap.usage_bytes / 1024),
            }
        })
    }

    /// The part that is not used.
    #[must_use]
    pub fn free_kb(&self) -> u64 {
        self.total_kb.saturating_sub(self.used_kb)
    }
}

/// Renders `/proc/swaps` (kernel: `mm/swapfile.c`): one virtual area that stands for
/// all of the host's, or none.
pub fn render(swap: &SwapView, out: &mut Vec<u8>) {
    put(out, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    if swap.total_kb == 0 {
        return;
    }
    put(out, "none                                    virtual\t\t");
    for kb in [swap.total_kb, swap.used_kb] {
        put_u64(out, kb);
        // Two tab stops to a column, as the kernel does it.
        put(out, if kb < 10_000_000 { "\t\t" } else { "\t" });
    }
    put(out, "0\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Limit;

    fn rendered(view: SwapView) -> String {
        let mut out = Vec::new();
        render(&view, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn swap(limit_bytes: Limit, usage_bytes: u64) -> Option<Swap> {
        Some(Swap {
            limit_bytes,
            usage_bytes,
        })
    }

    #[test]
    fn shows_one_virtual_area() {
        let view = SwapView::new(4_194_300, swap(Limit::Value(104_857_600), 5_242_880));
        assert_eq!(
            rendered(view),
            "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
             none                                    virtual\t\t102400\t\t5120\t\t0\n"
        );
    }

    #[test]
    fn shows_only_the_header_without_swap() {
        for view in [
            SwapView::new(4_194_300, None),
            SwapView::new(4_194_300, swap(Limit::Value(0), 0)),
            SwapView::new(0, swap(Limit::Max, 0)),
        ] {
            assert_eq!(
                rendered(view),
                "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
            );
        }
    }

    #[test]
    fn use_above_a_lowered_limit_leaves_nothing_free() {
        let view = SwapView::new(4_194_300, swap(Limit::Value(10_485_760), 44_785_664));
        assert_eq!(
            (view.total_kb, view.used_kb, view.free_kb()),
            (10_240, 10_240, 0)
        );
    }

    #[test]
    fn the_hosts_swap_is_the_ceiling() {
        for limit in [Limit::Max, Limit::Value(u64::MAX)] {
            let view = SwapView::new(20_000_000, swap(limit, u64::MAX));
            assert_eq!(view.total_kb, 20_000_000);
            assert!(rendered(view).ends_with("virtual\t\t20000000\t20000000\t0\n"));
        }
    }
}
