//! Tables for people.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::Path;

use crate::places::survey::Row;

/// Lines of cells under headings, each column as wide as what is in it. Columns of numbers
/// are aligned to the right.
pub fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let headings = headings.map(str::to_owned);
    let lines = || std::iter::once(&headings).chain(rows);
    let mut text = String::new();
    let widths: Vec<_> = (0..N)
        .map(|column| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        cells.all(|cell| cell.parse::<u64>().is_ok())
    };
    let to_the_right: Vec<_> = (0..N).map(is_number).collect();
    for line in lines() {
        let cells = line.iter().zip(&widths).zip(&to_the_right);
        let padded = cells.map(|((cell, width), right)| {
            if *right {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// What became of mounts in containers.
pub fn of_rows<O: Display>(rows: &[Row<O>]) -> String {
    let cells: Vec<_> = rows.iter().map(cells).collect();
    table(["CONTAINER", "PID", "PATH", "RESULT"], &cells)
}

fn cells<O: Display>(row: &Row<O>) -> [String; 4] {
    let unknown = || "-".to_owned();
    let path = row.path.as_deref().map(shown);
    [
        row.container.clone().unwrap_or_else(unknown),
        row.pid.to_string(),
        path.unwrap_or_else(unknown),
        row.outcome.to_string(),
    ]
}

/// A path of a container, which may be up to no good with a terminal. Disks go by the link that
/// people know.
pub fn shown(path: &Path) -> String {
    let disk = disk(path).map(|name| Path::new("/sys/block").join(name));
    let path = disk.as_deref().unwrap_or(path);
    path.to_string_lossy().escape_debug().to_string()
}

/// The name of the disk whose directory in sysfs this is.
fn disk(path: &Path) -> Option<&OsStr> {
    let parent = path.parent()?;
    let is_disk = parent.starts_with("/sys/devices") && parent.ends_with("block");
    path.file_name().filter(|_| is_disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let rows = [
            row(["3f2a6b1c9d8e", "7", "replaced"]),
            row(["-", "123456", "not repaired: why"]),
        ];
        let expected = "CONTAINER        PID  RESULT\n\
                        3f2a6b1c9d8e       7  replaced\n\
                        -             123456  not repaired: why\n";
        assert_eq!(table(["CONTAINER", "PID", "RESULT"], &rows), expected);
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let row = Row {
            container: None,
            pid: 7,
            path: None,
            outcome: "not repaired: why",
        };
        let expected = "CONTAINER  PID  PATH  RESULT\n\
                        -            7  -     not repaired: why\n";
        assert_eq!(of_rows(&[row]), expected);
    }

    #[test]
    fn a_disk_has_one_name_wherever_its_directory_is() {
        for (path, expected) in [
            ("/sys/block/vda", "/sys/block/vda"),
            (
                "/sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda",
                "/sys/block/vda",
            ),
            ("/sys/devices/virtual/block/zram0", "/sys/block/zram0"),
            ("/sys/devices/system/cpu", "/sys/devices/system/cpu"),
            ("/srv/block/vda", "/srv/block/vda"),
        ] {
            assert_eq!(shown(Path::new(path)), expected);
        }
    }

    #[test]
    fn a_path_cannot_steer_a_terminal() {
        assert_eq!(shown(Path::new("/a\u{1b}[2J\nb")), "/a\\u{1b}[2J\\nb");
    }
}
