//! Broken records: parked on the dead-letter topic with the reason, where a person can look at them and send them back.

use hongyan::app::App;
use hongyan::error::Retry;
use hongyan::queue::DeadLetter;
use hongyan::telemetry::metric;

use crate::batch::{Batch, Content, Record};

/// Parks every record that says nothing that could be done. Where Kafka does not take one now, it would not take the
/// next one either, and each would wait as long: they come again together.
pub(crate) async fn park_broken(app: &App, batch: &mut Batch) {
    for record in &mut batch.records {
        if let Content::Broken(reason) = &record.content {
            let reason = reason.clone();
            // Trying again cannot make it readable.
            park(app, record, &reason, 1).await;
            if !record.done {
                return;
            }
        }
    }
}

/// Parks one record. If Kafka does not take the letter now, the record stays unfinished and comes again. If Kafka will
/// never take it, for its size, the letter goes without the value: no record may hold its partition for ever.
pub(crate) async fn park(app: &App, record: &mut Record, reason: &str, attempts: u32) {
    let letter = DeadLetter {
        key: record.key.clone(),
        value: record.value.clone(),
        error: reason.to_owned(),
        attempts,
        topic: record.topic.clone(),
        partition: record.partition,
        offset: record.offset,
        failed_at_ms: app.clock.now_ms(),
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
            tracing::error!(record = %record.holder(), reason, %error, "consume.dead_letter: a record can never be handled, and the dead-letter topic takes not even a letter without its value; it is left where it is and passed");
        }
        Err(error) => {
            tracing::error!(record = %record.holder(), reason, %error, "consume.dead_letter: Kafka did not take the dead letter; the record will come again");
            return;
        }
    }
    metrics::counter!(metric::DEAD_LETTERS).increment(1);
    record.done = true;
}

/// The letter alone: it says where the record lies, for as long as Kafka keeps it.
fn without_value(letter: DeadLetter) -> DeadLetter {
    let bytes = letter.value.as_ref().map_or(0, Vec::len);
    let DeadLetter { topic, partition, offset, error, .. } = &letter;
    let error = format!(
        "its value of {bytes} bytes is too large for the dead-letter topic and lies at {topic}/{partition}/{offset}; {error}"
    );
    DeadLetter { key: None, value: None, error, ..letter }
}
