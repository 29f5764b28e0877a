//! `/proc/cpuinfo` of every architecture, cut into the stretches that belong to
//! one CPU each (kernel: `show_cpuinfo` below arch/; there is no document).
//!
//! Three things say whose a line is, whatever the architecture:
//! - `processor : N` begins a record that goes on to the next blank line; where such
//!   lines follow each other (arm64 before Linux 3.19), each of them stands alone and what
//!   comes after the last one is the machine's;
//! - s390's second part has records of `cpu number : N` that begin with a blank
//!   line (ia64 has a field of that name in the midst of its records);
//! - s390's `processor N: ...` and SPARC's `CpuNClkTck` and `CPUN: online`
//!   stand alone.
//!
//! All else is the machine's: headers and trailers.

mod package;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use super::cpu_list::{CpuSet, MAX_CPU};
pub use package::Package;
use package::{PackageKey, PackageRecords, Thread};

/// The file, once read, ready to be narrowed to some CPUs any number of times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuInfo {
    text: Vec<u8>,
    segments: Vec<Segment>,
    packages: Vec<Package>,
    cpus: CpuSet,
}

/// A stretch of the text. All of them in order are the whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    range: Range<usize>,
    /// The CPU whose record this is a part of; none for the machine's lines.
    pub cpu: Option<usize>,
    /// Set where the stretch is just a number of something.
    pub count: Option<Count>,
}

/// What a number in the text counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// CPUs of the machine (`# processors`, `ncpus active`).
    Processors,
    /// CPUs of the record's package (`siblings`).
    Siblings,
    /// Cores of the record's package (`cpu cores`).
    Cores,
}

impl CpuInfo {
    /// Parses the file. A text of an unknown form has no CPUs and is wholly
    /// the machine's.
    #[must_use]
    pub fn parse(text: Vec<u8>) -> Self {
        let mut parser = Parser::default();
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            parser.line(line, lines.peek().copied().unwrap_or_default());
        }
        parser.close();
        let Parser {
            segments,
            packages,
            cpus,
            ..
        } = parser;
        let packages = packages.values().map(Package::from).collect();
        Self {
            text,
            segments,
            packages,
            cpus,
        }
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The text of one of [`Self::segments`].
    #[must_use]
    pub fn segment_text(&self, segment: &Segment) -> &[u8] {
        self.text.get(segment.range.clone()).unwrap_or_default()
    }

    /// The stretches that make up the text, in order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The packages, each CPU with a record of its own being in one of them.
    #[must_use]
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// Whether the file lists all of these CPUs.
    #[must_use]
    pub fn has(&self, cpus: &CpuSet) -> bool {
        self.cpus.intersection_len(cpus) == cpus.len()
    }

    /// The CPUs that the file lists: those online.
    #[must_use]
    pub fn cpus(&self) -> &CpuSet {
        &self.cpus
    }
}

/// The record that is being read.
struct Record<'a> {
    package: PackageKey<'a>,
    thread: Thread<'a>,
    cpu_cores: Option<usize>,
}

#[derive(Default)]
struct Parser<'a> {
    /// Length of what has been read.
    end: usize,
    record: Option<Record<'a>>,
    /// Whether the last line is one of several `processor : N`.
    in_list: bool,
    segments: Vec<Segment>,
    packages: BTreeMap<PackageKey<'a>, PackageRecords<'a>>,
    cpus: CpuSet,
}

impl<'a> Parser<'a> {
    fn line(&mut self, line: &'a [u8], next: &[u8]) {
        let was_in_list = std::mem::take(&mut self.in_list);
        if line.trim_ascii().is_empty() {
            self.blank(line, next);
            return;
        }
        let Some(field) = Field::parse(line) else {
            self.push(line.len(), self.record_cpu(), None);
            return;
        };
        let processor = field.cpu_of(b"processor");
        let is_next_too = || Field::parse(next)?.cpu_of(b"processor");
        self.in_list = processor.is_some() && (was_in_list || is_next_too().is_some());
        if self.in_list {
            self.close();
        }
        if let Some(cpu) = field.lone_cpu().or(processor.filter(|_| self.in_list)) {
            self.cpus.insert(cpu);
            self.push(line.len(), Some(cpu), None);
            return;
        }
        if let Some(cpu) = processor {
            self.open(cpu);
        }
        self.field(line, &field);
    }

