//! The report as data. `table` shows it as text and `plot` as curves.

use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

use crate::bare::Bare;
use crate::check::Checked;
use crate::lookout::Seen;
use crate::measured::{Measured, Point, histogram, millis};
use crate::number::{micros_each, of_count};
use crate::options::{Options, Scenario};
use crate::plan::Phase;
use crate::servers::Setting;
use crate::warm_up::WarmUp;

/// A generator later than this, or one that has done less than [`FEWEST`] of the requests, has measured itself and
/// not the service.
const LATEST_MS: f64 = 2.0;
/// The share of the due requests that must have been answered with success.
const FEWEST: f64 = 0.98;

/// The results of one run of the bench.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The address of the service.
    pub target: String,
    /// The number of users, in pairs.
    pub users: u32,
    /// How unequally the users talked: the exponent of the Zipf distribution.
    pub zipf: f64,
    /// The version and the build of the generator, and of the service if the generator started it.
    pub build: String,
    /// The servers with their versions; empty if unknown.
    pub servers: Vec<String>,
    /// When each server has accepted data on its disk.
    pub flush_settings: Vec<Setting>,
    /// The number of cores of the generator's machine.
    pub cores: usize,
    /// True if the service ran on the same machine.
    pub shared_machine: bool,
    /// How the service was warmed up; `None` if it died before.
    pub warm_up: Option<WarmUp>,
    /// The loads in the order in which they ran.
    pub loads: Vec<Load>,
    /// The P99 that the loads of a ladder must keep, in ms; `None` without a ladder.
    pub ladder_p99_ms: Option<f64>,
    /// The check for every accepted message in MySQL; `None` if MySQL could not be asked.
    pub checked: Option<Checked>,
    /// The servers without the service.
    pub bare: Vec<Bare>,
    /// The reason why the bench ended early.
    pub ended: Option<String>,
    /// Other facts that a reader must know.
    pub notes: Vec<String>,
}

/// One load and its figures.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// The kind of load.
    pub scenario: Scenario,
    /// The wanted number of requests a second; `None` in a closed loop.
    pub rate: Option<u64>,
    /// True for a step of a ladder.
    pub step: bool,
    /// The length of the load.
    pub seconds: u64,
    /// The number of connections.
    pub connections: u32,
    /// The mean number of cores that the generator itself used.
    pub generator_cores: f64,
    /// The number of requests that were due.
    pub requests: u64,
    /// Successful answers a second, until the last answer.
    pub reached: f64,
    /// Latencies by kind of request, and of all requests together.
    pub latencies: Vec<Line>,
    /// Error answers, by kind of request and code.
    pub errors: Vec<Failed>,
    /// Requests without an answer.
    pub unanswered: u64,
    /// The time from the answer to a send until the message is PERSISTED, of a sample of messages. `None` if nothing
    /// was sent.
    pub persist_lag: Option<Latency>,
    /// Watched messages that were not persisted within a minute.
    pub overdue: u64,
    /// The mean number of rows a second that the consumer wrote.
    pub rows_a_second: Option<f64>,
    /// The number of rows of the consumer's best second.
    pub rows_best_second: Option<f64>,
    /// The delay of the generator itself, in ms.
    pub generator_late_ms: Latency,
    /// How long requests waited for a free connection, in ms.
    pub connection_wait_ms: Latency,
    /// Processor time and memory of each process.
    pub costs: Vec<Cost>,
    /// The figures of each second.
    pub timeline: Vec<Point>,
    /// Reasons why the figures may not describe the service alone.
    pub warnings: Vec<String>,
}

/// The cost of a load for one process.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// `service`, `Redis`, `MySQL`, `Kafka` or `generator`.
    pub process: &'static str,
    /// Processor time for each successful answer, in µs of one core.
    pub cpu_us: Option<f64>,
    /// Resident memory after the load, in MB.
    pub memory_mb: Option<f64>,
    /// The reason why one of the two is missing.
    pub unavailable: Option<String>,
}

/// Latencies of one kind of request.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// `send`, `query`, `read`, `recall` or `all`.
    pub what: &'static str,
    /// In ms, from the moment when the request was due.
    #[serde(flatten)]
    pub latency: Latency,
}

/// Error answers of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct Failed {
    /// The kind of request.
    pub what: &'static str,
    /// The status and the code of the problem, or the error of the connection.
    pub code: String,
    /// The number of such answers.
    pub count: u64,
}

