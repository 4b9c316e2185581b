//! The dead-letter topic for people: look at what could not be handled, and send it back (`./dev dlq`).
//!
//! What was sent back is remembered in Kafka itself, as the committed offsets of the group [`REDRIVE_GROUP`]: everything
//! before the offset is done, and so are the offsets in its metadata ([`done`]).

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

/// The dead letters that `filter` lets through, in order within their partition. All of them are held in memory.
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

/// One dead letter, whether sent back or not; its `Display` in the alternate form (`{:#}`) shows all of it.
pub async fn show(config: &KafkaConfig, partition: i32, offset: i64) -> Result<Option<Letter>, ServerError> {
    let filter =
        Filter { partition: Some(partition), offset: Some(offset), redriven: true, ..Filter::default() };
    Ok(list(config, filter).await?.pop())
}

/// Runs what blocks on a thread that may.
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
