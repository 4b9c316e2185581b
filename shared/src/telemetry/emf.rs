//! Metrics in CloudWatch's embedded metric format: CloudWatch turns JSON lines on standard output into metrics, so a
//! function needs neither a network call nor a permission.
//!
//! A label becomes a dimension; units come from [`super::metric`]. Each value counts twice: for the stack, and for the
//! version of the function ([`Place`]). A counter is written as its increase since the last flush, a gauge only if it was
//! set since then, and a distribution as its samples, at most 100 in a line, as the format demands.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use metrics::{
    Counter, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SetRecorderError,
    SharedString, Unit,
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::metric::{ALL, Kind, Metric};
use crate::clock::Clock;

/// The most samples in one line.
const SAMPLES_PER_LINE: usize = 100;
/// The most samples that are kept between two flushes, so that memory is bounded even if nothing flushes.
const MOST_SAMPLES: usize = 10_000;

/// Name and value of each label, sorted.
type Labels = Vec<(String, String)>;

/// The label that the figures of a version leave out: a version is judged over all routes of its function.
const ROUTE: &str = "route";

/// The process that the metrics come from.
#[derive(Debug, Clone)]
pub struct Place {
    /// The CloudWatch namespace: `METRICS_NAMESPACE`.
    pub namespace: String,
    /// The stack, the dimension `stack` of all metrics: `METRICS_STACK`.
    pub stack: String,
    /// The function, the dimension `function` of the figures of a version.
    pub function: String,
    /// The version of the function, the dimension `version`.
    pub version: String,
}

/// The recorder of a Lambda process. Cheap to clone.
#[derive(Clone)]
pub struct Emf(Arc<Inner>);

struct Inner {
    clock: Clock,
    place: Place,
    metrics: Mutex<BTreeMap<Key, Cell>>,
}

enum Cell {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<Level>),
    Histogram(Arc<Samples>),
}

/// A gauge, and whether it was set since the last flush.
#[derive(Default)]
struct Level {
    value: Mutex<f64>,
    is_new: AtomicBool,
}

impl Level {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut value = self.value.lock();
        *value = change(*value);
        self.is_new.store(true, Ordering::Release);
    }

    /// The value, if it was set since the last call.
    fn take(&self) -> Option<f64> {
        self.is_new.swap(false, Ordering::AcqRel).then(|| *self.value.lock())
    }
}

impl GaugeFn for Level {
    fn increment(&self, added: f64) {
        self.change(|value| value + added);
    }

    fn decrement(&self, taken: f64) {
        self.change(|value| value - taken);
    }

    fn set(&self, value: f64) {
        self.change(|_| value);
    }
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
    pub fn new(clock: Clock, place: Place) -> Self {
        Self(Arc::new(Inner { clock, place, metrics: Mutex::default() }))
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
        let line = |labels: &[(String, String)], values: &[(String, Value)]| {
            line(self.0.clock.now_ms(), &self.0.place, labels, values)
        };
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
                Cell::Gauge(gauge) => {
                    if let Some(value) = gauge.take() {
                        shared.entry(labels).or_default().push((name, value.into()));
                    }
                }
                Cell::Histogram(samples) => {
                    let samples = std::mem::take(&mut *samples.0.lock());
                    for chunk in samples.chunks(SAMPLES_PER_LINE) {
                        lines.push(line(&labels, &[(name.clone(), chunk.into())]));
                    }
                }
            }
        }
        lines.extend(shared.into_iter().map(|(labels, values)| line(&labels, &values)));
        lines
    }
}

fn line(now: i64, place: &Place, labels: &[(String, String)], values: &[(String, Value)]) -> Value {
    let names = labels.iter().map(|(name, _)| name.as_str());
    let of_stack: Vec<&str> = std::iter::once("stack").chain(names.clone()).collect();
    let others = names.filter(|name| ![ROUTE, "function"].contains(name));
    let of_version: Vec<&str> = ["stack", "function", "version"].into_iter().chain(others).collect();
    let definitions: Vec<Value> =
        values.iter().map(|(name, _)| json!({ "Name": name, "Unit": unit_of(name) })).collect();
    let mut line = Map::new();
    for (name, value) in [("stack", &place.stack), ("function", &place.function), ("version", &place.version)]
    {
        line.insert(name.to_owned(), value.as_str().into());
    }
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now,
            "CloudWatchMetrics": [{
                "Namespace": place.namespace,
                "Dimensions": [of_stack, of_version],
                "Metrics": definitions,
            }],
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

    fn emf() -> Emf {
        let text = str::to_owned;
        let place = Place {
            namespace: text("Chat"),
            stack: text("blue"),
            function: text("send"),
            version: text("7"),
        };
        Emf::new(Clock::system(), place)
    }

    fn flushed_by(emf: &Emf) -> Vec<Value> {
        let mut out = Vec::new();
        emf.flush(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect()
    }

    #[test]
    fn a_version_is_told_apart_and_judged_over_all_its_routes() {
        let emf = emf();
        metrics::with_local_recorder(&emf, || {
            let labels = [("function", "send"), (ROUTE, "POST /messages"), ("class", "5xx")];
            metrics::counter!(metric::RESPONSES, &labels).increment(1);
        });

        let lines = flushed_by(&emf);

        assert_eq!(lines.len(), 1, "{lines:#?}");
        let dimensions =
            json!([["stack", "class", "function", "route"], ["stack", "function", "version", "class"]]);
        assert_eq!(lines[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], dimensions);
        for (name, value) in [
            ("stack", "blue"),
            ("function", "send"),
            ("version", "7"),
            (ROUTE, "POST /messages"),
            ("class", "5xx"),
        ] {
            assert_eq!(lines[0][name], value, "{name}");
        }
    }

    #[test]
    fn a_gauge_is_written_only_after_it_was_set() {
        let emf = emf();
        let set = |value: f64| {
            metrics::with_local_recorder(&emf, || metrics::gauge!(metric::PENDING).set(value));
        };
        set(3.0);
        assert_eq!(flushed_by(&emf)[0][metric::PENDING], 3.0);
        assert!(flushed_by(&emf).is_empty());
        set(3.0);
        assert_eq!(flushed_by(&emf)[0][metric::PENDING], 3.0, "the same value again counts too");
    }

    #[test]
    fn each_flush_writes_what_was_recorded_since_the_last() {
        let emf = emf();
        let flushed = || flushed_by(&emf);
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
        assert_eq!(definition["Namespace"], "Chat");
        let dimensions = json!([["stack", "outcome"], ["stack", "function", "version", "outcome"]]);
        assert_eq!(definition["Dimensions"], dimensions);
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
