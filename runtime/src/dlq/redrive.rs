//! Sends dead letters back to where they came from: in order, each written down before the next, so that a redrive cut
//! off half-way loses nothing. Only the letter that was under way may then come twice, which the consumer does not mind.

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

/// The header that says where a record lay while it was dead: topic, partition and offset joined by slashes.
pub const REDRIVEN_FROM: &str = "redriven-from";

/// How long Kafka may take to acknowledge one record.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What to send back.
#[derive(Clone, Default)]
pub struct RedriveOptions {
    /// Which letters. Those sent back before are sent again only if it says `redriven`.
    pub filter: Filter,
    /// Leave those that would break again: whose value is still no event, or a message that this MySQL would still refuse
    /// or that another one has the id of.
    pub check: Option<Store>,
    /// Only say what would be sent back and what refused.
    pub dry_run: bool,
}

/// A letter that was not sent back, and stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its partition in the dead-letter topic.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Why.
    pub reason: String,
}

/// What a redrive did. `{}` shows it to a person.
#[derive(Debug, Default)]
pub struct Redriven {
    /// How many were sent back; in a dry run, how many would be.
    pub sent: u64,
    /// Nothing was really sent.
    pub dry_run: bool,
    /// Those that were not.
    pub refused: Vec<Refused>,
    /// What ended it early: what was sent is written down, so the same command goes on from there.
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

/// Sends back what `options` says, to the original topic and partition, with the same key, value and headers, and the
/// header `redriven-from` on top. An error before the first letter is an error; a later one is part of the answer.
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
                // Too large for its topic: it would be each time again, and others are not.
                Err(error) if is_permanent(&error) => {
                    let Letter { partition, offset, .. } = letter;
                    let reason = format!("Kafka refuses it where it came from: {error}");
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

/// Why the letter must stay, if it must.
fn judge(letter: &Letter, can_remember: bool) -> Result<(), String> {
    if letter.origin().is_none() {
        return Err("its headers do not say where it came from".to_owned());
    }
    if !can_remember {
        return Err(
            "too many single letters were sent back out of order to remember one more: send back those before it first"
                .to_owned(),
        );
    }
    Ok(())
}

/// Why the letter would break again, if it would.
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
