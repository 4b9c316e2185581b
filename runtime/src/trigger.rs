//! Polls Kafka like Lambda's event source mapping, and hands batches of records to the consumer function.
//!
//! One thread polls ([`poller`]). Each assigned partition has a *lane* ([`lane`]) and a task for it ([`worker`]),
//! which gathers batches, invokes the function and retries. So a partition has at most one batch in flight,
//! partitions do not wait for each other, and an offset is committed only once all records before it are done.

mod commit;
mod consumer;
mod event;
mod gate;
mod lag;
mod lane;
mod lanes;
mod options;
mod poller;
mod response;
mod shared;
mod topic;
mod watch;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use hongyan::error::ServerError;
use hongyan::queue::client::{ClientEvents, first_answer, refused};
use hongyan::queue::error::{is_settling, kafka_error, transient};
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use parking_lot::Mutex;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use event::EventSource;
pub use lag::PartitionLag;
pub use options::TriggerOptions;

use consumer::Consumer;
use gate::Gate;
use shared::Shared;
use topic::Watched;

use crate::host::InvokeError;

/// The longest wait for one answer of Kafka.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often [`Trigger::drain`] asks again while another member of the group does the work.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A trigger does not start, or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// Kafka is away, or refuses the client.
    #[error(transparent)]
    Kafka(#[from] ServerError),
    /// The topic has fewer partitions than the setting: some messages would go to partitions that do not exist.
    #[error(
        "KAFKA_PARTITIONS is {wanted}, but the topic {topic} has {found} partitions: add partitions to it or lower the \
         setting in every producer at once"
    )]
    TooFewPartitions {
        /// `KAFKA_TOPIC`.
        topic: String,
        /// `KAFKA_PARTITIONS`.
        wanted: u16,
        /// The number of partitions of the topic.
        found: usize,
    },
    /// The thread that polls could not be started.
    #[error("the thread that polls Kafka could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The trigger was stopped before it could answer.
    #[error("the trigger was stopped")]
    Stopped,
}

/// A running trigger. Dropping it stops it without waiting; [`Trigger::stop`] waits.
pub struct Trigger {
    shared: Arc<Shared>,
    poller: Option<std::thread::JoinHandle<()>>,
}

impl Trigger {
    /// Joins the group and begins to hand batches to `invoke`. Fails if Kafka does not answer within ten seconds, or
    /// if the topic is missing or has fewer partitions than configured. Must be called inside a tokio runtime.
    pub async fn start<F, R>(options: TriggerOptions, invoke: F) -> Result<Self, TriggerError>
    where
        F: Fn(KafkaEvent) -> R + Send + Sync + 'static,
        R: Future<Output = Result<KafkaBatchResponse, InvokeError>> + Send + 'static,
    {
        let events = ClientEvents::new(&options.kafka)?;
        let shared = Arc::new(Shared {
            options,
            invoke: Box::new(move |event| Box::pin(invoke(event))),
            gate: Gate::default(),
            lanes: Mutex::default(),
            stopping: CancellationToken::new(),
            due: Notify::new(),
            committing: Mutex::default(),
            committed: Notify::new(),
            runtime: tokio::runtime::Handle::current(),
            consumer: Mutex::default(),
            watched: Watched::default(),
        });
        let consumer = lanes::consumer(&shared, &events).map_err(refused)?;
        let consumer = check_topic(consumer, &shared.options).await?;
        consumer
            .subscribe(&[&shared.options.kafka.topic])
            .map_err(|error| kafka_error("trigger.subscribe", error))?;
        let for_poller = Arc::clone(&shared);
        let poller = std::thread::Builder::new()
            .name("kafka-trigger".to_owned())
            .spawn(move || poller::run(&for_poller, consumer))?;
        tokio::spawn(commit::run(Arc::clone(&shared)));
        tokio::spawn(watch::run(Arc::clone(&shared)));
        tokio::spawn(lag::run(Arc::clone(&shared)));
        Ok(Self { shared, poller: Some(poller) })
    }

    /// The handle with which `GET /health` asks about the topic.
    pub fn health(&self) -> TriggerHealth {
        TriggerHealth(Arc::clone(&self.shared))
    }

    /// Lets batches in flight finish, for at most [`TriggerOptions::stop_timeout`], commits them and leaves the
    /// group.
    pub async fn stop(mut self) {
        self.shared.stopping.cancel();
        if let Some(poller) = self.poller.take() {
            let joined = tokio::task::spawn_blocking(move || poller.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the thread that polls Kafka ended by a panic");
            }
        }
    }

