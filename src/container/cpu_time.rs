//! The CPU time that a container's `/proc/stat` tells of.
//!
//! The kernel accounts what a cgroup used, but not what it left unused. Here the
//! capacity grows with the clock, by one second per second for each CPU shown, and
//! every increment of it is divided into use, steal and idle for good. So nothing
//! ever decreases, whatever happens to limits, CPU sets and the cgroup's counters.

use std::collections::HashMap;

use super::counter::increment;
use super::journal::stored::stored;
use crate::cgroup::account::CpuUsage;
use crate::parse::cpu_list::CpuSet;

#[cfg(test)]
mod tests;

/// How much use beyond the capacity is made up for later, for each CPU shown. A
/// quota allows bursts on more CPUs than are shown.
const USED_CARRY_NSEC: u64 = 1_000_000_000;

/// How much throttled time may be shown later than it happened, for each CPU
/// shown: one usual period of the quota. The kernel tells of it only when the
/// throttling ends, and a frequent reader has no capacity left at that instant.
const STEAL_CARRY_NSEC: u64 = 100_000_000;

/// More than any real increment; keeps sums of increments free of overflow.
const FAR_NSEC: u64 = u64::MAX / 4;

/// Accumulated time of one CPU in nanoseconds; kernel:
/// Documentation/filesystems/proc.rst, "/proc/stat".
#[allow(
    missing_docs,
    reason = "the kernel's own names, documented in proc.rst"
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    pub user_nsec: u64,
    pub nice_nsec: u64,
    pub system_nsec: u64,
    pub idle_nsec: u64,
    pub steal_nsec: u64,
}

stored!(Times {
    user_nsec,
    nice_nsec,
    system_nsec,
    idle_nsec,
    steal_nsec,
});

impl Times {
    fn add(&mut self, other: &Self) {
        self.user_nsec = self.user_nsec.saturating_add(other.user_nsec);
        self.nice_nsec = self.nice_nsec.saturating_add(other.nice_nsec);
        self.system_nsec = self.system_nsec.saturating_add(other.system_nsec);
        self.idle_nsec = self.idle_nsec.saturating_add(other.idle_nsec);
        self.steal_nsec = self.steal_nsec.saturating_add(other.steal_nsec);
    }
}

/// One CPU that the container is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Physical id.
    pub id: usize,
    /// Its time since the container's start.
    pub times: Times,
}

stored!(Cpu { id, times });

/// Used time by kind; niced time is not part of `user_nsec` here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    user_nsec: u64,
    nice_nsec: u64,
    system_nsec: u64,
}

stored!(Used {
    user_nsec,
    nice_nsec,
    system_nsec,
});

impl Used {
    fn total_nsec(&self) -> u64 {
        self.user_nsec + self.nice_nsec + self.system_nsec
    }

    /// Takes `amount_nsec`, or all there is, out of every kind alike. The parts
    /// sum up exactly.
    fn take(&mut self, amount_nsec: u64) -> Self {
        let total = self.total_nsec();
        if amount_nsec >= total {
            return std::mem::take(self);
        }
        let user = mul_div(self.user_nsec, amount_nsec, total);
        let user_nice = mul_div(self.user_nsec + self.nice_nsec, amount_nsec, total);
        let taken = Self {
            user_nsec: user,
            nice_nsec: user_nice - user,
            system_nsec: amount_nsec - user_nice,
        };
        self.user_nsec -= taken.user_nsec;
        self.nice_nsec -= taken.nice_nsec;
        self.system_nsec -= taken.system_nsec;
        taken
    }
}

/// How one CPU spent one increment.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    free_nsec: u64,
    used_nsec: u64,
    steal_nsec: u64,
}

impl Slot {
    fn fill(&mut self, amount_nsec: u64, into: fn(&mut Self) -> &mut u64) -> u64 {
        let part = amount_nsec.min(self.free_nsec);
        self.free_nsec -= part;
        *into(self) += part;
        part
    }
}

/// The CPUs that were shown once and are not now, each with its time up to then. The
/// kernel's lines go on where they were as well when a CPU has been off-line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Away {
    times: HashMap<usize, Times>,
}

stored!(Away { times });

impl Away {
    /// These CPUs, in no order.
    pub fn cpus(&self) -> impl Iterator<Item = Cpu> + '_ {
        self.times.iter().map(|(&id, &times)| Cpu { id, times })
    }

    /// The sum over all of them.
    #[must_use]
    pub fn total(&self) -> Times {
        let mut total = Times::default();
        self.times.values().for_each(|times| total.add(times));
        total
    }
}

