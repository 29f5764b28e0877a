//! What load averages cost: many containers with many tasks.

use std::time::{Duration, Instant};

use std::process::{Child, Command, Stdio};

use crate::common::Cgroup;
use crate::contender::{Contender, Who};
use crate::targets::Targets;

/// The first argument that makes this program a process with many idle threads, that reads a file now and then.
pub const IDLE: &str = "--idle";

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many containers
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Tasks of each
    #[arg(long, default_value_t = 20)]
    tasks: usize,
    /// Whose
    #[arg(long, value_enum, value_delimiter = ',', default_value = "lxcfs,ours")]
    who: Vec<Who>,
    /// How long each is watched
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Every container has been looked at once by then.
const SETTLE: Duration = Duration::from_secs(6);

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

fn start(contender: &Contender, tasks: usize, is_read: bool) -> Idle {
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
        .args([IDLE, &tasks.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .expect("starting a container");
    Idle { child, cgroup }
}

/// Prints the share of a CPU that the daemon takes while nobody reads.
pub fn table(options: &Options, targets: &mut Targets) {
    println!(
        "{} containers of {} tasks; share of one CPU over {} s in which nobody reads",
        options.count, options.tasks, options.seconds
    );
    println!("who       read before    cpu %");
    for is_read in [false, true] {
        for who in &options.who {
            let Some(contender) = who.start(&[]) else {
                continue;
            };
            let containers: Vec<_> = (0..options.count)
                .map(|_| start(&contender, options.tasks, is_read))
                .collect();
            std::thread::sleep(SETTLE);
            let (before, begin) = (contender.cpu_time(), Instant::now());
            std::thread::sleep(Duration::from_secs(options.seconds));
            let cpu = contender.cpu_time().saturating_sub(before).as_secs_f64();
            let percent = cpu / begin.elapsed().as_secs_f64() * 100.0;
            drop(containers);
            let (word, most) = if is_read { ("yes", 2.0) } else { ("no", 0.1) };
            println!("{:8} {word:>12} {percent:>8.2}", who.name());
            if *who == Who::Ours {
                let what = format!(
                    "load averages, {} containers, read before: {word}; CPU %",
                    options.count
                );
                targets.at_most(most, percent, what);
            }
        }
    }
}
