//! Dead letters on a real Kafka: listed, shown, and sent back in order, each once, even if a redrive is interrupted.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use std::time::Duration;

use hongyan::config::KafkaConfig;
use hongyan::event::MessageEvent;
use hongyan::id::MessageId;
use hongyan::message::Message;
use hongyan::queue::{DeadLetter, Queue};
use hongyan_runtime::dlq::{self, Filter, RedriveOptions};
use hongyan_testkit::TestApp;
use hongyan_testkit::app::eventually;
use hongyan_testkit::kafka::{
    create_topic, delete_topic, own_topics, persist, reader, servers, set_max_message_bytes,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};

const WAIT: Duration = Duration::from_secs(10);

/// A letter of the record at `offset` of `partition`. All have one key, so that they keep their order.
fn letter(config: &KafkaConfig, partition: i32, offset: i64, value: Vec<u8>, error: &str) -> DeadLetter {
    DeadLetter {
        key: Some(b"1_2".to_vec()),
        value: Some(value),
        error: error.to_owned(),
        attempts: 3,
        topic: config.topic.clone(),
        partition,
        offset,
        failed_at_ms: 1_000 + offset,
        trace: None,
    }
}

fn event(id: i64) -> Vec<u8> {
    serde_json::to_vec(&persist(id, 1, 2)).unwrap()
}

/// All records of the original topic, in order within their partition.
fn arrived(config: &KafkaConfig, count: usize) -> Vec<OwnedMessage> {
    let consumer = reader(config, &config.topic);
    let records = (0..count).map(|_| consumer.poll(WAIT).unwrap().unwrap().detach()).collect();
    assert!(consumer.poll(Duration::from_millis(500)).is_none(), "more than {count} records");
    records
}

fn header(record: &OwnedMessage, name: &str) -> Option<String> {
    let headers = record.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    Some(String::from_utf8(found.value?.to_vec()).unwrap())
}

