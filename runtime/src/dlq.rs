//! The dead-letter topic for operators: list, show and send back records that the consumer could not handle (`./dev
//! dlq`).
//!
//! Kafka itself remembers which letters were sent back, in the committed offsets of the group with the suffix
//! [`REDRIVE_GROUP`]: all letters before the offset, and the offsets listed in its metadata ([`done`]).

mod done;
mod letter;
mod read;
mod redrive;

use hongyan::config::KafkaConfig;
use hongyan::error::ServerError;
use hongyan::queue::client::ClientEvents;
use hongyan::queue::error::transient;
use rdkafka::error::KafkaResult;

pub use done::REDRIVE_GROUP;
pub use letter::{Filter, Letter};
pub use redrive::{REDRIVEN_FROM, RedriveOptions, Redriven, Refused, redrive};

/// The dead letters that match `filter`, in order within their partition. All of them are held in memory.
pub async fn list(config: &KafkaConfig, filter: Filter) -> Result<Vec<Letter>, ServerError> {
    const ACTION: &str = "dlq.list";
    let events = ClientEvents::new(config)?;
    let (config, reader_events) = (config.clone(), events.clone());
    blocking(ACTION, events, move || {
        let mut letters = Vec::new();
        read::Reader::new(&config, &reader_events)?.each(&filter, |letter| {
            letters.push(letter);
            Ok(())
        })?;
        letters.sort_by_key(|letter| (letter.partition, letter.offset));
        Ok(letters)
    })
    .await
}

/// One dead letter, sent back or not. Its alternate `Display` form (`{:#}`) prints it in full.
pub async fn show(config: &KafkaConfig, partition: i32, offset: i64) -> Result<Option<Letter>, ServerError> {
    let filter =
        Filter { partition: Some(partition), offset: Some(offset), redriven: true, ..Filter::default() };
    Ok(list(config, filter).await?.pop())
}

/// Runs a blocking call of Kafka's client on a thread that may block.
async fn blocking<T: Send + 'static>(
    action: &'static str,
    events: ClientEvents,
    work: impl FnOnce() -> KafkaResult<T> + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| transient(action, error))?
        .map_err(|error| events.explain(action, error))
}
