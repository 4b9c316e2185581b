//! Sends dead letters back to the partitions they came from, in order. Each letter is committed as sent before the
//! next is sent, so an interrupted redrive loses none. At most the letter under way is sent twice, and the consumer
//! ignores the second copy.

use std::fmt;
use std::time::Duration;

use hongyan::config::KafkaConfig;
use hongyan::error::ServerError;
use hongyan::queue::client::{ClientEvents, client_config, refused};
use hongyan::queue::error::{is_permanent, kafka_error};
use hongyan::store::{Persisted, Store};
use hongyan_kafka_consumer::batch::Content;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::runtime::Handle;

use super::letter::{Filter, Letter};
use super::read::Reader;

/// The header with the place of the record in the dead-letter topic: topic, partition and offset joined by slashes.
pub const REDRIVEN_FROM: &str = "redriven-from";

/// How long Kafka may take to acknowledge one record.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The options of a redrive.
#[derive(Clone, Default)]
pub struct RedriveOptions {
    /// Selects the letters. Letters that were sent back before are sent again only with `redriven`.
    pub filter: Filter,
    /// With a store: leave a letter that would break again. Its value is still no event, or MySQL would still refuse
    /// its message, or another message has its id.
    pub check: Option<Store>,
    /// Send nothing; only report which letters would be sent back and which refused.
    pub dry_run: bool,
}

/// A letter that was not sent back and stays in the dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// The offset in that partition.
    pub offset: i64,
    /// The reason.
    pub reason: String,
}

/// The result of a redrive. `{}` prints it for an operator.
#[derive(Debug, Default)]
pub struct Redriven {
    /// How many letters were sent back; in a dry run, how many would be.
    pub sent: u64,
    /// True for a dry run: nothing was sent.
    pub dry_run: bool,
    /// The letters that were not sent back.
    pub refused: Vec<Refused>,
    /// The error that ended the redrive early. Every letter sent before is committed, so the same command goes on
    /// from there.
    pub interrupted: Option<ServerError>,
}

impl fmt::Display for Redriven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = if self.dry_run { "would be sent back" } else { "sent back" };
        write!(f, "{sent}: {}, refused: {}", self.sent, self.refused.len())?;
        for Refused { partition, offset, reason } in &self.refused {
            write!(f, "\n{partition}/{offset}  {reason}")?;
        }
        match &self.interrupted {
            Some(error) => write!(f, "\ninterrupted: {error}; run the command again to go on"),
            None => Ok(()),
        }
    }
}

/// Sends back the selected letters to the original topic and partition, with the original key, value and headers and
/// the additional header `redriven-from`. An error before the first letter is returned as `Err`; a later one as
/// [`Redriven::interrupted`].
pub async fn redrive(config: &KafkaConfig, options: RedriveOptions) -> Result<Redriven, ServerError> {
    const ACTION: &str = "dlq.redrive";
    let mut client = client_config(config);
    client
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
        .set("compression.type", &config.compression)
        .set("message.max.bytes", "4194304");
    let events = ClientEvents::new(config)?;
    let producer: FutureProducer<ClientEvents> =
        client.create_with_context(events.clone()).map_err(refused)?;
    let (config, reader_events, runtime) = (config.clone(), events.clone(), Handle::current());
    super::blocking(ACTION, events, move || {
        let mut reader = Reader::new(&config, &reader_events)?;
        let mut redriven = Redriven { dry_run: options.dry_run, ..Redriven::default() };
        loop {
            let letter = match reader.next() {
                Ok(Some(letter)) => letter,
                Ok(None) => break,
                Err(error) => {
                    redriven.interrupted = Some(kafka_error(ACTION, error));
                    break;
                }
            };
            if !options.filter.admits(&letter) {
                continue;
            }
            let judged = judge(&letter, reader.can_remember(&letter)).map_or_else(
                |reason| Ok(Some(reason)),
                |()| {
                    options.check.as_ref().map_or(Ok(None), |store| runtime.block_on(examine(&letter, store)))
                },
            );
            match judged {
                Ok(None) => {}
                Ok(Some(reason)) => {
                    let Letter { partition, offset, .. } = letter;
                    redriven.refused.push(Refused { partition, offset, reason });
                    continue;
                }
                Err(error) => {
                    redriven.interrupted = Some(error);
                    break;
                }
            }
            if options.dry_run {
                redriven.sent += 1;
                continue;
            }
            match runtime.block_on(send(&producer, &config.dead_letter_topic, &letter)) {
                Ok(()) => redriven.sent += 1,
                // The letter is too large for its topic, so every further try would fail too. The other letters can
                // still be sent.
                Err(error) if is_permanent(&error) => {
                    let Letter { partition, offset, .. } = letter;
                    let reason = format!("the original topic refuses it: {error}");
                    redriven.refused.push(Refused { partition, offset, reason });
                    continue;
                }
                Err(error) => {
                    redriven.interrupted = Some(kafka_error(ACTION, error));
                    break;
                }
            }
            if let Err(error) = reader.remember(&letter) {
                redriven.interrupted = Some(kafka_error(ACTION, error));
                break;
            }
        }
        Ok(redriven)
    })
    .await
}

/// The reason why the letter must not be sent back, if there is one.
fn judge(letter: &Letter, can_remember: bool) -> Result<(), String> {
    if letter.origin().is_none() {
        return Err("its headers do not name the original topic, partition and offset".to_owned());
    }
    if !can_remember {
        return Err(
            "too many single letters were sent back out of order to remember one more; first send back the letters before it"
                .to_owned(),
        );
    }
    Ok(())
}

/// The reason why the letter would break again, if there is one.
async fn examine(letter: &Letter, store: &Store) -> Result<Option<String>, ServerError> {
    let again = |reason: String| Ok(Some(format!("would break again: {reason}")));
    let message = match letter.value.as_deref().map(Content::parse) {
        None => return again("it has no value".to_owned()),
        Some(Content::Broken(reason)) => return again(reason),
        Some(Content::Recall(_) | Content::HeldUp) => return Ok(None),
        Some(Content::Persist(message)) => *message,
    };
    match store.try_persist(std::slice::from_ref(&message)).await?.pop() {
        Some(Persisted::Refused { reason }) => again(format!("MySQL refuses the row: {reason}")),
        Some(Persisted::Clash) => again(format!("another message has the id {}", message.id)),
        _ => Ok(None),
    }
}

async fn send(
    producer: &FutureProducer<ClientEvents>,
    dead_letter_topic: &str,
    letter: &Letter,
) -> rdkafka::error::KafkaResult<()> {
    let Some((topic, partition, _)) = letter.origin() else {
        return Ok(());
    };
    let from = format!("{dead_letter_topic}/{}/{}", letter.partition, letter.offset);
    let mut headers = OwnedHeaders::new();
    for (key, value) in letter.headers.iter().filter(|(key, _)| key != REDRIVEN_FROM) {
        headers = headers.insert(Header { key, value: value.as_ref() });
    }
    let headers = headers.insert(Header { key: REDRIVEN_FROM, value: Some(&from) });
    let mut record: FutureRecord<'_, [u8], [u8]> =
        FutureRecord::to(topic).partition(partition).headers(headers);
    if let Some(key) = &letter.key {
        record = record.key(key);
    }
    if let Some(value) = &letter.value {
        record = record.payload(value);
    }
    match producer.send(record, TIMEOUT).await {
        Ok(_) => Ok(()),
        Err((error, _)) => Err(error),
    }
}
