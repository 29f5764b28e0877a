//! CPU lists such as `0-3,8` and masks such as `ff,ffffffff` (kernel:
//! Documentation/admin-guide/cputopology.rst and core-api/printk-formats.rst).

use std::fmt;

use super::ParseError;

/// Largest CPU id that is accepted; twice what any kernel is built for.
pub(super) const MAX_CPU: usize = 16_383;

/// A set of physical CPU ids; of NUMA nodes too, which the kernel writes the same way.
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

    /// Parses a list of ids and ranges; an empty text is the empty set. As in
    /// the kernel, blanks separate as well as commas do (`0 1 2`).
    ///
    /// # Errors
    /// A part that is neither `N` nor `N-M`, or an id beyond any kernel's.
    pub fn parse(file: &'static str, text: &str) -> Result<Self, ParseError> {
        let mut set = Self::new();
        let text = text.trim();
        for part in text
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
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

    /// Parses a mask: hexadecimal digits, the lowest CPUs last, with a comma
    /// between groups of 32 bits of which only the first may be shorter.
    ///
    /// # Errors
    /// Anything else, an empty text included, or an id beyond any kernel's.
    pub fn parse_mask(file: &'static str, text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let error = || ParseError::new(file, "CPU mask", text);
        let groups = text.split(',').count();
        let mut set = Self::new();
        for (index, group) in text.rsplit(',').enumerate() {
            let whole = group.len() == 8 || (index + 1 == groups && group.len() < 8);
            if !whole || !group.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(error());
            }
            let bits = u32::from_str_radix(group, 16).map_err(|_| error())?;
            for bit in (0..32).filter(|bit| bits & (1 << bit) != 0) {
                let cpu = index * 32 + bit;
                if cpu > MAX_CPU {
                    return Err(error());
                }
                set.insert(cpu);
            }
        }
        Ok(set)
    }

    /// The kernel's mask notation, `digits` hexadecimal digits wide; CPUs that
    /// do not fit are left out.
    #[must_use]
    pub fn to_mask(&self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + digits / 8);
        for index in (0..digits).rev() {
            let bits = (0..4)
                .filter(|bit| self.contains(index * 4 + bit))
                .fold(0, |bits, bit| bits | 1 << bit);
            text.extend(char::from_digit(bits, 16));
            if index % 8 == 0 && index > 0 {
                text.push(',');
            }
        }
        text
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

    /// Number of CPUs that are in both sets.
    #[must_use]
    pub fn intersection_len(&self, other: &Self) -> usize {
        self.words
            .iter()
            .zip(&other.words)
            .map(|(word, other)| (word & other).count_ones() as usize)
            .sum()
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
        assert_eq!(set("3 4 5 90\n").to_string(), "3-5,90");
    }

    #[test]
    fn refuses_what_is_no_list() {
        for text in ["x", "3-1", "-", "0 - 3", "0-", "1-99999999999", "99999999"] {
            assert!(CpuSet::parse("cpuset.cpus", text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_and_writes_masks() {
        for (mask, list) in [
            ("1", "0"),
            ("0", ""),
            ("8000", "15"),
            ("0000,00000000,000000fc", "2-7"),
            ("ff,ffffffff", "0-39"),
            ("80000000,00008000,00000000", "47,95"),
        ] {
            let cpus = CpuSet::parse_mask("core_cpus", &format!("{mask}\n")).unwrap();
            assert_eq!(cpus.to_string(), list);
            let digits = mask.replace(',', "").len();
            assert_eq!(cpus.to_mask(digits), mask);
        }
    }

    #[test]
    fn refuses_what_is_no_mask() {
        let beyond = format!("1{}", ",00000000".repeat(512));
        for text in [
            "",
            ",",
            "x",
            "+f",
            "0x1",
            "ff,f",
            ",00000001",
            "123456789",
            &beyond,
        ] {
            assert!(CpuSet::parse_mask("core_cpus", text).is_err(), "{text}");
        }
    }

    #[test]
    fn leaves_cpus_out_of_a_mask_that_is_too_narrow() {
        assert_eq!(set("0,3-4,40").to_mask(1), "9");
        assert_eq!(set("0").to_mask(0), "");
    }

    #[test]
    fn picks_the_lowest() {
        assert_eq!(set("2-5").lowest(2).to_string(), "2-3");
        assert_eq!(set("2-5").intersection(&set("0-3,5")).to_string(), "2-3,5");
    }

    #[test]
    fn counts_what_is_in_both() {
        assert_eq!(set("2-5,100").intersection_len(&set("0-3,5,100")), 4);
        assert_eq!(set("2-5,100").intersection_len(&set("0")), 0);
    }
}
