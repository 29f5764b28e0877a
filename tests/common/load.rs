//! Readers that measure: shared by the tests of hostile containers and the benchmark.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Thousands of threads fit into the memory of a small container.
pub const STACK_BYTES: usize = 64 << 10;

/// Opens a file, reads to its end and closes it; returns the number of bytes.
pub fn read_once(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let mut total = 0;
    loop {
        match file.read(buffer)? {
            0 => return Ok(total),
            count => total += count,
        }
    }
}

/// What one or several readers saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub reads: u64,
    pub errors: u64,
    pub elapsed: Duration,
    pub p50: Duration,
    pub p99: Duration,
    pub longest: Duration,
}

impl Figures {
    pub fn per_second(&self) -> f64 {
        self.reads as f64 / self.elapsed.as_secs_f64()
    }

    /// One line of numbers, for another process to read.
    pub fn to_line(self) -> String {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        format!(
            "{} {} {} {} {} {}",
            self.reads,
            self.errors,
            micros(self.elapsed),
            micros(self.p50),
            micros(self.p99),
            micros(self.longest)
        )
    }

    pub fn from_line(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<f64>().ok());
        let mut next = || numbers.next().flatten();
        let (reads, errors) = (next()?, next()?);
        let mut time = || next().map(|micros| Duration::from_secs_f64(micros / 1e6));
        Some(Self {
            reads: reads as u64,
            errors: errors as u64,
            elapsed: time()?,
            p50: time()?,
            p99: time()?,
            longest: time()?,
        })
    }
}

/// Reads a file over and over with this many threads, each at least once.
pub fn hammer(path: &Path, readers: usize, time: Duration) -> Figures {
    hammer_by(readers, time, |buffer| read_once(path, buffer))
}

/// Does something else over and over instead, which returns 0 or an error if it fails.
pub fn hammer_by(
    readers: usize,
    time: Duration,
    act: impl Fn(&mut [u8]) -> io::Result<usize> + Sync,
) -> Figures {
    let start = Instant::now();
    let one = || {
        let mut buffer = vec![0; 8192];
        let (mut latencies, mut errors) = (Vec::new(), 0_u64);
        loop {
            let before = Instant::now();
            match act(&mut buffer) {
                Ok(count) if count > 0 => latencies.push(before.elapsed()),
                _ => errors += 1,
            }
            if start.elapsed() >= time {
                break;
            }
        }
        (latencies, errors)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let small = || thread::Builder::new().stack_size(STACK_BYTES);
        let start = |_| small().spawn_scoped(scope, one).expect("a thread");
        let threads: Vec<_> = (0..readers).map(start).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a reader"))
            .collect()
    });
    let elapsed = start.elapsed();
    let errors = results.iter().map(|(_, errors)| errors).sum();
    let mut all: Vec<Duration> = results
        .into_iter()
        .flat_map(|(latencies, _)| latencies)
        .collect();
    all.sort_unstable();
    let at = |share: f64| {
        all.get((all.len() as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    Figures {
        reads: all.len() as u64,
        errors,
        elapsed,
        p50: at(0.5),
        p99: at(0.99),
        longest: all.last().copied().unwrap_or_default(),
    }
}
