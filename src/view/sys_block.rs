//! `/sys/block`: the host's disks with the container's figures (kernel:
//! Documentation/block/stat.rst and ABI/stable/sysfs-block).
//!
//! Paths are relative to that directory, e.g. `sda/stat`.

use std::borrow::Cow;

use super::diskstats::columns;
use super::sysfs::without_counts;
use super::{put, put_u64_padded};
use crate::container::apportion::Disk;

/// Files of zram that tell how full it is and what has been done with it.
const ZRAM: [&str; 4] = ["bd_stat", "debug_stat", "io_stat", "mm_stat"];

/// The disk of which `path` is the file `stat`, e.g. `sda` for `sda/stat`. Partitions have
/// one too, but I/O is accounted by disk.
#[must_use]
pub fn disk_of_stat(path: &str) -> Option<&str> {
    path.strip_suffix("/stat")
        .filter(|disk| !disk.contains('/'))
}

/// The file `stat` of a disk, with as many columns as the `host`'s.
#[must_use]
pub fn stat(disk: &Disk, host: &[u8]) -> Vec<u8> {
    let count = String::from_utf8_lossy(host)
        .split_ascii_whitespace()
        .count();
    let mut text = Vec::with_capacity(9 * count);
    for (index, column) in columns(disk).take(count).enumerate() {
        if index > 0 {
            put(&mut text, " ");
        }
        put_u64_padded(&mut text, column, 8);
    }
    put(&mut text, "\n");
    text
}

/// The content of any other file. Those that count the host's I/O are zero.
#[must_use]
pub fn narrow<'a>(path: &str, content: &'a [u8]) -> Cow<'a, [u8]> {
    let parts: Vec<&str> = path.split('/').collect();
    let counts = match parts.as_slice() {
        [_, "inflight"] | [_, _, "stat" | "inflight"] => true,
        [_, name] => ZRAM.contains(name),
        [.., "power", name] => name.starts_with("runtime_") && name.ends_with("_time"),
        _ => false,
    };
    if counts {
        Cow::Owned(without_counts(path, &String::from_utf8_lossy(content)).into_bytes())
    } else {
        Cow::Borrowed(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::account::DeviceIo;

    #[test]
    fn has_the_columns_and_the_widths_of_the_kernel() {
        let disk = Disk {
            io: DeviceIo {
                reads: 120,
                read_bytes: 123_456_789_504,
                ..DeviceIo::default()
            },
            ..Disk::default()
        };
        let old = "       1        2        3        4        5        6        7        8        9       10       11\n";
        assert_eq!(
            String::from_utf8(stat(&disk, old.as_bytes())).unwrap(),
            "     120        0 241126542        0        0        0        0        0        0        0        0\n"
        );
        let new = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n";
        let text = String::from_utf8(stat(&disk, new.as_bytes())).unwrap();
        assert_eq!(text.split_ascii_whitespace().count(), 17);
    }

    #[test]
    fn only_disks_have_figures_of_the_container() {
        assert_eq!(disk_of_stat("sda/stat"), Some("sda"));
        for path in ["sda/sda1/stat", "stat", "sda/inflight", "sda"] {
            assert_eq!(disk_of_stat(path), None, "{path}");
        }
    }

    #[test]
    fn counts_of_the_host_are_zero_and_facts_stay() {
        let seen = |path: &str, text: &str| {
            String::from_utf8(narrow(path, text.as_bytes()).into_owned()).unwrap()
        };
        assert_eq!(
            seen("sda/inflight", "       3       14\n"),
            "       0       0\n"
        );
        assert_eq!(seen("sda/sda1/stat", "  12   3\n"), "  0   0\n");
        assert_eq!(seen("zram0/mm_stat", " 4096 12 0\n"), " 0 0 0\n");
        assert_eq!(seen("sda/size", "419430400\n"), "419430400\n");
        assert_eq!(seen("sda/queue/nr_requests", "256\n"), "256\n");
    }
}
