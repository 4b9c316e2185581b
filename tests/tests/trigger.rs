//! The trigger on a real Kafka: order, partial failures, redelivery, rebalancing and commits.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hongyan::config::KafkaConfig;
use hongyan::queue::{KafkaBatchResponse, KafkaEvent, KafkaRecord, Queue};
use hongyan_runtime::host::InvokeError;
use hongyan_runtime::trigger::{Trigger, TriggerError, TriggerOptions};
use parking_lot::Mutex;
use tokio::time::timeout;

use hongyan_testkit::app::eventually;
use hongyan_testkit::kafka::{create_topic, delete_topic, grow_topic, own_topics, persist, servers};

const WAIT: Duration = Duration::from_secs(10);
/// Longer than a killed member keeps its partitions.
const LONG: Duration = Duration::from_mins(1);

/// The offsets that a consumer has seen, in order, by partition.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<i64, Vec<i64>>>>);

impl Seen {
    fn note(&self, event: &KafkaEvent) {
        let mut seen = self.0.lock();
        for record in event.records.values().flatten() {
            let (partition, offset) = place(record);
            seen.entry(partition).or_default().push(offset);
        }
    }

    fn of(&self, partition: i64) -> Vec<i64> {
        self.0.lock().get(&partition).cloned().unwrap_or_default()
    }

    fn partitions(&self) -> Vec<i64> {
        self.0.lock().keys().copied().collect()
    }
}

/// Partition and offset.
fn place(record: &KafkaRecord) -> (i64, i64) {
    (record.partition.unwrap().into(), record.offset.unwrap())
}

/// Fails the record at `offset` of `partition` while `broken` is set, and handles all others.
fn fail_at(event: &KafkaEvent, partition: i64, offset: i64, broken: bool) -> KafkaBatchResponse {
    let mut response = KafkaBatchResponse::done();
    for (key, records) in &event.records {
        if broken && records.iter().any(|record| place(record) == (partition, offset)) {
            response.fail(key.clone(), offset);
        }
    }
    response
}

