//! Kafka goes away and comes back under a producer and a trigger: nothing hangs, nothing is lost, and nothing needs a
//! restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hongyan::error::Retry;
use hongyan::queue::{KafkaBatchResponse, KafkaEvent, Progress, Queue};
use hongyan_runtime::host::InvokeError;
use hongyan_runtime::trigger::{Trigger, TriggerOptions};
use hongyan_stack::{ServerKind, Stack, StackOptions};
use hongyan_testkit::kafka::{own_topics, persist};
use hongyan_testkit::servers::address_of;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_killed_frozen_and_comes_back() {
    let stack = Stack::start(StackOptions::temporary()).await.unwrap();
    let servers = &address_of(&stack, ServerKind::Kafka);
    let mut config = own_topics(servers, 10).await;
    config.delivery_timeout = LONG;
    let queue = Queue::new(&config).unwrap();
    let seen: Arc<Mutex<BTreeSet<(i32, i64)>>> = Arc::default();
    let invoke = {
        let seen = Arc::clone(&seen);
        move |event: KafkaEvent| {
            let records = event.records.values().flatten();
            seen.lock().extend(records.map(|record| (record.partition.unwrap(), record.offset.unwrap())));
            async { Ok::<_, InvokeError>(KafkaBatchResponse::done()) }
        }
    };
    let trigger = Trigger::start(TriggerOptions::new(config.clone()), invoke).await.unwrap();
    queue.send(&persist(1, 1, 2), LONG).await.unwrap();
    timeout(LONG, trigger.drain()).await.unwrap().unwrap();

    let kafka = stack.server(ServerKind::Kafka);
    let mut id = 1;
    for frozen in [false, true] {
        if frozen {
            kafka.pause().await.unwrap();
        } else {
            kafka.kill().await.unwrap();
        }
        for _ in 0..3 {
            id += 1;
            let started = Instant::now();
            let error = queue.send(&persist(id, 1, 2), SHORT).await.unwrap_err();
            assert_eq!(error.retry, Retry::Transient, "{error}");
            assert!(started.elapsed() < 2 * SHORT, "{:?}", started.elapsed());
        }
        let started = Instant::now();
        assert!(queue.ping().await.is_err());
        assert!(started.elapsed() < Duration::from_secs(3));
        if frozen {
            kafka.resume().await.unwrap();
        } else {
            kafka.start().await.unwrap();
        }
        id += 1;
        queue.send(&persist(id, 1, 2), LONG).await.unwrap();
        queue.ping().await.unwrap();
        timeout(LONG, trigger.drain()).await.unwrap().unwrap();
        // Records whose send was answered with an error stayed with the producer and arrived, each once.
        let expected: BTreeSet<_> = (0..id).map(|offset| (4, offset)).collect();
        assert_eq!(*seen.lock(), expected, "frozen: {frozen}");
        assert_eq!(queue.progress().await.unwrap(), [Progress::CaughtUp; 10]);
    }
    timeout(LONG, trigger.stop()).await.unwrap();
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_stops_in_time_though_kafka_dies_under_its_commit() {
    let stack = Stack::start(StackOptions::temporary()).await.unwrap();
    let servers = &address_of(&stack, ServerKind::Kafka);
    let config = own_topics(servers, 1).await;
    let queue = Queue::new(&config).unwrap();
    let (at_work, may_end) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let invoke = {
        let (at_work, may_end) = (at_work.clone(), may_end.clone());
        move |_: KafkaEvent| {
            let (at_work, may_end) = (at_work.clone(), may_end.clone());
            async move {
                at_work.add_permits(1);
                may_end.acquire().await.unwrap().forget();
                Ok::<_, InvokeError>(KafkaBatchResponse::done())
            }
        }
    };
    let trigger = Trigger::start(TriggerOptions::new(config), invoke).await.unwrap();
    queue.send(&persist(1, 1, 2), LONG).await.unwrap();
    at_work.acquire().await.unwrap().forget();
    stack.server(ServerKind::Kafka).kill().await.unwrap();
    // The records are done, and Kafka is not there to be told.
    may_end.add_permits(1);
    timeout(LONG, trigger.stop()).await.unwrap();
    stack.stop().await.unwrap();
}
