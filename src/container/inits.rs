//! Which inits a cgroup has had. A container in a cgroup that an earlier one has left begins anew.

use parking_lot::Mutex;

use super::TICK_NSEC;
use crate::host::process::Proc;

/// The first process of a pid namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Init {
    pub(crate) pid: i32,
    /// `CLOCK_BOOTTIME`.
    pub(crate) started_nsec: u64,
}

impl Init {
    /// What is known of a process; `None` if it has ended.
    pub(crate) fn of(pid: i32, proc: &Proc) -> Option<Self> {
        let stat = proc.stat(pid)?;
        Some(Self {
            pid,
            started_nsec: stat.starttime_ticks.saturating_mul(TICK_NSEC),
        })
    }

    fn lives(&self, proc: &Proc) -> bool {
        Self::of(self.pid, proc) == Some(*self)
    }
}

/// Those of a container whose processes have read: more than one for sandboxes beside each other.
#[derive(Debug, Default)]
pub(super) struct Inits {
    known: Mutex<Vec<Init>>,
}

impl Inits {
    /// Notes one. Whether all that were there before have ended, if there were any.
    pub(super) fn follows_ended(&self, init: Init, proc: &Proc) -> bool {
        let before = self.known.lock().clone();
        if before.contains(&init) {
            return false;
        }
        let mut living = before.clone();
        living.retain(|known| known.lives(proc));
        let follows = living.is_empty() && !before.is_empty();
        living.push(init);
        let mut known = self.known.lock();
        // Another reader may have been quicker.
        let is_first = *known == before;
        if is_first {
            *known = living;
        }
        follows && is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_follows_when_all_inits_before_have_ended() {
        let dir = tempfile::tempdir().unwrap();
        let start = |pid: i32, ticks: u64| {
            let zeros = "0 ".repeat(18);
            let thread = dir.path().join(format!("{pid}/task/{pid}"));
            std::fs::create_dir_all(&thread).unwrap();
            std::fs::write(
                thread.join("stat"),
                format!("{pid} (a) S {zeros}{ticks} 0\n"),
            )
            .unwrap();
        };
        let end = |pid: i32| std::fs::remove_dir_all(dir.path().join(pid.to_string())).unwrap();
        start(10, 5);
        start(11, 6);
        let proc = Proc::open(dir.path()).unwrap();
        let of = |pid| Init::of(pid, &proc).unwrap();
        let inits = Inits::default();
        let (first, second) = (of(10), of(11));
        assert!(!inits.follows_ended(first, &proc), "the first one");
        assert!(!inits.follows_ended(second, &proc), "one beside it");
        end(10);
        start(12, 8);
        assert!(!inits.follows_ended(of(12), &proc), "the second one lives");
        end(11);
        end(12);
        // Its number is used again.
        start(11, 9);
        assert!(inits.follows_ended(of(11), &proc));
        assert!(!inits.follows_ended(of(11), &proc), "it is known");
    }
}
