//! Kafka to MySQL: writes what was sent, takes back what was recalled (`docs/protocol.md`, R11 to R16).
//!
//! A batch is worked on as a whole: one round trip to Redis to check, one to check again and lock, one transaction, one
//! round trip to mark. Of each partition only the unbroken run of finished records is done; the rest comes again. A
//! broken record goes to the dead-letter topic and holds nobody up; a store that is away fails the batch without one.

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
use lambda_runtime::Error;

use batch::Batch;

/// Works on one batch and answers which records must come again. An event that is not one of Kafka is an error.
#[tracing::instrument(name = "consume", skip_all, fields(records = tracing::field::Empty))]
pub async fn handle(app: &App, event: KafkaEvent) -> Result<KafkaBatchResponse, Error> {
    let mut batch = Batch::decode(event)?;
    tracing::Span::current().record("records", batch.records.len());

    metrics::histogram!(metric::BATCH_RECORDS)
        .record(f64::from(u32::try_from(batch.records.len()).unwrap_or(u32::MAX)));
    let began = Instant::now();

    work_on(app, &mut batch).await;

    metrics::histogram!(metric::BATCH_SECONDS).record(began.elapsed().as_secs_f64());
    let response = batch.response()?;
    metrics::counter!(metric::PERSISTED, "outcome" => "retried")
        .increment(response.batch_item_failures.len() as u64);
    Ok(response)
}

/// Does what `event` says though Kafka has refused to carry it: as if it had come as a record of `partition`. Answers
/// whether it is finished: written, skipped, taken back or parked. For the compensator
/// (`docs/decisions/0038-one-record-one-fate.md`).
pub async fn without_kafka(app: &App, partition: u16, event: &MessageEvent) -> Result<bool, Error> {
    let mut batch = Batch::refused_by_kafka(app.queue.topic(), partition.into(), event)?;
    work_on(app, &mut batch).await;
    Ok(batch.records.iter().all(|record| record.done))
}

async fn work_on(app: &App, batch: &mut Batch) {
    foreign_recalls::reject(app, batch).await;
    dead_letter::park_broken(app, batch).await;
    let underway = persist::persist(app, batch).await;
    recall::recall(app, batch, underway).await;
}