/// The CPU time of one container, by CPU shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Up to where the capacity has been divided.
    last_nsec: u64,
    /// The CPUs shown, in ascending order.
    cpus: Vec<Cpu>,
    /// How far the cgroup's counters have been taken over.
    seen: CpuUsage,
    used_carry: Used,
    steal_carry_nsec: u64,
}

stored!(CpuTime {
    last_nsec,
    cpus,
    seen,
    used_carry,
    steal_carry_nsec,
} if CpuTime::is_sound);

impl CpuTime {
    /// Time of a container that started at `origin_nsec`, on the clock that
    /// [`advance`](Self::advance) is given.
    #[must_use]
    pub fn new(origin_nsec: u64) -> Self {
        Self {
            last_nsec: origin_nsec,
            ..Self::default()
        }
    }

    /// Begins anew at `origin_nsec`, for another container in the same cgroup, whose counters go on.
    pub fn begin_again(&mut self, origin_nsec: u64) {
        let seen = std::mem::take(&mut self.seen);
        *self = Self {
            seen,
            ..Self::new(origin_nsec)
        };
    }

    /// Whether sums stay free of overflow. Only a damaged journal can have it otherwise.
    fn is_sound(&self) -> bool {
        let Used {
            user_nsec,
            nice_nsec,
            system_nsec,
        } = self.used_carry;
        [user_nsec, nice_nsec, system_nsec].map(|part| part <= FAR_NSEC / 3) == [true; 3]
    }

    /// The CPUs of the last increment, in ascending order; none before the first.
    #[must_use]
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// The throttled time that it was told of last.
    #[must_use]
    pub fn throttled_seen_nsec(&self) -> u64 {
        self.seen.throttled_nsec
    }

    /// The sum over the CPUs of the last increment.
    #[must_use]
    pub fn total(&self) -> Times {
        let mut total = Times::default();
        self.cpus.iter().for_each(|cpu| total.add(&cpu.times));
        total
    }

    /// Divides the time since the last call. `away` has the CPUs that are not shown any more.
    ///
    /// The first call covers the container's whole life. Readings may overtake each
    /// other; counters that fall to less than half belong to a new cgroup and count
    /// from their present value. An empty `shown` means the CPUs as before.
    pub fn advance(&mut self, now_nsec: u64, shown: &CpuSet, usage: &CpuUsage, away: &mut Away) {
        let before = self.cpus.len();
        self.show(shown, away);
        if self.cpus.is_empty() {
            return;
        }
        let elapsed_nsec = now_nsec.saturating_sub(self.last_nsec);
        self.last_nsec = self.last_nsec.max(now_nsec);

        // When the set was changed is not known; what was used tells that there was more.
        let cpus = self.cpus.len() as u64;
        let most = cpus.max(before as u64);
        let mut used = self.take_used(usage, elapsed_nsec.saturating_mul(most));
        let beyond_nsec = used
            .total_nsec()
            .saturating_sub(elapsed_nsec.saturating_mul(cpus));
        let mut slots = vec![
            Slot {
                free_nsec: elapsed_nsec.saturating_add(beyond_nsec.div_ceil(cpus)),
                ..Slot::default()
            };
            self.cpus.len()
        ];
        let unplaced_nsec = self.place(&mut slots, used.total_nsec(), usage);
        pour(&mut slots, unplaced_nsec, |slot| &mut slot.used_nsec);
        self.steal(&mut slots, usage);
        for (cpu, slot) in self.cpus.iter_mut().zip(&slots) {
            let used = used.take(slot.used_nsec);
            cpu.times.add(&Times {
                user_nsec: used.user_nsec,
                nice_nsec: used.nice_nsec,
                system_nsec: used.system_nsec,
                idle_nsec: slot.free_nsec,
                steal_nsec: slot.steal_nsec,
            });
        }
        self.seen.per_cpu_nsec.clone_from(&usage.per_cpu_nsec);
    }

    /// Changes the set of CPUs. Those that leave keep their time for when they come back.
    fn show(&mut self, shown: &CpuSet, away: &mut Away) {
        if shown.is_empty() || self.cpus.iter().map(|cpu| cpu.id).eq(shown.iter()) {
            return;
        }
        let leaving = self.cpus.drain(..).map(|cpu| (cpu.id, cpu.times));
        away.times.extend(leaving);
        let known = |id| Cpu {
            id,
            times: away.times.remove(&id).unwrap_or_default(),
        };
        self.cpus = shown.iter().map(known).collect();
    }

