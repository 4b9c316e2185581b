//! `dlq redrive`, killed several times while it works.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use hongyan::config::Config;
use hongyan::event::MessageEvent;
use hongyan::id::{MessageId, UserId};
use hongyan::message::{Message, MessageType};
use hongyan::queue::{DeadLetter, Queue};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::program::{hongyan, output_of};

const LETTERS: i64 = 400;
/// Each run is killed after so many further letters.
const KILLED_AFTER: [usize; 3] = [1, 57, 120];
/// The partitions of the original records, in turn.
const PARTITIONS: [i32; 2] = [3, 4];
const WAIT: Duration = Duration::from_secs(30);

/// No letter is lost, letters of a partition stay in order, and key, value and headers are kept. Only the letter
/// under way at a kill may come twice.
pub(crate) async fn killed_in_the_middle_it_goes_on(folder: &Path, settings: &BTreeMap<String, String>) {
    let config = Config::from_lookup(|name| settings.get(name).cloned()).unwrap();
    let topic = config.kafka.topic.as_str();
    let queue = Queue::new(&config.kafka).unwrap();
    for number in 1..=LETTERS {
        queue.dead_letter(letter(topic, number)).await.unwrap();
    }
    let arrivals = from_now_on(&config.kafka.bootstrap_servers, topic);
    let mut arrived = Vec::new();
    for more in KILLED_AFTER {
        let mut command = hongyan(folder, ["dlq", "redrive"]);
        let mut redrive = command.spawn().unwrap();
        let enough = arrived.len() + more;
        while arrived.len() < enough {
            arrived.push(next(&arrivals, WAIT).expect("a letter is sent back"));
        }
        redrive.kill().await.unwrap();
    }
    let listed = output_of(hongyan(folder, ["dlq", "list"])).await;
    let left = listed.lines().count();
    assert_ne!(left, 0, "the run was killed before its end");
    assert_eq!(
        output_of(hongyan(folder, ["dlq", "redrive", "--dry-run"])).await,
        format!("would be sent back: {left}, refused: 0\n")
    );
    let said = output_of(hongyan(folder, ["dlq", "redrive", "--check"])).await;
    assert_eq!(said, format!("sent back: {left}, refused: 0\n"));
    assert_eq!(output_of(hongyan(folder, ["dlq", "list"])).await, "");
    while let Some(record) = next(&arrivals, Duration::from_secs(2)) {
        arrived.push(record);
    }

    let numbers: Vec<i64> =
        arrived.iter().map(|record| header(record, "original-offset").parse().unwrap()).collect();
    let distinct: BTreeSet<i64> = numbers.iter().copied().collect();
    assert_eq!(distinct, (1..=LETTERS).collect(), "no letter is lost");
    for partition in PARTITIONS {
        let of_it = arrived.iter().zip(&numbers).filter(|(record, _)| record.partition() == partition);
        let of_it: Vec<i64> = of_it.map(|(_, number)| *number).collect();
        assert!(of_it.is_sorted(), "the letters of a partition are in order: {of_it:?}");
    }
    assert!(numbers.len() - distinct.len() <= KILLED_AFTER.len(), "{numbers:?}");
    for (record, number) in arrived.iter().zip(numbers) {
        let DeadLetter { key, value, error, partition, .. } = letter(topic, number);
        assert_eq!((record.key(), record.payload()), (key.as_deref(), value.as_deref()));
        assert_eq!(record.partition(), partition);
        let carried = ["error", "attempts", "original-topic", "original-partition", "failed-at"]
            .map(|name| header(record, name));
        let [topic, partition, failed_at] = [topic.to_owned(), partition.to_string(), number.to_string()];
        assert_eq!(carried, [error, "3".to_owned(), topic, partition, failed_at]);
        assert!(header(record, "redriven-from").starts_with(&config.kafka.dead_letter_topic));
    }
}

fn letter(topic: &str, number: i64) -> DeadLetter {
    let [id, sender, receiver] = [number, 1, 2];
    let message = Message::new(
        MessageId::new(id).unwrap(),
        UserId::new(sender).unwrap(),
        UserId::new(receiver).unwrap(),
        MessageType::TEXT,
        format!("redriven {number}"),
        None,
    );
    DeadLetter {
        key: Some(b"1_2".to_vec()),
        value: Some(serde_json::to_vec(&MessageEvent::Persist { data: message }).unwrap()),
        error: "the table was being mended".to_owned(),
        attempts: 3,
        topic: topic.to_owned(),
        partition: PARTITIONS[usize::from(number % 2 == 0)],
        offset: number,
        failed_at_ms: number,
        trace: None,
    }
}

/// Reads the records that arrive in the letters' partitions from now on.
pub(crate) fn from_now_on(bootstrap_servers: &str, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("group.id", "the-test")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut ends = TopicPartitionList::new();
    for partition in PARTITIONS {
        let (_, end) = consumer.fetch_watermarks(topic, partition, WAIT).unwrap();
        ends.add_partition_offset(topic, partition, Offset::Offset(end)).unwrap();
    }
    consumer.assign(&ends).unwrap();
    consumer
}

/// The next record that was sent back.
pub(crate) fn next(consumer: &BaseConsumer, wait: Duration) -> Option<OwnedMessage> {
    Some(consumer.poll(wait)?.unwrap().detach())
}

fn header(record: &OwnedMessage, name: &str) -> String {
    let headers = record.headers().expect("a letter has headers");
    let found = headers.iter().find(|header| header.key == name).unwrap_or_else(|| panic!("no {name}"));
    String::from_utf8(found.value.unwrap().to_vec()).unwrap()
}
