//! F: how the files behave, whatever is in them.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::{Duration, Instant};

use crate::common::figures::Stat;
use crate::common::load::hammer;
use crate::common::slowness;
use crate::findings::Findings;
use crate::inside::{Run, call};
use crate::sample::{CPU_TREE, Sample};
use crate::tolerance::LATENCY_SECONDS;

const ITEMS: [&str; 11] = [
    "F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08", "F09", "F10", "F11",
];

/// Longer than a text serves several readers, and several ticks of its figures.
const PAUSE: Duration = Duration::from_millis(60);
/// Where a file is left off to be read on later: inside the first line of `/proc/stat`.
const BREAK: usize = 12;
const READERS: usize = 8;
/// Other programs delay one round after the other; a slow file system would be slow in all of them.
const ROUNDS: u32 = 3;

/// How one file of `/proc` answered.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    pub path: String,
    pub size: u64,
    pub mode: u32,
    /// Read in two parts with a pause between them, and after a rewind and a pause.
    pub parts: String,
    pub rewound: String,
    /// Bytes of a first read at an offset, and of a read past the end.
    pub at_offset: Option<usize>,
    pub past_end: Option<usize>,
    /// Bytes of a read that has room for everything, and of the next one.
    pub single: (usize, usize),
    /// Of one fd in two parts, while another one read all; and what that one read.
    pub beside: String,
    pub other: String,
    pub parallel_errors: u64,
    pub latency: Latency,
}

/// The seconds that every other one takes at least: of reads, and of calls of a process outside made in turn with
/// them. The longest ones say more of what else the machine has to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latency {
    pub read: f64,
    pub call: f64,
}

impl Latency {
    /// The longest that a read may take. It needs a process outside three times, and that one waits for its turn on a
    /// busy machine.
    fn most(self) -> f64 {
        LATENCY_SECONDS * f64::from(slowness()) + 5.0 * self.call
    }

    fn is_short(self) -> bool {
        self.read <= self.most()
    }
}

impl Behaviour {
    /// Tries it out on a file that lxcfs serves.
    pub fn of(path: &str) -> std::io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let mut buffer = vec![0; 1 << 20];
        let whole = File::open(path)?;
        let single = (whole.read_at(&mut buffer, 0)?, 0);
        let single = (single.0, whole.read_at(&mut buffer, single.0 as u64)?);
        let past_end = whole.read_at(&mut buffer, 1 << 20).ok();
        let at_offset = File::open(path)?.read_at(&mut buffer, 10).ok();

        let mut file = File::open(path)?;
        let parts = in_two_parts(&mut file, || Ok(()))?;
        file.seek(SeekFrom::Start(0))?;
        let mut rewound = String::new();
        file.read_to_string(&mut rewound)?;
        let mut other = String::new();
        let beside = in_two_parts(&mut File::open(path)?, || {
            other = String::from_utf8_lossy(&fs::read(path)?).into_owned();
            Ok(())
        })?;

        let mut latency = Latency::of(path)?;
        for _ in 1..ROUNDS {
            if !latency.is_short() {
                latency = Latency::of(path)?;
            }
        }
        let parallel = hammer(path.as_ref(), READERS, Duration::from_millis(100));
        Ok(Self {
            path: path.to_owned(),
            size: metadata.len(),
            mode: metadata.mode() & 0o7777,
            parts,
            rewound,
            at_offset,
            past_end,
            single,
            beside,
            other,
            parallel_errors: parallel.errors,
            latency,
        })
    }
}

fn in_two_parts(
    file: &mut File,
    between: impl FnOnce() -> std::io::Result<()>,
) -> std::io::Result<String> {
    let mut head = [0; BREAK];
    let count = file.read(&mut head)?;
    std::thread::sleep(PAUSE);
    between()?;
    let mut text = String::from_utf8_lossy(&head[..count]).into_owned();
    file.read_to_string(&mut text)?;
    Ok(text)
}

impl Latency {
    fn of(path: &str) -> std::io::Result<Self> {
        // What was done before may have used up a quota for some periods.
        std::thread::sleep(5 * PAUSE);
        let (mut reads, mut calls) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            // Slow enough for the quota of any container, and for the daemon's share of a busy machine.
            std::thread::sleep(Duration::from_millis(5));
            let start = Instant::now();
            fs::read(path)?;
            reads.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            call();
            calls.push(start.elapsed().as_secs_f64());
        }
        let median = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        Ok(Self {
            read: median(reads),
            call: median(calls),
        })
    }
}

