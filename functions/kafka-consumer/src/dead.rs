//! Broken records: parked on the dead-letter topic with the reason, where a person can look at them and send them back.

use hongyan::app::App;
use hongyan::queue::DeadLetter;
use hongyan::telemetry::metric;

use crate::batch::{Batch, Content, Record};

/// Parks every record that says nothing that could be done.
pub(crate) async fn park_broken(app: &App, batch: &mut Batch) {
    for record in &mut batch.records {
        if let Content::Broken(reason) = &record.content {
            let reason = reason.clone();
            // Trying again cannot make it readable.
            park(app, record, &reason, 1).await;
        }
    }
}

/// Parks one record. If Kafka does not take it, the record stays unfinished and comes again.
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
    match app.queue.dead_letter(letter).await {
        Ok(()) => {
            tracing::error!(record = %record.holder(), reason, attempts, "consume.dead_letter: a record can never be handled; it is on the dead-letter topic");
            metrics::counter!(metric::DEAD_LETTERS).increment(1);
            record.done = true;
        }
        Err(error) => {
            tracing::error!(record = %record.holder(), reason, %error, "consume.dead_letter: Kafka did not take the dead letter; the record will come again");
        }
    }
}