    /// What the cgroup used since the last increment, and what was left over
    /// then, as far as it fits into the capacity.
    fn take_used(&mut self, usage: &CpuUsage, capacity_nsec: u64) -> Used {
        let new = self.increment(usage);
        let mut pool = self.used_carry;
        pool.user_nsec += new.user_nsec;
        pool.nice_nsec += new.nice_nsec;
        pool.system_nsec += new.system_nsec;
        let used = pool.take(capacity_nsec);
        self.used_carry = pool.take(USED_CARRY_NSEC * self.cpus.len() as u64);
        used
    }

    /// What the cgroup used since the last increment, which is taken over thereby.
    ///
    /// The kernel knows the sum better than its kinds: on cgroup v1 one kind may
    /// go backwards while the other makes a leap. Then the kind that was given too
    /// much waits for its counter.
    fn increment(&mut self, usage: &CpuUsage) -> Used {
        let total = |usage: &CpuUsage| usage.user_nsec.saturating_add(usage.system_nsec);
        let seen_nsec = total(&self.seen);
        let mut now_nsec = seen_nsec;
        let used_nsec = increment(&mut now_nsec, total(usage));
        if now_nsec < seen_nsec || used_nsec > FAR_NSEC {
            self.seen.clone_from(usage);
            return Used::default();
        }
        let user_nsec = used_nsec.min(usage.user_nsec.saturating_sub(self.seen.user_nsec));
        let nice_seen_nsec = self.seen.nice_nsec.unwrap_or(0);
        let nice_nsec = usage.nice_nsec.unwrap_or(0).saturating_sub(nice_seen_nsec);
        let nice_nsec = nice_nsec.min(user_nsec);
        let system_nsec = used_nsec - user_nsec;
        self.seen.user_nsec += user_nsec;
        self.seen.nice_nsec = Some(nice_seen_nsec.saturating_add(nice_nsec));
        self.seen.system_nsec += system_nsec;
        Used {
            user_nsec: user_nsec - nice_nsec,
            nice_nsec,
            system_nsec,
        }
    }

    /// Puts use where the kernel measured it, if it did; returns what is left:
    /// the use of CPUs that are full or not shown.
    fn place(&self, slots: &mut [Slot], used_nsec: u64, usage: &CpuUsage) -> u64 {
        let Some(measured) = &usage.per_cpu_nsec else {
            return used_nsec;
        };
        let seen = self.seen.per_cpu_nsec.as_deref().unwrap_or_default();
        let increment = |id: usize| {
            let now = measured.get(id).copied().unwrap_or(0);
            now.saturating_sub(seen.get(id).copied().unwrap_or(0))
        };
        let sum_nsec = (0..measured.len())
            .map(increment)
            .fold(0, u64::saturating_add);
        let mut left_nsec = used_nsec;
        for (cpu, slot) in self.cpus.iter().zip(slots) {
            let part = mul_div(used_nsec, increment(cpu.id), sum_nsec);
            left_nsec -= slot.fill(part.min(left_nsec), |slot| &mut slot.used_nsec);
        }
        left_nsec
    }

    /// Turns idle capacity into steal for as long as the quota held tasks back.
    fn steal(&mut self, slots: &mut [Slot], usage: &CpuUsage) {
        let throttled_nsec = increment(&mut self.seen.throttled_nsec, usage.throttled_nsec)
            .saturating_add(self.steal_carry_nsec);
        let left_nsec = pour(slots, throttled_nsec, |slot| &mut slot.steal_nsec);
        self.steal_carry_nsec = left_nsec.min(STEAL_CARRY_NSEC * slots.len() as u64);
    }
}

/// Spreads an amount evenly over free capacity; returns what does not fit.
fn pour(slots: &mut [Slot], amount_nsec: u64, into: fn(&mut Slot) -> &mut u64) -> u64 {
    let mut left_nsec = amount_nsec;
    let mut slots_left = slots.len() as u64;
    for slot in slots.iter_mut() {
        left_nsec -= slot.fill(left_nsec.div_ceil(slots_left), into);
        slots_left -= 1;
    }
    for slot in slots {
        left_nsec -= slot.fill(left_nsec, into);
    }
    left_nsec
}

/// `value * part / whole`, where `part <= whole`; 0 of nothing.
fn mul_div(value: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    value.checked_mul(part).map_or_else(
        || {
            let quotient = u128::from(value) * u128::from(part) / u128::from(whole);
            u64::try_from(quotient).unwrap_or(u64::MAX)
        },
        |product| product / whole,
    )
}
