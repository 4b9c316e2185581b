//! The state that the poller, the lanes and the handle of one trigger share.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::TriggerOptions;
use super::consumer::Consumer;
use super::gate::Gate;
use super::lane::Lane;
use super::topic::Watched;
use crate::host::Invocation;

/// The state of one trigger.
pub(super) struct Shared {
    pub(super) options: TriggerOptions,
    pub(super) invoke: Box<dyn Fn(KafkaEvent) -> Invocation<KafkaBatchResponse> + Send + Sync>,
    pub(super) gate: Gate,
    pub(super) lanes: Mutex<HashMap<i32, Arc<Lane>>>,
    pub(super) stopping: CancellationToken,
    /// Notified when a lane has an offset to commit.
    pub(super) due: Notify,
    /// Locked during a commit.
    pub(super) committing: Mutex<()>,
    /// Notified after each commit.
    pub(super) committed: Notify,
    pub(super) runtime: tokio::runtime::Handle,
    /// A weak reference: the poller must be the one to drop the last strong one, by which the consumer leaves its
    /// group.
    pub(super) consumer: Mutex<Weak<Consumer>>,
    pub(super) watched: Watched,
}

impl Shared {
    pub(super) fn consumer(&self) -> Option<Arc<Consumer>> {
        self.consumer.lock().upgrade()
    }

    pub(super) fn set_consumer(&self, consumer: &Arc<Consumer>) {
        *self.consumer.lock() = Arc::downgrade(consumer);
    }

    pub(super) fn lane(&self, partition: i32) -> Option<Arc<Lane>> {
        self.lanes.lock().get(&partition).cloned()
    }

    pub(super) fn all_lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes.lock().values().cloned().collect()
    }
}
