//! CPU lists such as `0-3,8` (kernel: Documentation/admin-guide/cputopology.rst).

use std::fmt;

use super::ParseError;

/// Largest CPU id that is accepted; twice what any kernel is built for.
const MAX_CPU: usize = 16_383;

/// A set of physical CPU ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuSet {
    words: Vec<u64>,
}

impl CpuSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: Vec::new() }
    }

    /// Parses a list of ids and ranges; an empty text is the empty set.
    ///
    /// # Errors
    /// A part that is neither `N` nor `N-M`, or an id beyond any kernel's.
    pub fn parse(file: &'static str, text: &str) -> Result<Self, ParseError> {
        let mut set = Self::new();
        let text = text.trim();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.parse::<usize>(), last.parse::<usize>()) {
                (Ok(first), Ok(last)) if first <= last && last <= MAX_CPU => {
                    (first..=last).for_each(|cpu| set.insert(cpu));
                }
                _ => return Err(ParseError::new(file, "CPU list", text)),
            }
        }
        Ok(set)
    }

    /// Adds a CPU; ids beyond any kernel's are ignored.
    pub fn insert(&mut self, cpu: usize) {
        if cpu > MAX_CPU {
            return;
        }
        if self.words.len() <= cpu / 64 {
            self.words.resize(cpu / 64 + 1, 0);
        }
        if let Some(word) = self.words.get_mut(cpu / 64) {
            *word |= 1 << (cpu % 64);
        }
    }

    /// Whether `cpu` is in the set.
    #[must_use]
    pub fn contains(&self, cpu: usize) -> bool {
        self.words
            .get(cpu / 64)
            .is_some_and(|word| word & (1 << (cpu % 64)) != 0)
    }

    /// Number of CPUs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether there is no CPU in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The ids in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            (0..64)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| index * 64 + bit)
        })
    }

    /// The CPUs that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.iter().filter(|cpu| other.contains(*cpu)).collect()
    }

    /// The lowest `count` CPUs.
    #[must_use]
    pub fn lowest(&self, count: usize) -> Self {
        self.iter().take(count).collect()
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        let mut set = Self::new();
        cpus.into_iter().for_each(|cpu| set.insert(cpu));
        set
    }
}

/// The kernel's list notation, e.g. `0-3,8`.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        CpuSet::parse("cpuset.cpus", text).unwrap()
    }

    #[test]
    fn reads_and_writes_the_kernels_notation() {
        for text in ["", "0", "0-3", "0,2-3,8", "1,63-65,200"] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(set("0-3,8\n").len(), 5);
        assert_eq!(set("3,1,2").to_string(), "1-3");
    }

    #[test]
    fn refuses_what_is_no_list() {
        for text in ["x", "3-1", "-", "0-", "1-99999999999", "99999999"] {
            assert!(CpuSet::parse("cpuset.cpus", text).is_err(), "{text}");
        }
    }

    #[test]
    fn picks_the_lowest() {
        assert_eq!(set("2-5").lowest(2).to_string(), "2-3");
        assert_eq!(set("2-5").intersection(&set("0-3,5")).to_string(), "2-3,5");
    }
}