    fn blank(&mut self, line: &'a [u8], next: &[u8]) {
        let s390_cpu = Field::parse(next).and_then(|field| field.cpu_of(b"cpu number"));
        if let Some(cpu) = s390_cpu {
            self.open(cpu);
            self.push(line.len(), Some(cpu), None);
        } else {
            self.push(line.len(), self.record_cpu(), None);
            self.close();
        }
    }

    fn field(&mut self, line: &'a [u8], field: &Field<'a>) {
        let count = match (field.key, &mut self.record) {
            (b"siblings", Some(_)) => Some(Count::Siblings),
            (b"cpu cores", Some(record)) => {
                record.cpu_cores = field.number();
                Some(Count::Cores)
            }
            (b"# processors" | b"ncpus probed" | b"ncpus active", None) => Some(Count::Processors),
            (_, Some(record)) => {
                record.note(field);
                None
            }
            _ => None,
        };
        let cpu = self.record_cpu();
        match count.filter(|_| !field.value.is_empty()) {
            Some(count) => {
                let tail = line
                    .len()
                    .saturating_sub(field.value_start + field.value.len());
                self.push(field.value_start, cpu, None);
                self.push(field.value.len(), cpu, Some(count));
                self.push(tail, cpu, None);
            }
            None => self.push(line.len(), cpu, None),
        }
    }

    fn record_cpu(&self) -> Option<usize> {
        self.record.as_ref().map(|record| record.thread.cpu)
    }

    fn push(&mut self, len: usize, cpu: Option<usize>, count: Option<Count>) {
        let start = self.end;
        self.end += len;
        match self.segments.last_mut() {
            Some(last) if last.cpu == cpu && last.count.is_none() && count.is_none() => {
                last.range.end = self.end;
            }
            _ => self.segments.push(Segment {
                range: start..self.end,
                cpu,
                count,
            }),
        }
    }

    fn open(&mut self, cpu: usize) {
        self.close();
        self.cpus.insert(cpu);
        self.record = Some(Record {
            package: PackageKey::default(),
            thread: Thread::new(cpu),
            cpu_cores: None,
        });
    }

    fn close(&mut self) {
        if let Some(record) = self.record.take() {
            let package = self.packages.entry(record.package).or_default();
            package.threads.push(record.thread);
            package.cpu_cores = package.cpu_cores.or(record.cpu_cores);
        }
    }
}

impl<'a> Record<'a> {
    fn note(&mut self, field: &Field<'a>) {
        let [drawer, book, physical] = &mut self.package;
        match field.key {
            b"drawer id" => *drawer = Some(field.value),
            b"book id" => *book = Some(field.value),
            b"physical id" => *physical = Some(field.value),
            b"core id" => self.thread.core_id = Some(field.value),
            b"apicid" => self.thread.apicid = field.number(),
            _ => {}
        }
    }
}

/// A line `key : value`.
struct Field<'a> {
    key: &'a [u8],
    value: &'a [u8],
    /// Where in the line the value begins.
    value_start: usize,
}

impl<'a> Field<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (key, rest) = (halves.next()?, halves.next()?);
        let value = rest.trim_ascii_start();
        Some(Self {
            key: key.trim_ascii(),
            value: value.trim_ascii_end(),
            value_start: line.len().saturating_sub(value.len()),
        })
    }

    fn number(&self) -> Option<usize> {
        number(self.value)
    }

    /// The CPU that the value names, if this is the field `key`.
    fn cpu_of(&self, key: &[u8]) -> Option<usize> {
        self.number()
            .filter(|cpu| self.key == key && *cpu <= MAX_CPU)
    }

    /// The CPU whose id is in the key.
    fn lone_cpu(&self) -> Option<usize> {
        let s390 = self.key.strip_prefix(b"processor ");
        let sparc = || {
            let key = self.key.strip_prefix(b"Cpu");
            let key = key.or_else(|| self.key.strip_prefix(b"CPU"))?;
            key.split(|byte| !byte.is_ascii_digit()).next()
        };
        number(s390.or_else(sparc)?).filter(|cpu| *cpu <= MAX_CPU)
    }
}

/// A number without a sign.
fn number(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().filter(|_| !text.starts_with('+'))
}
