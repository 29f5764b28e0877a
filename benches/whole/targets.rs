//! What is to be reached, and whether a run did.

use std::fmt;

/// One figure of a run, against what it may be.
#[derive(Debug)]
struct Target {
    what: String,
    measured: f64,
    bound: Bound,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            measured,
            bound,
        } = self;
        let (is_reached, word, bound) = match *bound {
            Bound::AtMost(most) => (*measured <= most, "at most", most),
            Bound::AtLeast(least) => (*measured >= least, "at least", least),
        };
        let verdict = if is_reached { "reached" } else { "missed" };
        write!(
            f,
            "{verdict:8} {what:56} {measured:>8.2}  {word} {bound:.2}"
        )
    }
}

/// The targets that a run says something about.
#[derive(Debug, Default)]
pub struct Targets(Vec<Target>);

impl Targets {
    /// `measured` must not be larger. What was not measured is NaN and not judged.
    pub fn at_most(&mut self, most: f64, measured: f64, what: impl Into<String>) {
        self.add(Bound::AtMost(most), measured, what.into());
    }

    /// `measured` must not be smaller.
    pub fn at_least(&mut self, least: f64, measured: f64, what: impl Into<String>) {
        self.add(Bound::AtLeast(least), measured, what.into());
    }

    fn add(&mut self, bound: Bound, measured: f64, what: String) {
        if !measured.is_nan() {
            self.0.push(Target {
                what,
                measured,
                bound,
            });
        }
    }

    /// One line for each.
    pub fn print(&self) {
        if !self.0.is_empty() {
            println!("targets");
            self.0.iter().for_each(|target| println!("{target}"));
        }
    }
}