    /// Starts no further batch; a batch in flight goes on. Tests hold the queue back with it.
    pub fn pause(&self) {
        self.shared.gate.close();
    }

    /// Ends [`Trigger::pause`].
    pub fn resume(&self) {
        self.shared.gate.open();
    }

    /// Waits until no batch is in flight. After [`Trigger::pause`] none will start.
    pub async fn idle(&self) {
        self.shared.gate.idle().await;
    }

    /// Waits until the group has committed every record that was in the topic at the time of the call. This takes
    /// forever while a record keeps failing or the trigger is paused, so callers set a limit.
    pub async fn drain(&self) -> Result<(), TriggerError> {
        let goal = self.lag().await?;
        loop {
            // Subscribe before asking, so that a commit in between is not missed.
            let committed = self.shared.committed.notified();
            let now = self.ask(|consumer, topic| lag::positions(consumer, topic, ASK_TIMEOUT)).await?;
            let reached = |goal: &PartitionLag| {
                let position = now.get(&goal.partition).copied().flatten();
                position.unwrap_or(goal.position) >= goal.end
            };
            if goal.iter().all(reached) {
                return Ok(());
            }
            tokio::select! {
                () = committed => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = self.shared.stopping.cancelled() => return Err(TriggerError::Stopped),
            }
        }
    }

    /// The progress of the whole group in each partition, ordered by partition.
    pub async fn lag(&self) -> Result<Vec<PartitionLag>, TriggerError> {
        self.ask(|consumer, topic| lag::of_group(consumer, topic, ASK_TIMEOUT)).await
    }

    /// Asks Kafka on a thread that may block. Repeats the question while the group's coordinator is not ready yet, as
    /// after a restart of Kafka.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Consumer, &str) -> KafkaResult<T> + Send + 'static,
    ) -> Result<T, TriggerError> {
        const ACTION: &str = "trigger.ask";
        let consumer = self.shared.consumer().ok_or(TriggerError::Stopped)?;
        let events = consumer.context().events.clone();
        let topic = self.shared.options.kafka.topic.clone();
        let stopping = self.shared.stopping.clone();
        let answer = tokio::task::spawn_blocking(move || {
            loop {
                match question(&consumer, &topic) {
                    Err(error) if is_settling(&error) && !stopping.is_cancelled() => {
                        std::thread::sleep(LOOK_AGAIN);
                    }
                    answer => return answer,
                }
            }
        })
        .await
        .map_err(|error| transient(ACTION, error))?;
        Ok(answer.map_err(|error| events.explain(ACTION, error))?)
    }
}

/// The health of a trigger. The handle stays valid after the trigger has stopped.
#[derive(Clone)]
pub struct TriggerHealth(Arc<Shared>);

impl TriggerHealth {
    /// An error if no thread reads the topic, the topic is missing, or it has another number of partitions than
    /// configured. Answers from the last look at the topic, which is about half a second old, and does not ask Kafka.
    pub fn check(&self) -> Result<(), ServerError> {
        watch::health(&self.0)
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
    }
}

impl std::fmt::Debug for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trigger")
            .field("topic", &self.shared.options.kafka.topic)
            .field("group", &self.shared.options.kafka.group_id)
            .finish_non_exhaustive()
    }
}

/// Checks the number of partitions before anything starts: a message whose partition does not exist could never be
/// sent.
async fn check_topic(
    consumer: Arc<Consumer>,
    options: &TriggerOptions,
) -> Result<Arc<Consumer>, TriggerError> {
    const ACTION: &str = "trigger.check_topic";
    let topic = options.kafka.topic.clone();
    let (consumer, found) = tokio::task::spawn_blocking(move || {
        let events = &consumer.context().events;
        let metadata = first_answer(&consumer, events, ASK_TIMEOUT, |limit| {
            consumer.fetch_metadata(Some(&topic), limit)
        });
        let found = metadata.and_then(|metadata| {
            let topic = metadata.topics().first();
            match topic.and_then(rdkafka::metadata::MetadataTopic::error) {
                Some(error) => Err(KafkaError::MetadataFetch(error.into())),
                None => Ok(topic.map_or(0, |topic| topic.partitions().len())),
            }
        });
        (consumer, found)
    })
    .await
    .map_err(|error| transient(ACTION, error))?;
    let found = found.map_err(|error| consumer.context().events.explain(ACTION, error))?;
    let wanted = options.kafka.partitions.get();
    if found < usize::from(wanted) {
        return Err(TriggerError::TooFewPartitions { topic: options.kafka.topic.clone(), wanted, found });
    }
    Ok(consumer)
}