/// The distribution of a time, in ms.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// The number of values.
    pub count: u64,
    /// Half of the values are not longer.
    pub p50: f64,
    /// 90 % of the values are not longer.
    pub p90: f64,
    /// 99 % of the values are not longer.
    pub p99: f64,
    /// 99.9 % of the values are not longer.
    pub p999: f64,
    /// The longest value.
    pub max: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        let max = millis(histogram.max());
        Self { count: histogram.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

/// The measured values of a load, from the generator and all processes.
pub(crate) struct Outcome {
    pub(crate) phase: Phase,
    pub(crate) measured: Measured,
    pub(crate) seen: Seen,
    /// Processor time of the generator until the last answer.
    pub(crate) generator_cpu: Duration,
    /// Resident memory of the generator; `None` if not available.
    pub(crate) generator_memory_kb: Option<u64>,
    /// Processor time and memory of the other processes, until all accepted messages were persisted.
    pub(crate) used: Vec<(&'static str, Result<Used, String>)>,
}

/// The resources that a load took of a process.
pub(crate) struct Used {
    pub(crate) cpu: Duration,
    pub(crate) memory_kb: u64,
}

impl Load {
    pub(crate) fn new(outcome: &Outcome) -> Self {
        let Outcome { phase, measured, seen, generator_cpu, .. } = outcome;
        let mut all = histogram();
        let mut latencies = Vec::new();
        for (kind, latency) in &measured.latencies {
            // Adding cannot fail, since both histograms have the same bounds.
            let _ = all.add(latency);
            latencies.push(Line { what: kind.name(), latency: Latency::of(latency) });
        }
        if latencies.len() > 1 {
            latencies.push(Line { what: "all", latency: Latency::of(&all) });
        }
        let errors = measured
            .errors
            .iter()
            .map(|((kind, code), count)| Failed { what: kind.name(), code: code.clone(), count: *count })
            .collect();
        // Without an answer no time has passed.
        let a_second =
            |total: f64| if measured.took.is_zero() { 0.0 } else { total / measured.took.as_secs_f64() };
        let mut load = Self {
            scenario: phase.scenario,
            rate: phase.rate(),
            step: phase.step,
            seconds: phase.seconds,
            connections: phase.connections,
            generator_cores: a_second(generator_cpu.as_secs_f64()),
            requests: measured.due,
            reached: a_second(of_count(measured.answered_well())),
            latencies,
            errors,
            unanswered: measured.due.saturating_sub(measured.left_out).saturating_sub(all.len()),
            persist_lag: (!seen.lag.is_empty()).then(|| Latency::of(&seen.lag)),
            overdue: seen.overdue,
            rows_a_second: seen.rows.as_ref().map(|rows| rows.a_second),
            rows_best_second: seen.rows.as_ref().map(|rows| rows.best_second),
            generator_late_ms: Latency::of(&measured.late),
            connection_wait_ms: Latency::of(&measured.waited),
            costs: costs(outcome),
            timeline: measured.timeline.clone(),
            warnings: Vec::new(),
        };
        load.warnings = load.judge(measured.left_out);
        load
    }

    /// The latencies of all kinds together.
    pub fn all(&self) -> Option<Latency> {
        self.latencies.last().map(|line| line.latency)
    }

    /// True if the P99 is within `p99_ms`, and the rate was reached without an error.
    pub fn keeps(&self, p99_ms: f64) -> bool {
        let reached = self.rate.is_none_or(|rate| self.reached >= of_count(rate) * FEWEST);
        let in_time = self.all().is_some_and(|latency| latency.p99 <= p99_ms);
        reached && in_time && self.errors.is_empty() && self.unanswered == 0
    }

    /// Reasons for a reader to doubt the figures.
    fn judge(&self, left_out: u64) -> Vec<String> {
        let mut warnings = Vec::new();
        let late = self.generator_late_ms.p99;
        if late > LATEST_MS {
            warnings.push(format!(
                "the generator was the limit: 1 % of the requests left {late:.1} ms late or more, which is part of \
                 the latencies; lower --rate, or run it on another machine"
            ));
        }
        if self.connection_wait_ms.p99 > LATEST_MS {
            warnings.push(format!(
                "all {} connections were busy: 1 % of the requests waited {:.1} ms or more for one, which is part of \
                 the latencies; more --connections help if the service has room",
                self.connections, self.connection_wait_ms.p99
            ));
        }
        if let Some(rate) = self.rate
            && self.reached < of_count(rate) * FEWEST
        {
            warnings.push(format!(
                "{:.0} a second were answered well, not the {rate} that were asked for: the latencies are those of an \
                 overload, and grow with --seconds",
                self.reached
            ));
        }
        if left_out > 0 {
            warnings.push(format!("{left_out} requests were left out: too many were waiting"));
        }
        if self.overdue > 0 {
            warnings.push(format!("{} watched messages were not persisted within a minute", self.overdue));
        }
        warnings
    }
}

fn costs(outcome: &Outcome) -> Vec<Cost> {
    let answered = outcome.measured.answered_well();
    let others = outcome.used.iter().map(|(process, used)| match used {
        Ok(used) => Cost {
            process,
            cpu_us: micros_each(used.cpu, answered),
            memory_mb: Some(of_count(used.memory_kb) / 1_024.0),
            unavailable: None,
        },
        Err(why) => Cost { process, cpu_us: None, memory_mb: None, unavailable: Some(why.clone()) },
    });
    let generator = Cost {
        process: "generator",
        cpu_us: micros_each(outcome.generator_cpu, answered),
        memory_mb: outcome.generator_memory_kb.map(|kb| of_count(kb) / 1_024.0),
        unavailable: None,
    };
    others.chain([generator]).collect()
}

impl Report {
    pub(crate) fn new(options: &Options, target: String, servers: Vec<String>, shared_machine: bool) -> Self {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let mut notes = Vec::new();
        if cfg!(debug_assertions) {
            notes.push("a debug build: the figures say little about a release".to_owned());
        }
        Self {
            target,
            users: options.users,
            zipf: options.zipf,
            build: format!("{} {profile}", env!("CARGO_PKG_VERSION")),
            servers,
            flush_settings: Vec::new(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            shared_machine,
            warm_up: None,
            loads: Vec::new(),
            ladder_p99_ms: None,
            checked: None,
            bare: Vec::new(),
            ended: None,
            notes,
        }
    }

    /// True if everything was measured, and every accepted message exists once.
    pub fn is_good(&self) -> bool {
        self.ended.is_none() && self.checked.as_ref().is_none_or(Checked::holds)
    }

    /// The steps of the ladder.
    pub fn steps(&self) -> impl Iterator<Item = &Load> {
        self.loads.iter().filter(|load| load.step)
    }

    /// The highest rate of the ladder that kept its P99; `None` if none did.
    pub fn highest_kept(&self) -> Option<u64> {
        let p99 = self.ladder_p99_ms?;
        self.steps().filter(|step| step.keeps(p99)).filter_map(|step| step.rate).max()
    }

    /// The most sends a second that a load of sends has reached.
    pub fn best_sends(&self) -> Option<f64> {
        let sends = self.loads.iter().filter(|load| load.scenario == Scenario::Send);
        sends.map(|load| load.reached).max_by(f64::total_cmp)
    }

    /// The server that is slowest without the service.
    pub fn slowest(&self) -> Option<&Bare> {
        let known = self.bare.iter().filter(|bare| bare.a_second.is_some());
        known.min_by(|a, b| a.a_second.unwrap_or_default().total_cmp(&b.a_second.unwrap_or_default()))
    }

    /// The service's rate as a share of the slowest server's own rate: 1 would be all of it.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.best_sends()? / self.slowest()?.a_second.filter(|rate| *rate > 0.0)?)
    }

    /// The report as JSON.
    pub fn json(&self) -> String {
        /// The report with derived figures.
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Whole<'a> {
            #[serde(flatten)]
            report: &'a Report,
            highest_kept: Option<u64>,
            best_sends: Option<f64>,
            ratio_to_slowest_bare: Option<f64>,
        }
        let whole = Whole {
            report: self,
            highest_kept: self.highest_kept(),
            best_sends: self.best_sends(),
            ratio_to_slowest_bare: self.ratio(),
        };
        serde_json::to_string_pretty(&whole).unwrap_or_else(|_| unreachable!())
    }
}

/// The processor time that this process has used.
pub(crate) fn cpu_time() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let both = [usage.user_time(), usage.system_time()].map(|time| {
        let seconds = Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or_default());
        seconds + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or_default())
    });
    Ok(both[0] + both[1])
}

