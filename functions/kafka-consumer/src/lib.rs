//! The consumer: writes the messages of Kafka to MySQL, and recalls (`docs/protocol.md`, R11 to R16).
//!
//! A batch is handled as a whole: one round trip to Redis for the first check, one for the lock and the second check,
//! one transaction, one round trip for the mark. Of each partition only the unbroken run of finished records is done;
//! the rest comes again. A broken record becomes a dead letter and holds up no other. A store that is away fails the
//! batch and makes no dead letter.

pub mod batch;
mod dead_letter;
mod foreign_recalls;
pub mod persist;
mod recall;

use std::time::Instant;

use hongyan::app::App;
use hongyan::event::MessageEvent;
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan::telemetry::metric;
use hongyan::trace;
use lambda_runtime::Error;

use batch::Batch;

/// The source of the event with which a release asks whether a new version reaches its stores (`docs/deploy-lambda.md`, "A release, and what to watch
/// in it").
pub const CHECK: &str = "hongyan:check";

/// How often such an event asks Kafka before it gives up.
const CHECK_TRIES: usize = 3;

/// Handles one batch and returns the records that must come again. An event of another source is an error.
#[tracing::instrument(name = "consume", skip_all, fields(records = tracing::field::Empty))]
pub async fn handle(app: &App, event: KafkaEvent) -> Result<KafkaBatchResponse, Error> {
    if event.source.as_deref() == Some(CHECK) {
        return check(app).await;
    }
    let mut batch = Batch::decode(event)?;
    tracing::Span::current().record("records", batch.records.len());

    metrics::histogram!(metric::BATCH_RECORDS)
        .record(f64::from(u32::try_from(batch.records.len()).unwrap_or(u32::MAX)));
    let began = Instant::now();

    work_on(app, &mut batch).await;

    metrics::histogram!(metric::BATCH_SECONDS).record(began.elapsed().as_secs_f64());
    let unfinished = batch.records.iter().filter(|record| !record.done).count();
    metrics::counter!(metric::RECORDS_UNFINISHED).increment(unfinished as u64);
    Ok(batch.response()?)
}

/// Asks all three servers, and MySQL for its tables. An error says which of them does not serve this version.
async fn check(app: &App) -> Result<KafkaBatchResponse, Error> {
    app.cache.ping().await?;
    // A cold producer may need longer than one ping waits to connect.
    let mut reached = app.queue.ping().await;
    for _ in 1..CHECK_TRIES {
        if reached.is_err() {
            reached = app.queue.ping().await;
        }
    }
    reached?;
    let missing = app.store.pending_migrations().await?;
    if let Some(first) = missing.first() {
        return Err(format!("the tables lack {} migrations, beginning with {first}", missing.len()).into());
    }
    Ok(KafkaBatchResponse::done())
}

/// Handles `event` as if it had come as a record of `partition`, although Kafka has refused the record. Returns whether
/// it is finished: written, skipped, recalled or parked. For the compensator
/// (`docs/decisions/0038-one-record-one-fate.md`).
pub async fn without_kafka(app: &App, partition: u16, event: &MessageEvent) -> Result<bool, Error> {
    let mut batch = Batch::refused_by_kafka(app.queue.topic(), partition.into(), event)?;
    work_on(app, &mut batch).await;
    Ok(batch.records.iter().all(|record| record.done))
}

async fn work_on(app: &App, batch: &mut Batch) {
    foreign_recalls::reject(app, batch).await;
    dead_letter::park_broken(app, batch).await;
    let traces: Vec<_> = batch.records.iter().filter_map(|record| record.trace).collect();
    let work = Box::pin(async {
        let underway = persist::persist(app, batch).await;
        recall::recall(app, batch, underway).await;
    });
    trace::batch(traces.into_iter(), work).await;
}
