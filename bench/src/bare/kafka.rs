//! Kafka without the service: records like those of the service, in a topic with as many partitions, with acks=all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hongyan::config::KafkaConfig;
use hongyan::event::MessageEvent;
use hongyan::id::{MessageId, UserId};
use hongyan::message::{Message, MessageType};
use hongyan::queue::client::client_config;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::taken::Taken;
use crate::content::Contents;

/// How long an administrative request, and the last acknowledgements, may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The size of the producer's batches. Larger than the service's, because no caller waits for a single record here.
const LINGER_MS: &str = "5";
const RECORDS: i64 = 500;

/// Counts acknowledged records.
#[derive(Clone, Default)]
struct Deliveries(Arc<Counts>);

#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.0.acknowledged } else { &self.0.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) async fn measure(
    config: &KafkaConfig,
    contents: &Arc<Contents>,
    time: Duration,
) -> anyhow::Result<Taken> {
    let topic = format!("{}-bare-{}", config.topic, std::process::id());
    let administrator: AdminClient<DefaultClientContext> = client_config(config).create()?;
    let options = AdminOptions::new().operation_timeout(Some(LIMIT)).request_timeout(Some(LIMIT));
    let new = NewTopic::new(&topic, i32::from(config.partitions.get()), TopicReplication::Fixed(-1));
    for result in administrator.create_topics([&new], &options).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("topic {name}: {code}"))?;
    }
    let records = records(contents)?;
    let (settings, name) = (config.clone(), topic.clone());
    let taken = tokio::task::spawn_blocking(move || produce(&settings, &name, &records, time)).await?;
    for result in administrator.delete_topics(&[&topic], &options).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("topic {name}: {code}"))?;
    }
    taken
}

/// Keys and values like those of the service.
fn records(contents: &Contents) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    (1..=RECORDS)
        .map(|number| {
            let (from, to) = (UserId::new(2 * number)?, UserId::new(2 * number + 1)?);
            let content = contents.number(usize::try_from(number)?).to_owned();
            let id = MessageId::new((1 << 60) + number)?;
            let event = MessageEvent::Persist {
                data: Message::new(id, from, to, serde_json::from_str::<MessageType>("1")?, content, None),
            };
            Ok((event.conversation().to_string(), serde_json::to_vec(&event)?))
        })
        .collect()
}

fn produce(
    config: &KafkaConfig,
    topic: &str,
    records: &[(String, Vec<u8>)],
    time: Duration,
) -> anyhow::Result<Taken> {
    let deliveries = Deliveries::default();
    let producer: ThreadedProducer<Deliveries> = client_config(config)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", LINGER_MS)
        .set("compression.type", &config.compression)
        .create_with_context(deliveries.clone())?;
    let began = Instant::now();
    for (key, value) in records.iter().cycle() {
        let mut record = BaseRecord::to(topic).key(key).payload(value);
        while let Err((error, again)) = producer.send(record) {
            anyhow::ensure!(
                error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                "Kafka's producer refuses a record: {error}"
            );
            record = again;
            // The queue has room once Kafka has acknowledged some records.
            std::thread::sleep(Duration::from_millis(1));
            if began.elapsed() >= time {
                break;
            }
        }
        if began.elapsed() >= time {
            break;
        }
    }
    producer.flush(LIMIT)?;
    let taken = began.elapsed();
    let Counts { acknowledged, failed } = &*deliveries.0;
    let failed = failed.load(Ordering::Relaxed);
    anyhow::ensure!(failed == 0, "{failed} records were not acknowledged");
    let how =
        format!("produce, acks=all, idempotent, linger {LINGER_MS} ms, {} partitions", config.partitions);
    Ok(Taken { messages: acknowledged.load(Ordering::Relaxed), time: taken, how })
}
