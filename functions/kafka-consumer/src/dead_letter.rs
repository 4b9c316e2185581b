//! Parks broken records on the dead-letter topic with the reason, so that a person can judge them and send them back.

use hongyan::app::App;
use hongyan::error::Retry;
use hongyan::queue::DeadLetter;
use hongyan::telemetry::metric;
use hongyan::trace;

use crate::batch::{Batch, Content, Record};

/// Parks every broken record. If Kafka does not take one, it would not take the next one either, and each would wait as
/// long; so the rest come again.
pub(crate) async fn park_broken(app: &App, batch: &mut Batch) {
    for record in &mut batch.records {
        if let Content::Broken(reason) = &record.content {
            let reason = reason.clone();
            // One attempt: another cannot make the record readable.
            park(app, record, &reason, 1).await;
            if !record.done {
                return;
            }
        }
    }
}

/// Parks one record. If Kafka does not take the letter now, the record stays unfinished and comes again. If Kafka will
/// never take it because of its size, the letter goes without key and value: no record may hold its partition for ever.
pub(crate) async fn park(app: &App, record: &mut Record, reason: &str, attempts: u32) {
    match record.trace {
        Some(trace) => trace::scope(trace, park_in_trace(app, record, reason, attempts)).await,
        None => park_in_trace(app, record, reason, attempts).await,
    }
}

async fn park_in_trace(app: &App, record: &mut Record, reason: &str, attempts: u32) {
    let letter = DeadLetter {
        key: record.key.clone(),
        value: record.value.clone(),
        error: reason.to_owned(),
        attempts,
        topic: record.topic.clone(),
        partition: record.partition,
        offset: record.offset,
        failed_at_ms: app.clock.now_ms(),
        trace: record.trace,
    };
    let mut taken = app.queue.dead_letter(letter.clone()).await;
    if let Err(refusal) = &taken
        && refusal.retry == Retry::Permanent
    {
        tracing::error!(record = %record.holder(), reason, error = %refusal, "consume.dead_letter: the dead-letter topic will never take this record; its letter goes without key and value");
        taken = app.queue.dead_letter(without_value(letter)).await;
    }
    match taken {
        Ok(()) => {
            tracing::error!(record = %record.holder(), reason, attempts, "consume.dead_letter: a record can never be handled; it is on the dead-letter topic");
        }
        Err(error) if error.retry == Retry::Permanent => {
            tracing::error!(record = %record.holder(), reason, %error, "consume.dead_letter: a record can never be handled, and the dead-letter topic does not even take a letter without its value; the record stays where it is and is passed");
        }
        Err(error) => {
            tracing::error!(record = %record.holder(), reason, %error, "consume.dead_letter: Kafka did not take the dead letter; the record will come again");
            return;
        }
    }
    metrics::counter!(metric::DEAD_LETTERS).increment(1);
    record.done = true;
}

/// The letter without key and value. It says where the record lies, as long as Kafka keeps the record.
fn without_value(letter: DeadLetter) -> DeadLetter {
    let bytes = letter.value.as_ref().map_or(0, Vec::len);
    let DeadLetter { topic, partition, offset, error, .. } = &letter;
    let error = format!(
        "its value of {bytes} bytes is too large for the dead-letter topic and lies at {topic}/{partition}/{offset}; {error}"
    );
    DeadLetter { key: None, value: None, error, ..letter }
}
