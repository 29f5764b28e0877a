//! One verdict for each item of the contract.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Display, Formatter, Result as FmtResult};

/// The groups of items and how many each has: `M01` to `M21`, and so on.
const GROUPS: [(char, u32); 10] = [
    ('M', 21),
    ('C', 19),
    ('S', 13),
    ('T', 11),
    ('L', 9),
    ('D', 6),
    ('V', 3),
    ('P', 2),
    ('B', 1),
    ('F', 11),
];

/// The items that no file can make true: what programs learn from system calls and `/proc/PID`.
pub const KERNEL: [&str; 10] = [
    "M21", "C08", "C10", "C18", "T01", "T03", "T04", "T11", "L07", "D06",
];

/// All items in the contract's order.
pub fn items() -> Vec<String> {
    let group = |(letter, count)| (1..=count).map(move |number| format!("{letter}{number:02}"));
    GROUPS.into_iter().flat_map(group).collect()
}

/// Ordered by what outweighs what when an item is looked at several times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The file is not bound or does not exist.
    Skip(String),
    Ok,
    /// Does not hold, and no file can make it.
    Warn(String),
    Fail(String),
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter) -> FmtResult {
        match self {
            Self::Skip(why) => write!(f, "skip: {why}"),
            Self::Ok => f.write_str("ok"),
            Self::Warn(what) => write!(f, "warn (kernel): {what}"),
            Self::Fail(what) => write!(f, "FAIL: {what}"),
        }
    }
}

/// The verdicts so far.
#[derive(Debug, Default)]
pub struct Findings(pub BTreeMap<String, Verdict>);

impl Findings {
    fn note(&mut self, item: &str, verdict: Verdict) {
        let known = self.0.entry(item.to_owned()).or_insert(verdict.clone());
        // The first of several failures stays, later ones often follow from it.
        if std::mem::discriminant(known) != std::mem::discriminant(&verdict) && *known < verdict {
            *known = verdict;
        }
    }

    /// An item that the files can make true; `what` says what was expected and what was read.
    pub fn holds(&mut self, item: &str, truth: bool, what: Arguments) {
        let verdict = if truth {
            Verdict::Ok
        } else {
            Verdict::Fail(what.to_string().replace('\n', " "))
        };
        self.note(item, verdict);
    }

    /// An item that no file can make true.
    pub fn kernel(&mut self, item: &str, truth: bool, what: Arguments) {
        let verdict = if truth {
            Verdict::Ok
        } else {
            Verdict::Warn(what.to_string().replace('\n', " "))
        };
        self.note(item, verdict);
    }

    pub fn skip(&mut self, item: &str, why: &str) {
        self.note(item, Verdict::Skip(why.to_owned()));
    }

    /// Makes an item that nobody looked at a failure.
    pub fn close(&mut self) {
        for item in items() {
            let forgotten = Verdict::Fail("not looked at".to_owned());
            self.0.entry(item).or_insert(forgotten);
        }
    }

    /// One line for each item, in the contract's order.
    pub fn lines(&self) -> Vec<String> {
        let line = |item: String| Some(format!("{item} {}", self.0.get(&item)?));
        items().into_iter().filter_map(line).collect()
    }

    /// Takes in one of [`Self::lines`]; whether it was one.
    pub fn take(&mut self, line: &str) -> bool {
        let Some((item, text)) = line.split_once(' ') else {
            return false;
        };
        let after = |head: &str| text.strip_prefix(head).map(str::to_owned);
        let verdict = if text == "ok" {
            Some(Verdict::Ok)
        } else {
            let skip = after("skip: ").map(Verdict::Skip);
            let warn = after("warn (kernel): ").map(Verdict::Warn);
            skip.or(warn).or(after("FAIL: ").map(Verdict::Fail))
        };
        match verdict {
            Some(verdict) if items().iter().any(|known| known == item) => {
                self.note(item, verdict);
                true
            }
            _ => false,
        }
    }

    /// The items with such a verdict, by name.
    pub fn with(&self, is: impl Fn(&Verdict) -> bool) -> Vec<&str> {
        let chosen = self.0.iter().filter(|(_, verdict)| is(verdict));
        chosen.map(|(item, _)| item.as_str()).collect()
    }

    pub fn failed(&self) -> Vec<&str> {
        self.with(|verdict| matches!(verdict, Verdict::Fail(_)))
    }

    pub fn skipped(&self) -> Vec<&str> {
        self.with(|verdict| matches!(verdict, Verdict::Skip(_)))
    }
}

#[test]
fn lines_are_read_back_as_they_were_written() {
    let mut findings = Findings::default();
    findings.holds("M03", true, format_args!(""));
    findings.holds("M04", true, format_args!(""));
    findings.holds("M04", false, format_args!("2 is\nmore than {}", 1));
    findings.holds("M04", false, format_args!("a later failure"));
    findings.kernel("C08", false, format_args!("a mask"));
    findings.skip("P01", "no file");
    let lines = findings.lines();
    let expected = [
        "M03 ok",
        "M04 FAIL: 2 is more than 1",
        "C08 warn (kernel): a mask",
        "P01 skip: no file",
    ];
    assert_eq!(lines, expected);
    let mut again = Findings::default();
    assert!(lines.iter().all(|line| again.take(line)));
    assert_eq!(again.lines(), lines);
    assert!(!again.take("running 1 test") && !again.take("M99 ok"));
    again.close();
    assert_eq!(again.lines().len(), 96);
    assert!(again.failed().contains(&"S05"));
}
