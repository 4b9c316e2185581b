//! Every minute the compensator looks at the messages that are still not confirmed 5 minutes after they were sent.
//!
//! A message that MySQL has is marked; a recall that MySQL lacks is written; a message that is lost, and only that, is
//! sent again: one that is merely queued is left alone (`docs/protocol.md`, R17).

mod partition;
mod passed;

use std::fmt::Display;
use std::time::{Duration, Instant};

use hongyan::app::App;
use hongyan::error::ServerError;
use hongyan::telemetry::metric;
use lambda_runtime::Error;
use rand::Rng;
use serde::{Deserialize, Serialize};

pub use aws_lambda_events::eventbridge::EventBridgeEvent;

use passed::Passed;

/// How long a run may hold off others, ms: less than the schedule's minute, so that a run that died costs none.
const RUN_MS: u64 = 55_000;

/// The most messages that one run sends again.
const MAX_RESENT: usize = 1_000;

/// How long a run goes on, so that it has ended before another may begin.
const RUN_FOR: Duration = Duration::from_secs(40);

/// So many stores' errors in a row are a store that is away, and not one message's matter.
const AWAY_AFTER: u32 = 3;

/// What a run did.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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
    /// Lost, refused by Kafka for good, and so written to MySQL without it.
    pub persisted: usize,
    /// Merely queued, or sent again less than 5 minutes ago: left alone.
    pub left: usize,
    /// Not in any store: entries of sends that were never accepted.
    pub dropped: usize,
    /// What a server refused, each for itself: the next run tries again.
    pub failed: usize,
}

/// Runs once, unless a run is under way. What concerns one message or one partition is told and passed over; a store
/// that is away ends the run, which then fails: the next run tries again.
#[tracing::instrument(name = "compensate", skip_all)]
pub async fn handle(app: &App, _event: EventBridgeEvent) -> Result<Summary, Error> {
    let holder = format!("{:032x}", rand::rng().random::<u128>());
    if !app.cache.begin_compensation(&holder, RUN_MS).await? {
        tracing::info!("compensate: another run is under way");
        return Ok(Summary { skipped: true, ..Summary::default() });
    }
    let mut run = Run::new(app);
    let result = run.all().await;
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
    let pending = app.cache.pending_count().await?;
    metrics::gauge!(metric::PENDING).set(f64::from(u32::try_from(pending).unwrap_or(u32::MAX)));
    Ok(())
}

/// A run under way.
struct Run<'a> {
    app: &'a App,
    summary: Summary,
    began: Instant,
    /// Errors of servers in a row that may pass.
    streak: u32,
    /// What ended the work on a partition.
    failure: Option<ServerError>,
}

impl<'a> Run<'a> {
    fn new(app: &'a App) -> Self {
        Self { app, summary: Summary::default(), began: Instant::now(), streak: 0, failure: None }
    }

    /// Whether there is time for one more.
    fn has_time(&self) -> bool {
        self.began.elapsed() < RUN_FOR
    }

    /// Notes what became of one message or one partition. Only so many errors in a row are an error of the run.
    fn note<T>(
        &mut self,
        what: &dyn Display,
        outcome: Result<T, ServerError>,
    ) -> Result<Option<T>, ServerError> {
        match outcome {
            Ok(done) => {
                self.streak = 0;
                Ok(Some(done))
            }
            Err(error) if error.is_transient() => {
                self.streak += 1;
                if self.streak >= AWAY_AFTER {
                    return Err(error);
                }
                tracing::warn!(%what, %error, "compensate: passed over; the next run tries again");
                self.summary.failed += 1;
                Ok(None)
            }
            Err(error) => {
                tracing::error!(%what, %error, "compensate: a server refuses; passed over, and tried again by the next run");
                self.summary.failed += 1;
                Ok(None)
            }
        }
    }

    async fn all(&mut self) -> Result<(), ServerError> {
        let app = self.app;
        let after_ms = i64::try_from(app.rules.compensate_after.as_millis()).unwrap_or(i64::MAX);
        let now = app.clock.now_ms();
        let until = now.saturating_sub(after_ms);
        let mut due = Vec::new();
        for partition in 0..app.cache.partitions() {
            let found = partition::due(app, partition, until).await;
            let found = self.note(&format_args!("partition {partition}"), found)?;
            if let Some(ids) = found.filter(|ids| !ids.is_empty()) {
                due.push((partition, ids));
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        // Before the details are read: what is still pending then, and was passed here, is not merely on its way.
        let progress = app.queue.progress().await;
        let passed = match &progress {
            Ok(progress) => passed::look(app, progress, now).await?,
            Err(_) => Vec::new(),
        };
        for (partition, ids) in due {
            let passed = passed.get(usize::from(partition)).copied().unwrap_or(Passed::Nothing);
            partition::compensate(self, partition, ids, passed).await?;
        }
        // Without Kafka, what MySQL can settle is settled; the rest waits for the next run.
        progress?;
        self.failure.take().map_or(Ok(()), Err)
    }
}
