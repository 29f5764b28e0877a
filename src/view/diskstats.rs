//! `/proc/diskstats` (kernel: Documentation/admin-guide/iostats.rst).

use super::{put, put_u64, put_u64_padded};
use crate::cgroup::account::DeviceIo;
use crate::container::apportion::Disk;
use crate::parse::diskstats::Device;

/// What the file is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The host's lines, which give order, names and number of columns.
    pub host: &'a [Device],
    /// What the container did on each disk.
    pub disks: &'a [Disk],
    /// Device numbers of disks that are shown though they were not used: those that
    /// back the container's mounts. Whole disks, as I/O is accounted by disk.
    pub backing: &'a [(u32, u32)],
}

/// Renders the disks that the container used or has, in the host's order.
pub fn render(input: &Input<'_>, out: &mut Vec<u8>) {
    for device in input.host {
        let used = input.disks.iter().find(|disk| {
            (disk.io.major, disk.io.minor) == (device.major, device.minor) && is_used(&disk.io)
        });
        let unused = Disk::default();
        if used.is_some() || input.backing.contains(&(device.major, device.minor)) {
            put_device(out, device, used.unwrap_or(&unused));
        }
    }
}

fn put_device(out: &mut Vec<u8>, device: &Device, disk: &Disk) {
    put_u64_padded(out, device.major.into(), 4);
    put(out, " ");
    put_u64_padded(out, device.minor.into(), 7);
    put(out, " ");
    put(out, &device.name);
    for column in columns(disk).take(device.columns.len()) {
        put(out, " ");
        put_u64(out, column);
    }
    put(out, "\n");
}

/// The columns behind the name, without end: those of later kernels are zero.
pub(super) fn columns(disk: &Disk) -> impl Iterator<Item = u64> {
    // Merges, I/Os in flight and flushes are not accounted by cgroup.
    let Disk { io, time } = disk;
    let known = [
        io.reads,
        0,
        io.read_bytes / 512,
        time.read_msec,
        io.writes,
        0,
        io.written_bytes / 512,
        time.write_msec,
        0,
        time.io_msec,
        time.weighted_msec,
        io.discards,
        0,
        io.discarded_bytes / 512,
        time.discard_msec,
    ];
    known.into_iter().chain(std::iter::repeat(0))
}

fn is_used(io: &DeviceIo) -> bool {
    io.reads > 0 || io.writes > 0 || io.discards > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::apportion::DiskMsec;
    use crate::parse::diskstats::parse;

    fn rendered(host: &[Device], disks: &[Disk], backing: &[(u32, u32)]) -> String {
        let mut out = Vec::new();
        let input = Input {
            host,
            disks,
            backing,
        };
        render(&input, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn disk() -> Disk {
        Disk {
            io: DeviceIo {
                major: 254,
                minor: 0,
                reads: 120,
                writes: 30,
                discards: 2,
                read_bytes: 4_915_200,
                written_bytes: 1_048_576,
                discarded_bytes: 8_192,
            },
            time: DiskMsec {
                read_msec: 71,
                write_msec: 12,
                discard_msec: 1,
                io_msec: 40,
                weighted_msec: 84,
            },
        }
    }

    #[test]
    fn renders_the_disks_of_a_container_and_no_others() {
        let host = parse(include_str!(
            "../../tests/fixtures/views/diskstats/host-6.18"
        ));
        assert_eq!(
            rendered(&host, &[disk()], &[(253, 0)]),
            include_str!("../../tests/fixtures/views/diskstats/container-6.18")
        );
    }

    #[test]
    fn has_as_many_columns_as_the_hosts_kernel() {
        for columns in [11, 15, 17, 19] {
            let host = Device {
                major: 254,
                minor: 0,
                name: "vda".to_owned(),
                columns: vec![7; columns],
            };
            let text = rendered(&[host], &[disk()], &[]);
            assert_eq!(text.split_ascii_whitespace().count(), 3 + columns);
        }
    }

    #[test]
    fn a_disk_listed_without_io_counts_as_unused() {
        let host = parse("254 0 vda 1 2 3 4 5 6 7 8 9 10 11\n");
        let mut idle = disk();
        (idle.io.reads, idle.io.writes, idle.io.discards) = (0, 0, 0);
        assert_eq!(rendered(&host, &[idle], &[]), "");
        assert_eq!(
            rendered(&host, &[], &[(254, 0)]),
            " 254       0 vda 0 0 0 0 0 0 0 0 0 0 0\n"
        );
    }
}
