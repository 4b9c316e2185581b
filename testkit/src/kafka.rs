//! Helpers for tests of the queue: topics for each test, on the Kafka that all tests of a binary share.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::time::Duration;

use hongyan::config::{Config, KafkaConfig, minimal};
use hongyan::event::MessageEvent;
use hongyan::id::{MessageId, UserId};
use hongyan::message::{Message, MessageType};
use hongyan_stack::ServerKind;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::app::eventually;
use crate::servers::{address_of, stack, unique_name};

/// The address of the shared Kafka, as in `KAFKA_BOOTSTRAP_SERVERS`.
pub async fn servers() -> String {
    address_of(stack().await, ServerKind::Kafka)
}

/// Settings with a topic, a dead-letter topic and a group for this test alone. Creates both topics.
pub async fn own_topics(bootstrap_servers: &str, partitions: u16) -> KafkaConfig {
    let config = own_config(bootstrap_servers, partitions);
    create_topic(&config, &config.topic, i32::from(partitions)).await;
    create_topic(&config, &config.dead_letter_topic, 1).await;
    config
}

/// The settings of [`own_topics`], without creating topics.
pub fn own_config(bootstrap_servers: &str, partitions: u16) -> KafkaConfig {
    config_with(bootstrap_servers, partitions, &[])
}

/// The settings of [`own_config`], with further variables.
pub fn config_with(bootstrap_servers: &str, partitions: u16, more: &[(&str, &str)]) -> KafkaConfig {
    let name = unique_name();
    let settings = HashMap::from([
        ("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers.to_owned()),
        ("KAFKA_TOPIC", name.clone()),
        ("KAFKA_PARTITIONS", NonZeroU16::new(partitions).unwrap().to_string()),
        ("KAFKA_GROUP_ID", format!("{name}-group")),
        ("KAFKA_DEAD_LETTER_TOPIC", format!("{name}-dead")),
    ]);
    let more: HashMap<_, _> = more.iter().copied().collect();
    let lookup = |name: &str| {
        let given = more.get(name).map(|value| (*value).to_owned()).or_else(|| settings.get(name).cloned());
        given.or_else(|| minimal(name))
    };
    Config::from_lookup(lookup).unwrap().kafka
}

/// Creates a topic with one replica, and waits until every client can find it.
pub async fn create_topic(config: &KafkaConfig, name: &str, partitions: i32) {
    let admin = admin(config);
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for result in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
    // The controller has created the topic. The other brokers learn of it a little later.
    eventually("the topic is there", Duration::from_secs(30), async || {
        let metadata = admin.inner().fetch_metadata(Some(name), Duration::from_secs(10)).unwrap();
        let found = &metadata.topics()[0];
        let led = found.partitions().iter().filter(|partition| partition.leader() >= 0).count();
        found.error().is_none() && Ok(led) == usize::try_from(partitions)
    })
    .await;
}

fn admin(config: &KafkaConfig) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &config.bootstrap_servers).create().unwrap()
}

/// Deletes the topic of `config`.
pub async fn delete_topic(config: &KafkaConfig) {
    for result in admin(config).delete_topics(&[&config.topic], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
}

/// Adds partitions to the topic of `config`, up to `partitions` in all.
pub async fn grow_topic(config: &KafkaConfig, partitions: usize) {
    let grown = NewPartitions::new(&config.topic, partitions);
    for result in admin(config).create_partitions([&grown], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
}

/// Sets the largest record that `topic` takes, in bytes.
pub async fn set_max_message_bytes(config: &KafkaConfig, topic: &str, bytes: u32) {
    let bytes = bytes.to_string();
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", &bytes);
    for result in admin(config).alter_configs([&change], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
}

/// A PERSIST event of a text from `from` to `to` with the id `id`.
pub fn persist(id: i64, from: i64, to: i64) -> MessageEvent {
    MessageEvent::Persist {
        data: Message::new(
            MessageId::new(id).unwrap(),
            UserId::new(from).unwrap(),
            UserId::new(to).unwrap(),
            MessageType::TEXT,
            format!("message {id}"),
            None,
        ),
    }
}

/// A consumer that reads all of `topic` without joining a group.
pub fn reader(config: &KafkaConfig, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("group.id", &config.group_id)
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        all.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    consumer
}

/// Commits `offset` of `partition` for the group.
pub fn commit(config: &KafkaConfig, partition: i32, offset: i64) {
    let consumer = reader(config, &config.topic);
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(&config.topic, partition, Offset::Offset(offset)).unwrap();
    consumer.commit(&place, rdkafka::consumer::CommitMode::Sync).unwrap();
}