/// What the kernel's own files have.
fn modes(path: &str) -> &'static [u32] {
    if path == "/proc/slabinfo" {
        &[0o400]
    } else if path.starts_with("/proc/pressure/") {
        // Since kernel 5.13 anybody may open them for a trigger.
        &[0o444, 0o644, 0o666]
    } else {
        &[0o444]
    }
}

/// Whether the sums in a file hold, if it has any.
fn is_one_snapshot(path: &str, text: &str) -> bool {
    if path != "/proc/stat" {
        return text.is_empty() || text.ends_with('\n');
    }
    let sums = |stat: Stat| {
        let column =
            |at: usize| -> u64 { stat.cpus.values().filter_map(|line| line.get(at)).sum() };
        (0..stat.total.len()).all(|at| column(at) == stat.total[at])
    };
    text.ends_with('\n') && Stat::try_parse(text).is_some_and(sums)
}

pub fn check(findings: &mut Findings, run: &Run) {
    if run.behaviours.is_empty() {
        ITEMS
            .iter()
            .for_each(|item| findings.skip(item, "not tried"));
    }
    for file in &run.behaviours {
        of_one(findings, file);
    }
    for sample in &run.samples {
        sizes(findings, sample, &run.sys_sizes);
    }
}

fn of_one(findings: &mut Findings, file: &Behaviour) {
    let path = &file.path;
    findings.holds(
        "F01",
        file.size == 0,
        format_args!("{path} has a size of {}", file.size),
    );
    findings.holds(
        "F02",
        is_one_snapshot(path, &file.parts),
        format_args!("{path} in two parts: {:?}", file.parts),
    );
    let moves = ["/proc/uptime", "/proc/stat"].contains(&path.as_str());
    let fresh = is_one_snapshot(path, &file.rewound) && (!moves || file.rewound != file.parts);
    findings.holds(
        "F03",
        fresh,
        format_args!("{path} after a rewind: {:?}", file.rewound),
    );
    let rest = file.single.0.saturating_sub(10);
    let at_offset = file
        .at_offset
        .is_some_and(|count| (count > 0) == (rest > 0));
    findings.holds(
        "F04",
        at_offset,
        format_args!(
            "{path} gives {:?} bytes at offset 10 of {}",
            file.at_offset, file.single.0
        ),
    );
    findings.holds(
        "F05",
        file.past_end == Some(0),
        format_args!("{path} gives {:?} bytes past its end", file.past_end),
    );
    let lines = |text: &str| text.lines().count();
    findings.holds(
        "F06",
        file.single.1 == 0 && (file.single.0 > 0 || file.parts.is_empty()),
        format_args!(
            "{path} gives {} bytes at once and then {}",
            file.single.0, file.single.1
        ),
    );
    findings.holds(
        "F07",
        modes(path).contains(&file.mode),
        format_args!("{path} has mode {:o}", file.mode),
    );
    // An empty file counts as an error there.
    findings.holds(
        "F08",
        file.parallel_errors == 0 || file.single.0 == 0,
        format_args!(
            "{path}: {} errors of {READERS} readers",
            file.parallel_errors
        ),
    );
    // A disk may have come meanwhile.
    let expected = [&file.parts, &file.other].map(|text| lines(text));
    findings.holds(
        "F09",
        is_one_snapshot(path, &file.beside) && expected.contains(&lines(&file.beside)),
        format_args!("{path} beside another reader: {:?}", file.beside),
    );
    findings.holds(
        "F11",
        file.latency.is_short(),
        format_args!(
            "{path}: every other read takes {} s, at most {} s",
            file.latency.read,
            file.latency.most()
        ),
    );
}

/// Files of sysfs have the size of a page.
fn sizes(findings: &mut Findings, sample: &Sample, sizes: &[(String, u64)]) {
    if !sample.served.contains(CPU_TREE) {
        findings.skip("F10", &format!("{CPU_TREE} is not bound"));
        return;
    }
    let odd: Vec<_> = sizes.iter().filter(|(_, size)| *size != 4096).collect();
    findings.holds(
        "F10",
        odd.is_empty() && !sizes.is_empty(),
        format_args!("sizes {odd:?}"),
    );
}
