//! A request that was interrupted and is sent again makes some kernels crash, so none is interrupted.

use std::process::{Command, Stdio};
use std::time::Duration;

use lxcfs::host::kernel_is_since;
use lxcfs::ops::control::{self, ask};
use lxcfs::ops::protocol::{Request, Status, StatusRequest};

use crate::common::{Daemon, beside_others, patience, skip, slowness, wait_for};
use crate::faults::{self, FAULT};
use crate::planned::take_over;

/// Interrupts readers while their requests are being worked on; gives how many INTERRUPT requests have come since the
/// daemon's start.
#[track_caller]
fn interrupt(daemon: &Daemon) -> usize {
    for _ in 0..3 {
        let requests = || daemon.log().matches(" READ ").count();
        let before = requests();
        let mut reader = Command::new("cat")
            .arg(daemon.path("proc/meminfo"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a reader");
        let reads = || (requests() > before).then_some(());
        let reads = wait_for(patience(10), reads);
        reads.unwrap_or_else(|| panic!("no request: {}", daemon.log()));
        reader.kill().expect("killing the reader");
        reader.wait().expect("the end of the reader");
    }
    daemon.log().matches("INTERRUPT").count()
}

fn start(options: &[&str]) -> Daemon {
    let delay = Duration::from_millis(300) * slowness();
    let fault = format!("meminfo:delay={}", delay.as_millis());
    let daemon = Daemon::start_with(
        options,
        &[(FAULT, &fault), ("RUST_LOG", "info,fuser=debug")],
    );
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
    daemon
}

#[test]
fn no_request_is_interrupted_where_one_can_be_sent_again() {
    if !kernel_is_since(6, 9) {
        skip!("a kernel before 6.9 cannot send requests again");
    }
    if !faults::are_there() {
        skip!("a release build has no request that is slow");
    }
    let _turn = beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = start(&["--runtime-dir", dir.path().to_str().expect("ASCII")]);
    assert_eq!(interrupt(&daemon), 0, "{}", daemon.log());
    let status = ask::<Status>(
        &control::path(dir.path()),
        Request::Status(StatusRequest {}),
    );
    let status = status.expect("an answer").expect("a daemon");
    assert_eq!(
        (status.pid, status.resends_interrupted),
        (daemon.pid(), false)
    );
    take_over(&daemon);
    assert_eq!(interrupt(&daemon), 0, "{}", daemon.log());
    // The same is seen where it is left as it is.
    let other = start(&["--no-resend"]);
    assert_ne!(interrupt(&other), 0, "{}", other.log());
}