fn one(offset: i64) -> RedriveOptions {
    RedriveOptions {
        filter: Filter { offset: Some(offset), ..Filter::default() },
        ..RedriveOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_by_filter_and_shown_whole() {
    let config = own_topics(&servers().await, 10).await;
    let queue = Queue::new(&config).unwrap();
    for (offset, error) in [(7, "missing field `action`"), (8, "id clash"), (9, "missing field `data`")] {
        queue.dead_letter(letter(&config, 4, offset, b"{}".to_vec(), error)).await.unwrap();
    }
    let offsets = async |filter: Filter| -> Vec<i64> {
        let letters = dlq::list(&config, filter).await.unwrap();
        letters.iter().map(|letter| letter.origin().unwrap().2).collect()
    };
    assert_eq!(offsets(Filter::default()).await, [7, 8, 9]);
    let missing = Filter { error: Some("missing".to_owned()), ..Filter::default() };
    assert_eq!(offsets(missing).await, [7, 9]);
    let late = Filter { since: Some(1_008), ..Filter::default() };
    assert_eq!(offsets(late).await, [8, 9]);

    let shown = dlq::show(&config, 0, 1).await.unwrap().unwrap();
    assert_eq!((shown.error(), shown.origin()), ("id clash", Some((config.topic.as_str(), 4, 8))));
    assert_eq!(dlq::show(&config, 0, 3).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_go_back_in_order_each_once_with_all_they_carried() {
    let config = own_topics(&servers().await, 10).await;
    let queue = Queue::new(&config).unwrap();
    for id in 1..=5 {
        queue.dead_letter(letter(&config, 4, id, event(id), "id clash")).await.unwrap();
    }
    // One letter out of turn first: it must neither come twice nor hide the letters before it.
    assert_eq!(dlq::redrive(&config, one(3)).await.unwrap().sent, 1);
    let rest = dlq::redrive(&config, RedriveOptions::default()).await.unwrap();
    assert_eq!((rest.sent, rest.refused.len()), (4, 0), "{rest}");
    assert_eq!(dlq::redrive(&config, RedriveOptions::default()).await.unwrap().sent, 0);
    assert_eq!(dlq::list(&config, Filter::default()).await.unwrap(), []);

    let records = arrived(&config, 5);
    for (record, (id, place)) in records.iter().zip([(4, 3), (1, 0), (2, 1), (3, 2), (5, 4)]) {
        assert_eq!((record.partition(), record.key()), (4, Some(b"1_2".as_slice())));
        assert_eq!(record.payload(), Some(event(id).as_slice()));
        let from = format!("{}/0/{place}", config.dead_letter_topic);
        assert_eq!(header(record, dlq::REDRIVEN_FROM), Some(from));
        assert_eq!(header(record, "error").as_deref(), Some("id clash"));
        assert_eq!(header(record, "original-offset"), Some(id.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_keeps_back_what_would_break_again() {
    let test = TestApp::builder().without_trigger().start().await;
    let config = &test.config.kafka;
    let store = test.app().store.clone();
    let MessageEvent::Persist { data: first } = persist(3, 1, 2) else { unreachable!() };
    let message = |id, content: &str| {
        let id = MessageId::new(id).unwrap();
        Message { id, content: content.to_owned(), ..first.clone() }
    };
    store.persist(&[message(3, "has the id")]).await.unwrap();
    let event = |id, content: &str| {
        serde_json::to_vec(&MessageEvent::Persist { data: message(id, content) }).unwrap()
    };
    let values = [
        event(1, "good"),
        b"not JSON".to_vec(),
        event(2, &"x".repeat(65_536)),
        event(3, "wants the id"),
        event(3, "has the id"),
        event(4, "good"),
    ];
    for (offset, value) in values.into_iter().enumerate() {
        let letter = letter(config, 4, i64::try_from(offset).unwrap(), value, "?");
        test.app().queue.dead_letter(letter).await.unwrap();
    }
    let check = RedriveOptions { check: Some(store.clone()), ..RedriveOptions::default() };
    let dry = dlq::redrive(config, RedriveOptions { dry_run: true, ..check.clone() }).await.unwrap();
    let answer = dlq::redrive(config, check.clone()).await.unwrap();
    assert_eq!((dry.sent, &dry.refused), (answer.sent, &answer.refused), "the dry run sent nothing");
    assert_eq!((answer.sent, answer.refused.len()), (3, 3), "{answer}");
    for (refused, (offset, reason)) in answer.refused.iter().zip([
        (1, "expected"),
        (2, "MySQL refuses"),
        (3, "another message has the id 3"),
    ]) {
        assert_eq!(refused.offset, offset);
        assert!(refused.reason.starts_with("would break again: "), "{}", refused.reason);
        assert!(refused.reason.contains(reason), "{}", refused.reason);
    }
    assert_eq!(test.count_rows("TRUE").await, 1, "the check itself writes nothing");
    assert_eq!(arrived(config, 3).len(), 3);
    let left = dlq::list(config, Filter::default()).await.unwrap();
    assert_eq!(left.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [1, 2, 3], "they stay");
    assert_eq!(dlq::redrive(config, check).await.unwrap().sent, 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_was_cut_off_goes_on_where_it_was() {
    let config = own_topics(&servers().await, 1).await;
    let queue = Queue::new(&config).unwrap();
    // The second letter came from a partition that does not exist: Kafka refuses it.
    for (id, partition) in [(1, 0), (2, 1), (3, 0)] {
        queue.dead_letter(letter(&config, partition, id, event(id), "?")).await.unwrap();
    }
    let answer = dlq::redrive(&config, RedriveOptions::default()).await.unwrap();
    assert!(answer.interrupted.is_some() && answer.sent == 1, "{answer}");
    assert_eq!(arrived(&config, 1).len(), 1, "what comes after it has not overtaken it");

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &config.bootstrap_servers).create().unwrap();
    let wider = NewPartitions::new(&config.topic, 2);
    for result in admin.create_partitions([&wider], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
    // The controller has deleted the topic. The other brokers learn of it a little later.
    eventually("the new partition is there", Duration::from_secs(30), async || {
        let metadata = admin.inner().fetch_metadata(Some(&config.topic), Duration::from_secs(10)).unwrap();
        metadata.topics()[0].partitions().len() == 2
    })
    .await;
    let answer = dlq::redrive(&config, RedriveOptions::default()).await.unwrap();
    assert!(answer.interrupted.is_none() && answer.sent == 2, "{answer}");
    assert_eq!(arrived(&config, 3).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_does_not_say_where_it_came_from_is_refused() {
    let config = own_topics(&servers().await, 1).await;
    let queue = Queue::new(&config).unwrap();
    let lost = DeadLetter { topic: String::new(), ..letter(&config, 0, 1, event(1), "?") };
    queue.dead_letter(lost).await.unwrap();
    let answer = dlq::redrive(&config, RedriveOptions::default()).await.unwrap();
    assert_eq!((answer.sent, answer.refused.len()), (0, 1), "{answer}");
}

/// A letter that is too large for its topic holds no other letter back.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_kafka_refuses_stays_and_those_behind_it_go_back() {
    let config = own_topics(&servers().await, 10).await;
    let queue = Queue::new(&config).unwrap();
    let large: Vec<u8> = rand::random_iter().take(5_000).collect();
    queue.dead_letter(letter(&config, 4, 1, large, "too large")).await.unwrap();
    queue.dead_letter(letter(&config, 4, 3, event(3), "good")).await.unwrap();
    set_max_message_bytes(&config, &config.topic, 1_500).await;
    let all =
        || RedriveOptions { filter: Filter { redriven: true, ..Filter::default() }, ..Default::default() };
    eventually("the topic has its new limit", WAIT, async || {
        let redriven = dlq::redrive(&config, all()).await.unwrap();
        assert!(redriven.interrupted.is_none(), "{redriven}");
        redriven.refused.len() == 1
    })
    .await;
    assert_eq!(dlq::redrive(&config, all()).await.unwrap().sent, 1);
}

/// The memory of deleted letters does not count for new letters at the same offsets.
#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_topic_that_was_made_anew_are_new() {
    let config = own_topics(&servers().await, 10).await;
    let queue = Queue::new(&config).unwrap();
    for id in 1..=3 {
        queue.dead_letter(letter(&config, 4, id, event(id), "old")).await.unwrap();
    }
    assert_eq!(dlq::redrive(&config, RedriveOptions::default()).await.unwrap().sent, 3);
    let dead = KafkaConfig { topic: config.dead_letter_topic.clone(), ..config.clone() };
    delete_topic(&dead).await;
    create_topic(&dead, &dead.topic, 1).await;
    queue.dead_letter(letter(&config, 4, 9, event(9), "new")).await.unwrap();
    let letters = dlq::list(&config, Filter::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(!letters[0].redriven);
    assert_eq!(dlq::redrive(&config, RedriveOptions::default()).await.unwrap().sent, 1);
}
