//! The compensator: every minute it looks at the messages that MySQL has not confirmed 5 minutes after their send.
//!
//! A message that MySQL has is marked. A recall that MySQL lacks is written. A lost message is sent again; a message
//! that is merely queued is left alone (`docs/protocol.md`, R17).

mod partition;
mod passed;
mod run;

use hongyan::app::App;
use hongyan::error::ServerError;
use hongyan::random;
use hongyan::telemetry::metric;
use lambda_runtime::Error;

pub use aws_lambda_events::eventbridge::EventBridgeEvent;

use passed::Passed;
use run::Run;
pub use run::Summary;

/// The lease of a run, ms: less than the schedule's minute, so that a run that died delays no other.
const LEASE_MS: u64 = 55_000;

/// Runs once, unless another run is under way. An error of one message or one partition is logged and skipped. A store
/// that is away ends the run with an error; the next run tries again.
#[tracing::instrument(name = "compensate", skip_all)]
pub async fn handle(app: &App, _event: EventBridgeEvent) -> Result<Summary, Error> {
    let ended = run_once(app).await;
    let outcome = match &ended {
        Ok(summary) if summary.skipped => "skipped",
        Ok(_) => "done",
        Err(_) => "failed",
    };
    metrics::counter!(metric::COMPENSATOR_RUNS, "outcome" => outcome).increment(1);
    ended
}

async fn run_once(app: &App) -> Result<Summary, Error> {
    let holder = random::hex_128();
    if !app.cache.begin_compensation(&holder, LEASE_MS).await? {
        tracing::info!("compensate: another run is under way");
        return Ok(Summary { skipped: true, ..Summary::default() });
    }
    let mut run = Run::new(app);
    let result = compensate_all(&mut run).await;
    app.cache.end_compensation(&holder).await?;
    count(app, &run.summary).await?;
    if run.summary.due > 0 {
        tracing::info!(summary = ?run.summary, "compensate: done");
    }
    result?;
    Ok(run.summary)
}

async fn count(app: &App, summary: &Summary) -> Result<(), ServerError> {
    let outcomes = [
        ("resent", summary.resent),
        ("persisted", summary.persisted),
        ("marked", summary.marked),
        ("recalled", summary.recalled),
        ("waiting", summary.left),
        ("failed", summary.failed),
    ];
    for (outcome, messages) in outcomes {
        metrics::counter!(metric::COMPENSATED, "outcome" => outcome).increment(messages as u64);
    }
    let backlog = app.cache.backlog().await?;
    metrics::gauge!(metric::PENDING).set(f64::from(u32::try_from(backlog.messages).unwrap_or(u32::MAX)));
    let oldest_ms = backlog.oldest.map_or(0, |oldest| app.clock.now_ms().saturating_sub(oldest));
    metrics::gauge!(metric::PENDING_OLDEST_SECONDS)
        .set(f64::from(u32::try_from(oldest_ms.max(0)).unwrap_or(u32::MAX)) / 1_000.0);
    Ok(())
}

/// Handles every partition that has due messages.
async fn compensate_all(run: &mut Run<'_>) -> Result<(), ServerError> {
    let app = run.app;
    let after_ms = i64::try_from(app.rules.compensate_after.as_millis()).unwrap_or(i64::MAX);
    let now = app.clock.now_ms();
    let until = now.saturating_sub(after_ms);
    let mut due = Vec::new();
    for partition in 0..app.cache.partitions() {
        let found = partition::due(app, partition, until).await;
        let found = run.note(&format_args!("partition {partition}"), found)?;
        if let Some(ids) = found.filter(|ids| !ids.is_empty()) {
            due.push((partition, ids));
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    // Read the group's position first. A message that is still pending afterwards, although the group had passed its
    // place, is lost.
    let progress = app.queue.progress().await;
    let passed = match &progress {
        Ok(progress) => passed::compare(app, progress, now).await?,
        Err(_) => Vec::new(),
    };
    for (partition, ids) in due {
        let passed = passed.get(usize::from(partition)).copied().unwrap_or(Passed::Nothing);
        partition::compensate(run, partition, ids, passed).await?;
    }
    // Without Kafka, everything that MySQL can settle is settled; the rest waits for the next run.
    progress?;
    run.failure.take().map_or(Ok(()), Err)
}