/// `count` messages between users 1 and 2 (partition 4 of 10), and as many between 3 and 5 (partition 9).
async fn fill(config: &KafkaConfig, count: i64) {
    let queue = Queue::new(config).unwrap();
    for id in 1..=count {
        let (first, second) = (persist(2 * id, 1, 2), persist(2 * id + 1, 3, 5));
        let (first, second) = tokio::join!(queue.send(&first, WAIT), queue.send(&second, WAIT));
        first.unwrap();
        second.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_comes_once_and_in_order_and_its_offset_is_committed() {
    let mut config = own_topics(&servers().await, 10).await;
    config.batch_size = 7;
    fill(&config, 50).await;
    let seen = Seen::default();
    let largest = Arc::new(AtomicUsize::new(0));
    let invoke = {
        let (seen, largest) = (seen.clone(), Arc::clone(&largest));
        move |event: KafkaEvent| {
            seen.note(&event);
            largest.fetch_max(event.records.values().map(Vec::len).sum(), Ordering::SeqCst);
            async { Ok::<_, InvokeError>(KafkaBatchResponse::done()) }
        }
    };
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), invoke).await.unwrap();
    timeout(WAIT, trigger.drain()).await.unwrap().unwrap();
    assert_eq!(seen.partitions(), [4, 9]);
    assert_eq!(seen.of(4), (0..50).collect::<Vec<_>>());
    assert_eq!(seen.of(9), (0..50).collect::<Vec<_>>());
    assert!(largest.load(Ordering::SeqCst) <= 7);
    let lag = trigger.lag().await.unwrap();
    assert_eq!(lag.len(), 10);
    assert_eq!((lag[4].position, lag[4].end, lag[4].records()), (50, 50, 0));
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_record_holds_its_partition_and_no_other() {
    let config = own_topics(&servers().await, 10).await;
    fill(&config, 20).await;
    let seen = Seen::default();
    let broken = Arc::new(AtomicBool::new(true));
    let invoke = {
        let (seen, broken) = (seen.clone(), Arc::clone(&broken));
        move |event: KafkaEvent| {
            let response = fail_at(&event, 4, 7, broken.load(Ordering::SeqCst));
            if response == KafkaBatchResponse::done() {
                seen.note(&event);
            }
            async { Ok::<_, InvokeError>(response) }
        }
    };
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), invoke).await.unwrap();
    // Partition 9 is done and partition 4 waits for its failed record: nothing else can change.
    timeout(WAIT, async {
        loop {
            let lag = trigger.lag().await.unwrap();
            if lag[9].position == 20 && lag[4].position == 7 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert!(timeout(Duration::from_millis(300), trigger.drain()).await.is_err());
    assert_eq!(seen.of(4), Vec::<i64>::new());
    broken.store(false, Ordering::SeqCst);
    timeout(WAIT, trigger.drain()).await.unwrap().unwrap();
    assert_eq!(seen.of(4), (7..20).collect::<Vec<_>>(), "only what was not done came again");
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_or_panics_commits_nothing_and_gets_the_batch_again_after_a_stop() {
    let config = own_topics(&servers().await, 10).await;
    fill(&config, 5).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let invoke = {
        let tries = Arc::clone(&tries);
        move |_: KafkaEvent| {
            let panics = tries.fetch_add(1, Ordering::SeqCst) % 2 == 1;
            async move {
                assert!(!panics, "a handler panics on purpose");
                Err(InvokeError::new("kafka-consumer", "the store is away"))
            }
        }
    };
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), invoke).await.unwrap();
    timeout(WAIT, async {
        while tries.load(Ordering::SeqCst) < 8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let lag = trigger.lag().await.unwrap();
    assert_eq!((lag[4].position, lag[9].position), (0, 0));
    timeout(WAIT, trigger.stop()).await.unwrap();

    let seen = Seen::default();
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), noting(&seen)).await.unwrap();
    timeout(WAIT, trigger.drain()).await.unwrap().unwrap();
    assert_eq!((seen.of(4), seen.of(9)), ((0..5).collect(), (0..5).collect()));
    trigger.stop().await;
}

fn noting(
    seen: &Seen,
) -> impl Fn(KafkaEvent) -> std::future::Ready<Result<KafkaBatchResponse, InvokeError>> + Send + Sync + 'static
{
    let seen = seen.clone();
    move |event: KafkaEvent| {
        seen.note(&event);
        std::future::ready(Ok(KafkaBatchResponse::done()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_flight_finishes_and_is_committed_when_the_trigger_stops() {
    let config = own_topics(&servers().await, 10).await;
    fill(&config, 1).await;
    let (begun, begins) = tokio::sync::mpsc::unbounded_channel();
    let invoke = move |_: KafkaEvent| {
        begun.send(()).unwrap();
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok::<_, InvokeError>(KafkaBatchResponse::done())
        }
    };
    let mut begins = begins;
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), invoke).await.unwrap();
    timeout(WAIT, begins.recv()).await.unwrap().unwrap();
    timeout(WAIT, begins.recv()).await.unwrap().unwrap();
    timeout(WAIT, trigger.stop()).await.unwrap();

    let seen = Seen::default();
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), noting(&seen)).await.unwrap();
    timeout(WAIT, trigger.drain()).await.unwrap().unwrap();
    assert_eq!(seen.partitions(), Vec::<i64>::new(), "nothing comes twice after a clean stop");
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_paused_nothing_is_invoked() {
    let config = own_topics(&servers().await, 10).await;
    let seen = Seen::default();
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), noting(&seen)).await.unwrap();
    trigger.pause();
    trigger.idle().await;
    fill(&config, 3).await;
    assert!(timeout(Duration::from_millis(500), trigger.drain()).await.is_err());
    assert_eq!(seen.partitions(), Vec::<i64>::new());
    trigger.resume();
    timeout(WAIT, trigger.drain()).await.unwrap().unwrap();
    assert_eq!(seen.of(4), [0, 1, 2]);
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_triggers_share_the_partitions_and_lose_nothing_when_one_comes_or_goes() {
    let mut config = own_topics(&servers().await, 10).await;
    config.batch_size = 5;
    let (first, second) = (Seen::default(), Seen::default());
    let one = Trigger::start(TriggerOptions::new(config.clone()), noting(&first)).await.unwrap();
    let queue = Queue::new(&config).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let sender = {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            let mut id = 0;
            while !stop.load(Ordering::SeqCst) {
                id += 1;
                // Forty conversations reach every partition.
                queue.send(&persist(id, 1 + id % 40, 1_000), WAIT).await.unwrap();
            }
        })
    };
    let both = |seen: &Seen| seen.partitions().len();
    timeout(LONG, async {
        while both(&first) < 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let two = Trigger::start(TriggerOptions::new(config.clone()), noting(&second)).await.unwrap();
    timeout(LONG, async {
        while both(&second) < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    one.stop().await;
    timeout(LONG, async {
        while both(&second) < 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    stop.store(true, Ordering::SeqCst);
    sender.await.unwrap();
    timeout(LONG, two.drain()).await.unwrap().unwrap();
    let lag = two.lag().await.unwrap();
    for (partition, lag) in (0..).zip(lag) {
        let mut all = first.of(partition);
        all.extend(second.of(partition));
        all.sort_unstable();
        assert_eq!(all, (0..lag.end).collect::<Vec<_>>(), "partition {partition}: each record once");
    }
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_larger_than_memory_allows_comes_whole_and_in_order() {
    let mut config = own_topics(&servers().await, 1).await;
    config.batch_size = 50;
    let queue = Queue::new(&config).unwrap();
    let sends = (1..=8_000).map(|id| {
        let queue = queue.clone();
        async move { queue.send(&persist(id, 1, 2), LONG).await.unwrap() }
    });
    futures_util::future::join_all(sends).await;
    let seen = Seen::default();
    let invoke = {
        let seen = seen.clone();
        move |event: KafkaEvent| {
            seen.note(&event);
            async {
                // Slow enough that the partition is paused in between.
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok::<_, InvokeError>(KafkaBatchResponse::done())
            }
        }
    };
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), invoke).await.unwrap();
    timeout(LONG, trigger.drain()).await.unwrap().unwrap();
    assert_eq!(seen.of(0), (0..8_000).collect::<Vec<_>>());
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_too_few_partitions_is_refused_by_name() {
    let mut config = own_topics(&servers().await, 4).await;
    config.partitions = std::num::NonZeroU16::new(10).unwrap();
    let error =
        Trigger::start(TriggerOptions::new(config.clone()), noting(&Seen::default())).await.unwrap_err();
    assert!(matches!(error, TriggerError::TooFewPartitions { wanted: 10, found: 4, .. }));
    let text = error.to_string();
    assert!(text.starts_with("KAFKA_PARTITIONS is 10") && text.contains(&config.topic), "{text}");
}

/// The log of the new topic is longer than the log of the old one was, so no position lies beyond its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_and_made_again_at_once_is_read_from_its_start() {
    let config = own_topics(&servers().await, 10).await;
    fill(&config, 5).await;
    let seen = Seen::default();
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), noting(&seen)).await.unwrap();
    timeout(WAIT, trigger.drain()).await.unwrap().unwrap();
    delete_topic(&config).await;
    create_topic(&config, &config.topic, 10).await;
    fill(&config, 20).await;
    let anew: Vec<i64> = (0..20).collect();
    eventually("all of the new log was handed over, in order", LONG, async || {
        [4, 9].iter().all(|partition| seen.of(*partition).ends_with(&anew))
    })
    .await;
    eventually("the new places are committed", WAIT, async || {
        trigger.lag().await.is_ok_and(|lag| lag.iter().all(|partition| partition.records() == 0))
    })
    .await;
    assert!(trigger.health().check().is_ok());
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_or_has_another_number_of_partitions_is_told() {
    let config = own_topics(&servers().await, 10).await;
    let seen = Seen::default();
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), noting(&seen)).await.unwrap();
    let queue = Queue::new(&config).unwrap();
    let told = async |what: &str| {
        eventually(what, LONG, async || {
            let told = trigger.health().check().err().map(|error| error.to_string()).unwrap_or_default();
            told.contains(what) && queue.ping().await.is_err()
        })
        .await;
    };
    delete_topic(&config).await;
    told("does not exist").await;
    create_topic(&config, &config.topic, 4).await;
    told("has 4 partitions").await;
    grow_topic(&config, 12).await;
    told("has 12 partitions").await;
    delete_topic(&config).await;
    create_topic(&config, &config.topic, 10).await;
    eventually("all is well", LONG, async || trigger.health().check().is_ok() && queue.ping().await.is_ok())
        .await;
    fill(&config, 3).await;
    eventually("it is read", LONG, async || seen.of(4).ends_with(&[0, 1, 2])).await;
    trigger.stop().await;
}
