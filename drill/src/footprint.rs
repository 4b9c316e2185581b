//! The memory, threads and files of a runtime process, from Linux's `/proc`.

use std::fmt;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

/// Connections that may be open or not: MySQL's pool (10), Redis, Kafka's brokers and its coordinator, and some that
/// callers keep alive.
const MORE_FILES: u64 = 32;

/// Threads that come and go: tokio keeps threads for blocking calls for ten seconds, and Kafka's client has some for
/// each broker.
const MORE_THREADS: u64 = 24;

/// Memory that the allocator keeps without giving it back. A leak of 1 KB for each request exceeds this within five
/// minutes.
const MORE_KB: u64 = 64 * 1024;

/// How long a process may take to shrink back.
const LIMIT: Duration = Duration::from_secs(30);

/// The resources of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) memory_kb: u64,
    pub(crate) threads: u64,
    pub(crate) files: u64,
}

impl Footprint {
    /// The resources of this process; `None` on a system without `/proc`.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Self {
            memory_kb: number("VmRSS:")?,
            threads: number("Threads:")?,
            files: u64::try_from(files).ok()?,
        })
    }

    /// The resources that have grown by more than the amounts which vary without a leak.
    fn grown_since(self, before: Self) -> Vec<&'static str> {
        let mut grown = Vec::new();
        for (what, now, before, more) in [
            ("memory", self.memory_kb, before.memory_kb, MORE_KB),
            ("threads", self.threads, before.threads, MORE_THREADS),
            ("open files", self.files, before.files, MORE_FILES),
        ] {
            if now > before + more {
                grown.push(what);
            }
        }
        grown
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MB, {} threads, {} open files", self.memory_kb / 1024, self.threads, self.files)
    }
}

/// One runtime process, from its first round to its last.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) pid: Pid,
    pub(crate) rounds: usize,
    pub(crate) first: Footprint,
    pub(crate) last: Footprint,
}

impl Life {
    /// Looks at an idle process after its first round.
    pub(crate) fn begin(pid: Pid) -> Option<Self> {
        let first = Footprint::of(pid)?;
        Some(Self { pid, rounds: 1, first, last: first })
    }

    /// Looks again after another round, and repeats the look for some time if a resource has grown. Returns the
    /// resources that stay grown.
    pub(crate) async fn look_again(&mut self) -> Vec<&'static str> {
        self.rounds += 1;
        let start = Instant::now();
        loop {
            let Some(now) = Footprint::of(self.pid) else { return Vec::new() };
            self.last = now;
            let grown = now.grown_since(self.first);
            if grown.is_empty() || start.elapsed() > LIMIT {
                return grown;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, rounds, first, last } = self;
        write!(f, "{pid} ({rounds} rounds): after the first {first}; after the last {last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_named() {
        let before = Footprint { memory_kb: 100_000, threads: 20, files: 40 };
        assert!(before.grown_since(before).is_empty());
        let now = Footprint { memory_kb: 200_000, threads: 20, files: 400 };
        assert_eq!(now.grown_since(before), ["memory", "open files"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_one() {
        let own = Footprint::of(Pid::this()).unwrap();
        assert!(own.memory_kb > 0 && own.threads > 0 && own.files > 2, "{own}");
    }
}
