//! The watch on the cgroup file systems, by which epochs end. It takes root.

use std::fs;

use lxcfs::sys::write_watch::WriteWatch;

/// Others may write there as well, so nothing is said of what must not be noticed.
#[test]
fn what_is_written_or_removed_is_noticed() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let watch = WriteWatch::new().expect("the rights of root");
    watch.add(std::iter::once(dir.path())).expect("a watch");
    let (file, below) = (dir.path().join("file"), dir.path().join("below"));
    fs::write(&file, "1").expect("writing");
    assert!(watch.has_been_written());
    fs::create_dir(&below).expect("a directory");
    while watch.has_been_written() {}
    fs::remove_dir(&below).expect("removing it");
    assert!(watch.has_been_written(), "a directory that is removed");
}
