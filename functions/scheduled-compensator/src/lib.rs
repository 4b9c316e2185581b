//! Every minute: what is still not confirmed 5 minutes after it was sent is looked at (`mission.md`, "Compensate").
//!
//! A message that MySQL has is marked; a recall that MySQL lacks is written; a message that is lost, and only that, is
//! sent again: one that is merely queued is left alone (`protocol.md`, "The compensator never feeds a backlog").

mod partition;

use hongyan::app::App;
use hongyan::error::ServerError;
use hongyan::telemetry::metric;
use lambda_runtime::Error;
use rand::Rng;
use serde::{Deserialize, Serialize};

pub use aws_lambda_events::eventbridge::EventBridgeEvent;

/// How long a run may hold off others, ms: less than the schedule's minute, so that a run that died costs none.
const RUN_MS: u64 = 55_000;

/// The most messages that one run sends again.
const MAX_RESENT: usize = 1_000;

/// What a run did.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Whether another run was under way, so that this one did nothing.
    pub skipped: bool,
    /// Messages that were due and looked at.
    pub due: usize,
    /// Found in MySQL and marked.
    pub marked: usize,
    /// Recalls that were written to MySQL.
    pub recalled: usize,
    /// Lost, and produced again.
    pub resent: usize,
    /// Merely queued, or sent again less than 5 minutes ago: left alone.
    pub left: usize,
    /// Not in any store: entries of sends that were never accepted.
    pub dropped: usize,
}

/// Runs once, unless a run is under way. Fails if a store is away: the next run tries again.
#[tracing::instrument(name = "compensate", skip_all)]
pub async fn handle(app: &App, _event: EventBridgeEvent) -> Result<Summary, Error> {
    let holder = format!("{:032x}", rand::rng().random::<u128>());
    if !app.cache.begin_compensation(&holder, RUN_MS).await? {
        tracing::info!("compensate: another run is under way");
        return Ok(Summary { skipped: true, ..Summary::default() });
    }
    let result = run(app).await;
    app.cache.end_compensation(&holder).await?;
    let summary = result?;
    count(app, &summary).await?;
    if summary.due > 0 {
        tracing::info!(?summary, "compensate: done");
    }
    Ok(summary)
}

async fn count(app: &App, summary: &Summary) -> Result<(), ServerError> {
    let outcomes = [
        ("resent", summary.resent),
        ("marked", summary.marked),
        ("recalled", summary.recalled),
        ("waiting", summary.left),
    ];
    for (outcome, messages) in outcomes {
        metrics::counter!(metric::COMPENSATED, "outcome" => outcome).increment(messages as u64);
    }
    let pending = app.cache.pending_count().await?;
    metrics::gauge!(metric::PENDING).set(f64::from(u32::try_from(pending).unwrap_or(u32::MAX)));
    Ok(())
}

async fn run(app: &App) -> Result<Summary, ServerError> {
    let mut summary = Summary::default();
    let after_ms = i64::try_from(app.rules.compensate_after.as_millis()).unwrap_or(i64::MAX);
    let until = app.clock.now_ms().saturating_sub(after_ms);
    let mut due = Vec::new();
    for partition in 0..app.cache.partitions() {
        let ids = partition::due(app, partition, until).await?;
        if !ids.is_empty() {
            due.push((partition, ids));
        }
    }
    if due.is_empty() {
        return Ok(summary);
    }
    // Before the details are read: what is still pending then, and was passed here, is not merely on its way.
    let progress = app.queue.progress().await;
    for (partition, ids) in due {
        let passed =
            progress.as_ref().ok().and_then(|progress| progress.get(usize::from(partition)).copied());
        partition::compensate(app, partition, ids, passed, MAX_RESENT, &mut summary).await?;
    }
    // Without Kafka, what MySQL can settle is settled; the rest waits for the next run.
    progress?;
    Ok(summary)
}
