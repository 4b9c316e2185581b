//! The results of a drill, as tables.

use std::fmt;
use std::time::Duration;

use crate::away::Away;
use crate::check::Verdict;
use crate::fault::Faults;
use crate::footprint::Life;

/// One round.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) faults: Faults,
    pub(crate) requests: usize,
    pub(crate) accepted: usize,
    pub(crate) failed: usize,
    pub(crate) recalled: usize,
    pub(crate) deleted: usize,
    pub(crate) glimpsed: usize,
    pub(crate) verdict: Verdict,
    pub(crate) away: Away,
    /// The time from the end of the fault until each runtime answers a send and a page with success.
    pub(crate) answered: Duration,
    /// The time from the end of the fault until nothing is pending. The users work in between.
    pub(crate) settled: Duration,
}

impl Row {
    /// The names of the columns.
    pub(crate) const HEAD: &'static str = "\
| fault                                 | requests | accepted | failed | recalled | deleted | lost | doubled | resurrected | diverged | late | other | glimpsed | answers after ms | settled after ms |
|---------------------------------------|---------:|---------:|-------:|---------:|--------:|-----:|--------:|------------:|---------:|-----:|------:|---------:|-----------------:|-----------------:|";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {:<37} | {:>8} | {:>8} | {:>6} | {:>8} | {:>7} | {:>4} | {:>7} | {:>11} | {:>8} | {:>4} | {:>5} | {:>8} | {:>16} | {:>16} |",
            self.faults,
            self.requests,
            self.accepted,
            self.failed,
            self.recalled,
            self.deleted,
            self.verdict.lost.len(),
            self.verdict.doubled.len(),
            self.verdict.resurrected.len(),
            self.verdict.diverged.len(),
            self.verdict.late.len(),
            self.verdict.other.len(),
            self.glimpsed,
            self.answered.as_millis(),
            self.settled.as_millis()
        )
    }
}

/// All rounds of a drill.
#[derive(Debug, Default)]
pub struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) lives: Vec<Life>,
    /// True if the drill was interrupted.
    pub interrupted: bool,
}

impl Report {
    /// True if no offence was found.
    pub fn is_clean(&self) -> bool {
        self.rows.iter().all(|row| row.verdict.is_clean())
    }

    /// Each offence, with its round and the facts about it.
    pub fn offences(&self) -> Vec<String> {
        let mut offences = Vec::new();
        for row in &self.rows {
            let Verdict { lost, doubled, resurrected, diverged, late, other, known } = &row.verdict;
            for (kind, lines) in [
                ("lost", lost),
                ("doubled", doubled),
                ("resurrected", resurrected),
                ("diverged", diverged),
                ("late", late),
                ("other", other),
                ("known", known),
            ] {
                offences.extend(lines.iter().map(|line| format!("{}: {kind}: {line}", row.faults)));
            }
        }
        offences
    }
}

/// The second and the third table. The drill prints the rows of the first one as its rounds end.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "While it lasted, answered with success / not, median / P99:\n")?;
        writeln!(
            f,
            "| {:<37} | {:<26} | {:<26} | {:<26} |",
            "fault", "sends", "pages Redis has", "recalls of what MySQL has"
        )?;
        writeln!(f, "|{0:-<39}|{0:-<28}|{0:-<28}|{0:-<28}|", "")?;
        for Row { faults, away, .. } in &self.rows {
            writeln!(f, "| {faults:<37} | {:<26} | {:<26} | {:<26} |", away.sends, away.pages, away.recalls)?;
        }
        writeln!(f, "\nProcesses of the runtime, at rest:\n")?;
        for life in &self.lives {
            writeln!(f, "- {life}")?;
        }
        Ok(())
    }
}
