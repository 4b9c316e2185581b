//! Metrics in CloudWatch's embedded metric format: CloudWatch turns JSON lines on standard output into metrics, so a
//! function needs neither a network call nor a permission.
//!
//! A label becomes a dimension; units come from [`super::metric`]. A counter is written as its increase since the last
//! flush, a distribution as its samples, at most 100 in a line, as the format demands.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SetRecorderError, SharedString,
    Unit,
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::metric::{ALL, Kind, Metric};
use crate::clock::Clock;

/// The CloudWatch namespace of the metrics.
const NAMESPACE: &str = "Hongyan";
/// The most samples in one line.
const SAMPLES_PER_LINE: usize = 100;
/// The most samples that are kept between two flushes, so that memory is bounded even if nothing flushes.
const MOST_SAMPLES: usize = 10_000;

/// Name and value of each label, sorted.
type Labels = Vec<(String, String)>;

/// The recorder of a Lambda process. Cheap to clone.
#[derive(Clone)]
pub struct Emf(Arc<Inner>);

struct Inner {
    clock: Clock,
    metrics: Mutex<BTreeMap<Key, Cell>>,
}

enum Cell {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Samples>),
}

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        let mut samples = self.0.lock();
        if samples.len() < MOST_SAMPLES {
            samples.push(value);
        }
    }
}

impl Emf {
    /// A recorder, not installed yet.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, metrics: Mutex::default() }))
    }

    /// Installs it as the recorder of this process. Fails if there is another.
    pub fn install(&self) -> Result<(), SetRecorderError<Self>> {
        metrics::set_global_recorder(self.clone())
    }

    /// Writes everything that was recorded since the last flush.
    pub fn flush(&self, mut writer: impl Write) -> std::io::Result<()> {
        let lines = self.lines();
        for line in lines {
            writeln!(writer, "{line}")?;
        }
        writer.flush()
    }

    fn lines(&self) -> Vec<Value> {
        let now = self.0.clock.now_ms();
        let mut lines = Vec::new();
        // Metrics with the same labels share a line.
        let mut shared: BTreeMap<Labels, Vec<(String, Value)>> = BTreeMap::new();
        for (key, cell) in self.0.metrics.lock().iter() {
            let mut labels: Labels =
                key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
            labels.sort_unstable();
            let name = key.name().to_owned();
            match cell {
                Cell::Counter(count) => match count.swap(0, Ordering::Relaxed) {
                    0 => {}
                    added => shared.entry(labels).or_default().push((name, added.into())),
                },
                Cell::Gauge(bits) => {
                    let value = f64::from_bits(bits.load(Ordering::Relaxed));
                    shared.entry(labels).or_default().push((name, value.into()));
                }
                Cell::Histogram(samples) => {
                    let samples = std::mem::take(&mut *samples.0.lock());
                    for chunk in samples.chunks(SAMPLES_PER_LINE) {
                        lines.push(line(now, &labels, &[(name.clone(), chunk.into())]));
                    }
                }
            }
        }
        lines.extend(shared.into_iter().map(|(labels, values)| line(now, &labels, &values)));
        lines
    }
}

fn line(now: i64, labels: &[(String, String)], values: &[(String, Value)]) -> Value {
    let dimensions: Vec<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
    let definitions: Vec<Value> =
        values.iter().map(|(name, _)| json!({ "Name": name, "Unit": unit_of(name) })).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now,
            "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": definitions }],
        }),
    );
    for (name, value) in labels {
        line.insert(name.clone(), value.as_str().into());
    }
    for (name, value) in values {
        line.insert(name.clone(), value.clone());
    }
    Value::Object(line)
}

fn unit_of(name: &str) -> &'static str {
    let known = |metric: &&Metric| metric.name == name;
    match ALL.iter().find(known) {
        Some(Metric { unit: Unit::Seconds, .. }) => "Seconds",
        Some(Metric { kind: Kind::Counter | Kind::Gauge, .. } | Metric { unit: Unit::Count, .. }) => "Count",
        _ => "None",
    }
}

/// Units and meanings come from [`super::metric`], so descriptions are not kept here.
impl Recorder for Emf {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut metrics = self.0.metrics.lock();
        match metrics.entry(key.clone()).or_insert_with(|| Cell::Counter(Arc::default())) {
            Cell::Counter(count) => Counter::from_arc(count.clone()),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut metrics = self.0.metrics.lock();
        match metrics.entry(key.clone()).or_insert_with(|| Cell::Gauge(Arc::default())) {
            Cell::Gauge(value) => Gauge::from_arc(value.clone()),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut metrics = self.0.metrics.lock();
        match metrics.entry(key.clone()).or_insert_with(|| Cell::Histogram(Arc::default())) {
            Cell::Histogram(samples) => Histogram::from_arc(samples.clone()),
            _ => Histogram::noop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metric;

    #[test]
    fn each_flush_writes_what_was_recorded_since_the_last() {
        let emf = Emf::new(Clock::system());
        let flushed = || {
            let mut out = Vec::new();
            emf.flush(&mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
        };
        metrics::with_local_recorder(&emf, || {
            metrics::counter!(metric::SENDS, "outcome" => "accepted").increment(2);
            metrics::counter!(metric::SENDS, "outcome" => "failed").increment(1);
            for _ in 0..150 {
                metrics::histogram!(metric::SEND_SECONDS).record(0.004);
            }
        });
        let lines = flushed();
        assert_eq!(lines.len(), 4, "two label sets, and 150 samples on two lines: {lines:#?}");
        let accepted = lines.iter().find(|line| line["outcome"] == "accepted").unwrap();
        assert_eq!(accepted[metric::SENDS], 2);
        let definition = &accepted["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(definition["Namespace"], "Hongyan");
        assert_eq!(definition["Dimensions"], json!([["outcome"]]));
        assert_eq!(definition["Metrics"], json!([{ "Name": metric::SENDS, "Unit": "Count" }]));
        let samples: usize =
            lines.iter().filter_map(|line| line[metric::SEND_SECONDS].as_array()).map(Vec::len).sum();
        assert_eq!(samples, 150);
        assert!(flushed().is_empty(), "nothing new");
        metrics::with_local_recorder(&emf, || {
            metrics::counter!(metric::SENDS, "outcome" => "accepted").increment(1);
        });
        assert_eq!(flushed()[0][metric::SENDS], 1);
    }
}
