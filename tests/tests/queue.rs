//! The queue on a real Kafka: the promises of `send`, dead letters, and the progress of the group.

use std::time::{Duration, Instant};

use hongyan::error::Retry;
use hongyan::event::MessageEvent;
use hongyan::queue::{DeadLetter, Progress, Queue};
use rdkafka::Message as _;
use rdkafka::message::Headers as _;
use serde_json::Value;

use hongyan_testkit::description::assert_valid;
use hongyan_testkit::kafka::{commit, own_config, own_topics, persist, reader, servers};

const WAIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_record_lies_in_the_partition_of_its_conversation_under_its_key() {
    let config = own_topics(&servers().await, 10).await;
    let queue = Queue::new(&config).unwrap();
    queue.send(&persist(9_007_199_254_740_993, 2, 1), WAIT).await.unwrap();

    let consumer = reader(&config, &config.topic);
    let record = consumer.poll(WAIT).unwrap().unwrap();
    // "1_2" hashes to 50084.
    assert_eq!((record.partition(), record.key()), (4, Some(b"1_2".as_slice())));
    let event: MessageEvent = serde_json::from_slice(record.payload().unwrap()).unwrap();
    assert_eq!(event, persist(9_007_199_254_740_993, 2, 1));
    let value = serde_json::from_slice(record.payload().unwrap()).unwrap();
    assert_valid("schemas/persist.schema.json", &value);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_keeps_key_and_value_and_says_why() {
    let config = own_topics(&servers().await, 1).await;
    let queue = Queue::new(&config).unwrap();
    let letter = DeadLetter {
        key: Some(vec![0xff, 0x00]),
        value: Some(b"not JSON".to_vec()),
        error: "expected value at line 1 column 1 鸿".to_owned(),
        attempts: 3,
        topic: config.topic.clone(),
        partition: 7,
        offset: 41,
        failed_at_ms: 1_732_723_200_000,
        trace: None,
    };
    queue.dead_letter(letter.clone()).await.unwrap();
    queue.dead_letter(DeadLetter { key: None, value: None, ..letter.clone() }).await.unwrap();

    let consumer = reader(&config, &config.dead_letter_topic);
    let record = consumer.poll(WAIT).unwrap().unwrap();
    assert_eq!(record.key(), letter.key.as_deref());
    assert_eq!(record.payload(), letter.value.as_deref());
    let headers: Vec<(String, String)> = record
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key.to_owned(), String::from_utf8(header.value.unwrap().to_vec()).unwrap()))
        .collect();
    let expected: Vec<(String, String)> =
        letter.headers().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    assert_eq!(headers, expected);
    let headers = headers.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    assert_valid("schemas/dead-letter-headers.schema.json", &Value::Object(headers));
    let empty = consumer.poll(WAIT).unwrap().unwrap();
    assert_eq!((empty.key(), empty.payload()), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_kafka_will_never_take_is_a_permanent_error() {
    let config = own_topics(&servers().await, 1).await;
    let queue = Queue::new(&config).unwrap();
    let letter = DeadLetter {
        key: None,
        // Random enough that compression does not make it fit.
        value: Some(rand::random_iter().take(2_000_000).collect()),
        error: String::new(),
        attempts: 1,
        topic: config.topic.clone(),
        partition: 0,
        offset: 0,
        failed_at_ms: 0,
        trace: None,
    };
    let error = queue.dead_letter(letter).await.unwrap_err();
    assert_eq!(error.retry, Retry::Permanent, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_the_place_of_the_first_record_that_is_not_done() {
    let config = own_topics(&servers().await, 10).await;
    let queue = Queue::new(&config).unwrap();
    assert_eq!(queue.progress().await.unwrap(), [Progress::CaughtUp; 10], "an empty topic, no group yet");

    for id in 1..=3 {
        queue.send(&persist(id, 1, 2), WAIT).await.unwrap();
    }
    queue.send(&persist(4, 3, 5), WAIT).await.unwrap();
    let behind = |position, end| Progress::Behind { position, end };
    let progress = queue.progress().await.unwrap();
    assert_eq!(progress[4], behind(0, 3), "no group yet: the start of the log");
    assert_eq!((progress[9], progress[0]), (behind(0, 1), Progress::CaughtUp));

    commit(&config, 4, 2);
    commit(&config, 9, 1);
    let progress = queue.progress().await.unwrap();
    assert_eq!(progress[4], behind(2, 3), "lagging by one");
    assert_eq!(progress[9], Progress::CaughtUp);

    commit(&config, 4, 3);
    assert_eq!(queue.progress().await.unwrap(), [Progress::CaughtUp; 10]);
}

/// One unreadable partition does not hide the progress of the others.
#[tokio::test(flavor = "multi_thread")]
async fn progress_of_a_partition_that_does_not_exist_is_unknown() {
    let mut config = own_topics(&servers().await, 4).await;
    config.partitions = std::num::NonZeroU16::new(6).unwrap();
    let queue = Queue::new(&config).unwrap();
    let progress = queue.progress().await.unwrap();
    assert_eq!(progress[..4], [Progress::CaughtUp; 4]);
    assert_eq!(progress[4..], [Progress::Unknown; 2]);
    let error = queue.ping().await.unwrap_err().to_string();
    assert!(error.contains("KAFKA_PARTITIONS is 6") && error.contains("4 partitions"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kafka_away_a_send_answers_within_its_wait() {
    // No broker listens there.
    let mut config = own_config("127.0.0.1:9", 10);
    config.delivery_timeout = Duration::from_secs(2);
    let queue = Queue::new(&config).unwrap();
    let started = Instant::now();
    let error = queue.send(&persist(1, 1, 2), Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.retry, Retry::Transient, "{error}");
    assert!(started.elapsed() < Duration::from_millis(400), "took {:?}", started.elapsed());
    assert!(queue.flush(Duration::from_millis(10)).await.is_err(), "one record is still on its way");
    queue.flush(Duration::from_secs(10)).await.expect("given up after the delivery time-out");
    assert!(queue.ping().await.is_err());
    assert!(queue.progress().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn ping_says_that_the_topic_is_missing() {
    let config = own_config(&servers().await, 10);
    let queue = Queue::new(&config).unwrap();
    let error = queue.ping().await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("unknown topic"), "{error}");
}

#[test]
fn a_compression_that_this_build_lacks_names_its_variable() {
    let mut config = own_config("127.0.0.1:9", 10);
    config.compression = "zstd".to_owned();
    if let Err(error) = Queue::new(&config) {
        assert!(error.to_string().contains("KAFKA_COMPRESSION"), "{error}");
    }
}
