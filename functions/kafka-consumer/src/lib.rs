//! Kafka to MySQL: writes what was sent, takes back what was recalled (`mission.md`, "Persist").
//!
//! A batch is worked on as a whole: one round trip to Redis to check, one to check again and lock, one transaction, one
//! round trip to mark. Of each partition only the unbroken run of finished records is done; the rest comes again. A
//! broken record goes to the dead-letter topic and holds nobody up; a store that is away fails the batch without one.

pub mod batch;
mod dead;
pub mod persist;
mod recall;

use std::time::Instant;

use aws_lambda_events::kafka::KafkaEvent;
use hongyan::app::App;
use hongyan::queue::KafkaBatchResponse;
use hongyan::telemetry::metric;
use lambda_runtime::Error;

use batch::{Batch, Content};

/// Works on one batch and answers which records must come again. An event that is not one of Kafka is an error.
#[tracing::instrument(name = "consume", skip_all, fields(records = tracing::field::Empty))]
pub async fn handle(app: &App, event: KafkaEvent) -> Result<KafkaBatchResponse, Error> {
    let mut batch = Batch::decode(event)?;
    tracing::Span::current().record("records", batch.records.len());

    metrics::histogram!(metric::BATCH_RECORDS)
        .record(f64::from(u32::try_from(batch.records.len()).unwrap_or(u32::MAX)));
    let began = Instant::now();

    dead::park_broken(app, &mut batch).await;
    let underway = persist::persist(app, &mut batch).await;
    recall::recall(app, &mut batch, underway).await;

    metrics::histogram!(metric::BATCH_SECONDS).record(began.elapsed().as_secs_f64());
    let response = batch.response();
    metrics::counter!(metric::PERSISTED, "outcome" => "retried")
        .increment(response.batch_item_failures.len() as u64);
    Ok(response)
}

/// The recall events among the records, with their positions in the batch.
fn recalls(batch: &Batch) -> Vec<(usize, hongyan::event::Recall)> {
    let recalls = batch.records.iter().enumerate().filter_map(|(position, record)| match &record.content {
        Content::Recall(recall) => Some((position, *recall)),
        _ => None,
    });
    recalls.collect()
}
