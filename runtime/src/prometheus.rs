//! The metrics of this process in Prometheus' text format.

use std::sync::OnceLock;
use std::time::Duration;

use hongyan::telemetry::{build, metric};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// The buckets of all durations, from half a millisecond to ten seconds. The targets of `docs/performance.md` (1 ms,
/// 5 ms, 10 ms, 50 to 200 ms, 1 s, 3 s) are bounds of buckets, so that an alarm can count the requests above a
/// target.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 10.0];
const RECORDS: [f64; 6] = [1.0, 5.0, 10.0, 50.0, 100.0, 1_000.0];

/// How often the recorder folds collected samples into its histograms, in the background.
const UPKEEP: Duration = Duration::from_secs(5);

/// Makes Prometheus the recorder of this process, once; later calls return the same handle. Must be called inside a
/// tokio runtime.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_records".to_owned()), &RECORDS)?
        .install_recorder()?;
    metric::describe();
    metric::begin();
    build::record();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(HANDLE.get_or_init(|| handle).clone())
}
