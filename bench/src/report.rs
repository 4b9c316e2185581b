//! The report, as text and as JSON.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

use crate::load::{Load, histogram};
use crate::lookout::{LOOK_EVERY, Seen};
use crate::options::{Options, Scenario};
use crate::service::Service;

/// A generator later than this, or one that has done less than [`FEWEST`] of the requests, has measured itself and
/// not the service.
const LATEST_MS: f64 = 2.0;
const FEWEST: f64 = 0.98;

/// The result of one measurement.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The kind of load.
    pub scenario: Scenario,
    /// The address of the service.
    pub target: String,
    /// The wanted number of requests a second.
    pub rate: u64,
    /// The length of the measurement.
    pub seconds: u64,
    /// The time of the same load before the measurement.
    pub warm_up_seconds: u64,
    /// The number of users, in pairs.
    pub users: u32,
    /// The number of connections that the users shared.
    pub connections: u32,
    /// The version and the build of the generator, and of the service if the generator started it.
    pub build: String,
    /// The servers with their versions; empty if unknown.
    pub servers: Vec<String>,
    /// The number of cores of the generator's machine.
    pub cores: usize,
    /// True if the service ran on the same machine.
    pub shared_machine: bool,
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
    /// Reasons why the figures may not describe the service alone.
    pub warnings: Vec<String>,
}

/// The latencies of one kind of request.
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
    #[expect(clippy::cast_precision_loss, reason = "µs of a measurement stay below 2^53")]
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        let max = histogram.max() as f64 / 1_000.0;
        Self { count: histogram.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement stay below 2^53")]
    pub(crate) fn new(
        options: &Options,
        service: &Service,
        load: &Load,
        seen: &Seen,
        took: Duration,
        cpu: Duration,
    ) -> Self {
        let measured = load.measured();
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
        let errors: Vec<Failed> = measured
            .errors
            .iter()
            .map(|((kind, code), count)| Failed { what: kind.name(), code: code.clone(), count: *count })
            .collect();
        let failed: u64 = errors.iter().map(|error| error.count).sum();
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let mut report = Self {
            scenario: options.scenario,
            target: service.address.to_string(),
            rate: options.rate,
            seconds: options.seconds,
            warm_up_seconds: options.warm_up,
            users: options.users,
            connections: options.connections,
            build: format!("{} {profile}", env!("CARGO_PKG_VERSION")),
            servers: service.servers.clone(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            shared_machine: service.is_near(),
            generator_cores: cpu.as_secs_f64() / took.as_secs_f64(),
            requests: measured.due,
            reached: all.len().saturating_sub(failed) as f64 / took.as_secs_f64(),
            latencies,
            errors,
            unanswered: measured.due.saturating_sub(all.len()),
            persist_lag: (!seen.lag.is_empty()).then(|| Latency::of(&seen.lag)),
            overdue: seen.overdue,
            rows_a_second: seen.rows.as_ref().map(|rows| rows.a_second),
            rows_best_second: seen.rows.as_ref().map(|rows| rows.best_second),
            generator_late_ms: Latency::of(&measured.late),
            connection_wait_ms: Latency::of(&measured.waited),
            warnings: Vec::new(),
        };
        report.warnings = report.judge(measured.left_out);
        report
    }

    /// Reasons for a reader to doubt the figures.
    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement stay below 2^53")]
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
        if self.reached < self.rate as f64 * FEWEST {
            warnings.push(format!(
                "{:.0} a second were answered well, not the {} that were asked for: the latencies are those of an \
                 overload, and grow with --seconds",
                self.reached, self.rate
            ));
        }
        if left_out > 0 {
            warnings.push(format!("{left_out} requests were left out: too many were under way"));
        }
        if self.overdue > 0 {
            warnings.push(format!("{} watched messages were not persisted within a minute", self.overdue));
        }
        if cfg!(debug_assertions) {
            warnings.push("a debug build: the figures say little about a release".to_owned());
        }
        warnings
    }

    /// The report as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|_| unreachable!())
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = format!("{:?}", self.scenario).to_lowercase();
        writeln!(f, "hongyan {}, {scenario} at {}", self.build, self.target)?;
        if self.servers.is_empty() {
            writeln!(f, "its servers are not known (--target)")?;
        }
        for server in &self.servers {
            writeln!(f, "{server}")?;
        }
        let place = if self.shared_machine {
            "shared by generator, service and servers"
        } else {
            "the generator's own"
        };
        writeln!(
            f,
            "{} cores, {place}; the generator kept {:.2} of them busy",
            self.cores, self.generator_cores
        )?;
        writeln!(
            f,
            "{} users, {} connections, {} s after {} s of warming up\n",
            self.users, self.connections, self.seconds, self.warm_up_seconds
        )?;
        writeln!(
            f,
            "rate      asked {}/s, reached {:.0}/s of {} requests",
            self.rate, self.reached, self.requests
        )?;
        match (self.rows_a_second, self.rows_best_second) {
            (Some(mean), Some(best)) => {
                writeln!(
                    f,
                    "consumer  {mean:.0} rows/s until all were written, {best:.0} rows/s in its best second"
                )?;
            }
            _ => writeln!(f, "consumer  not known: the service shows no metrics")?,
        }
        writeln!(
            f,
            "\nms        {:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "count", "P50", "P90", "P99", "P99.9", "max"
        )?;
        for line in &self.latencies {
            row(f, line.what, line.latency)?;
        }
        if let Some(lag) = self.persist_lag {
            row(f, "persisted", lag)?;
        }
        row(f, "late", self.generator_late_ms)?;
        row(f, "waited", self.connection_wait_ms)?;
        writeln!(
            f,
            "\npersisted: from a send's answer to PERSISTED in the history, looked at every {} ms",
            LOOK_EVERY.as_millis()
        )?;
        writeln!(
            f,
            "late: how late the generator was; waited: for a free connection; both are part of the above"
        )?;
        writeln!(
            f,
            "\nerrors    {}",
            if self.errors.is_empty() && self.unanswered == 0 { "none" } else { "" }
        )?;
        for Failed { what, code, count } in &self.errors {
            writeln!(f, "  {count:>8}  {what}  {code}")?;
        }
        if self.unanswered > 0 {
            writeln!(f, "  {:>8}  without an answer", self.unanswered)?;
        }
        for warning in &self.warnings {
            writeln!(f, "\nnote: {warning}")?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, what: &str, latency: Latency) -> fmt::Result {
    let Latency { count, p50, p90, p99, p999, max } = latency;
    writeln!(f, "{what:<10}{count:>10}{p50:>10.2}{p90:>10.2}{p99:>10.2}{p999:>10.2}{max:>10.2}")
}
