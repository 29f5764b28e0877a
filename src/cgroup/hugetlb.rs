//! Huge pages (kernel: Documentation/admin-guide/cgroup-v1/hugetlb.rst, cgroup-v2.rst).

use super::account::Hugetlb;
use super::{Error, Node, Version, nearest_number, smallest_limit};

/// One page size with the names of its files.
struct Size {
    page_kb: u64,
    v1: Files,
    v2: Files,
}

struct Files {
    limit: &'static str,
    usage: &'static str,
}

macro_rules! size {
    ($name:literal, $page_kb:expr) => {
        Size {
            page_kb: $page_kb,
            v1: Files {
                limit: concat!("hugetlb.", $name, ".limit_in_bytes"),
                usage: concat!("hugetlb.", $name, ".usage_in_bytes"),
            },
            v2: Files {
                limit: concat!("hugetlb.", $name, ".max"),
                usage: concat!("hugetlb.", $name, ".current"),
            },
        }
    };
}

/// The sizes of all architectures.
const SIZES: [Size; 8] = [
    size!("64KB", 64),
    size!("1MB", 1024),
    size!("2MB", 2048),
    size!("16MB", 16 * 1024),
    size!("32MB", 32 * 1024),
    size!("512MB", 512 * 1024),
    size!("1GB", 1024 * 1024),
    size!("16GB", 16 * 1024 * 1024),
];

pub(super) fn hugetlb(version: Version, node: &Node) -> Result<Vec<Hugetlb>, Error> {
    let mut sizes = Vec::new();
    for size in &SIZES {
        let files = match version {
            Version::V1 => &size.v1,
            Version::V2 => &size.v2,
        };
        if let Some(usage_bytes) = nearest_number(node, files.usage)? {
            let limit_bytes = smallest_limit(node, files.limit)?;
            sizes.push(Hugetlb {
                page_kb: size.page_kb,
                limit_bytes,
                usage_bytes,
            });
        }
    }
    Ok(sizes)
}
