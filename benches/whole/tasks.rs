//! What load averages cost: many containers with many tasks.

use std::time::{Duration, Instant};

use std::process::{Child, Command, Stdio};

use crate::common::Cgroup;
use crate::contender::Contender;

/// The first argument that makes this program a process with many idle threads, that reads a file now and then.
pub const IDLE: &str = "--idle";

const CONTAINERS: usize = 1000;
const THREADS: usize = 20;
const TIME: Duration = Duration::from_secs(60);

/// Sleeps with this many threads for ever.
pub fn idle(threads: usize) {
    for _ in 1..threads {
        let small = std::thread::Builder::new().stack_size(16 << 10);
        small
            .spawn(|| {
                loop {
                    std::thread::park();
                }
            })
            .expect("a thread");
    }
    loop {
        std::thread::park();
    }
}

struct Idle {
    child: Child,
    cgroup: Cgroup,
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.cgroup.remove();
    }
}

fn start(contender: &Contender, is_read: bool) -> Idle {
    let cgroup = Cgroup::create();
    let first = if is_read {
        format!("cat {} > /dev/null\n", contender.path("loadavg"))
    } else {
        String::new()
    };
    let script = format!("{}{first}exec \"$@\"", cgroup.enter_script());
    let child = Command::new("sh")
        .args(["-ec", &script, "start"])
        .arg(std::env::current_exe().expect("this program"))
        .args([IDLE, &THREADS.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .expect("starting a container");
    Idle { child, cgroup }
}

/// Prints the share of a CPU that the daemon takes while nobody reads.
pub fn table() {
    println!(
        "{CONTAINERS} containers of {THREADS} tasks; share of one CPU over {} s in which nobody reads",
        TIME.as_secs()
    );
    println!("who       read before    cpu %");
    for make in [Contender::peer, || Some(Contender::ours())] {
        for is_read in [false, true] {
            let Some(contender) = make() else { continue };
            let containers: Vec<_> = (0..CONTAINERS)
                .map(|_| start(&contender, is_read))
                .collect();
            std::thread::sleep(Duration::from_secs(6));
            let (before, begin) = (contender.cpu_time(), Instant::now());
            std::thread::sleep(TIME);
            let cpu = contender.cpu_time().saturating_sub(before).as_secs_f64();
            let share = cpu / begin.elapsed().as_secs_f64() * 100.0;
            println!(
                "{:8} {:>12} {share:>8.2}",
                contender.name,
                if is_read { "yes" } else { "no" }
            );
            drop(containers);
        }
    }
}