/// A report with data in each part.
#[cfg(test)]
pub(crate) fn sample() -> Report {
    use crate::scenario::Kind;

    let load = |rate: u64, step: bool, latency_ms: u64| {
        let mut measured = Measured::new();
        let times = crate::measured::Times {
            late: Duration::ZERO,
            waited: Duration::ZERO,
            latency: Duration::from_millis(latency_ms),
        };
        for second in 1..=2 {
            for _ in 0..rate {
                measured.count(Kind::Send, &times, None);
            }
            measured.end_second(second);
        }
        (measured.due, measured.took) = (2 * rate, Duration::from_secs(2));
        let phase = Phase {
            scenario: Scenario::Send,
            pace: crate::load::Pace::Rate(rate),
            connections: 64,
            seconds: 2,
            step,
        };
        let used = Used { cpu: Duration::from_millis(2 * rate), memory_kb: 2_048 };
        Load::new(&Outcome {
            phase,
            measured,
            seen: Seen { lag: histogram(), overdue: 0, rows: None },
            generator_cpu: Duration::from_millis(10),
            generator_memory_kb: None,
            used: vec![("service", Ok(used)), ("Kafka", Err("it runs in a container".to_owned()))],
        })
    };
    let options = <Options as clap::Parser>::parse_from(["bench"]);
    let mut report = Report::new(&options, "127.0.0.1:1".to_owned(), vec!["Redis 7.0".to_owned()], true);
    let setting =
        |server, name: &str, value: &str| Setting { server, name: name.to_owned(), value: value.to_owned() };
    report.flush_settings = vec![setting("Redis", "appendfsync", "everysec")];
    report.loads = vec![load(1_000, false, 2), load(1_000, true, 2), load(2_000, true, 40)];
    report.ladder_p99_ms = Some(10.0);
    let bare = |server, a_second: Option<f64>, why: Option<&str>| Bare {
        server,
        how: "as it can".to_owned(),
        a_second,
        unavailable: why.map(str::to_owned),
    };
    report.bare = vec![
        bare("Redis", Some(20_000.0), None),
        bare("Kafka", Some(10_000.0), None),
        bare("MySQL", None, Some("no rights")),
    ];
    report.checked = Some(Checked {
        accepted: 3,
        rows: 2,
        tombstones: 1,
        missing: 0,
        missing_ids: Vec::new(),
        more_rows: 0,
        unsure: 0,
    });
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_shared_by_the_requests_that_were_answered() {
        let report = sample();
        let costs = &report.loads[0].costs;
        // 2 s of processor time for 2,000 requests.
        assert_eq!(
            (costs[0].process, costs[0].cpu_us, costs[0].memory_mb),
            ("service", Some(1_000.0), Some(2.0))
        );
        assert_eq!(costs[1].unavailable.as_deref(), Some("it runs in a container"));
        assert_eq!((costs[2].process, costs[2].cpu_us), ("generator", Some(5.0)));
    }

    #[test]
    fn a_rate_is_kept_with_its_p99_and_without_an_error() {
        let report = sample();
        assert_eq!(report.highest_kept(), Some(1_000));
        let mut step = report.loads[1].clone();
        assert!(step.keeps(10.0) && !step.keeps(1.0));
        step.errors.push(Failed { what: "send", code: "503 unavailable".to_owned(), count: 1 });
        assert!(!step.keeps(10.0));
    }

    #[test]
    fn the_ratio_is_to_the_slowest_server_that_was_measured() {
        let report = sample();
        assert_eq!(report.slowest().map(|bare| bare.server), Some("Kafka"));
        assert_eq!(report.ratio(), Some(0.2));
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["ratioToSlowestBare"], 0.2);
        assert_eq!(json["loads"][0]["costs"][0]["cpuUs"], 1_000.0);
    }

    #[test]
    fn a_missing_message_or_an_early_end_is_no_good_report() {
        let good = sample();
        assert!(good.is_good());
        let mut missing = good.clone();
        missing.checked.as_mut().unwrap().missing = 1;
        assert!(!missing.is_good());
        assert!(!Report { ended: Some("killed".to_owned()), ..good }.is_good());
    }
}
