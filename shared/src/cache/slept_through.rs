//! Recalls that this process answered while Redis was away.
//!
//! Redis may come back with such a message as it was. The consumer tells it, once it reads the RECALL event; until then
//! this process shows nobody what it has itself taken back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Cache;
use super::detail::{Detail, RecalledDetail};
use crate::error::ServerError;
use crate::event::Recall;
use crate::id::MessageId;

/// How many are remembered; of more, the oldest messages are left to the consumer.
const MOST: usize = 10_000;

/// What Redis has to be told. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct SleptThrough(Arc<Mutex<BTreeMap<MessageId, Recall>>>);

impl SleptThrough {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<MessageId, Recall>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Notes a recall that MySQL and Kafka have, and Redis could not be told of.
    pub fn note_slept_through(&self, recall: Recall) {
        let mut recalls = self.slept_through.lock();
        recalls.insert(recall.message_id, recall);
        if recalls.len() > MOST {
            recalls.pop_first();
        }
    }

    /// Corrects what Redis says of messages whose recall it slept through, and tells it.
    pub(super) async fn correct(&self, ids: &[MessageId], details: &mut [Detail]) -> Result<(), ServerError> {
        let noted: Vec<Recall> = {
            let recalls = self.slept_through.lock();
            ids.iter().filter_map(|id| recalls.get(id).copied()).collect()
        };
        if noted.is_empty() {
            return Ok(());
        }
        for (id, detail) in ids.iter().zip(details) {
            let (Some(recall), Detail::Message(message)) =
                (noted.iter().find(|recall| recall.message_id == *id), &*detail)
            else {
                continue;
            };
            *detail = Detail::Recalled(RecalledDetail {
                recall_time: recall.recall_time,
                conversation: recall.conversation_id,
                message: Some(message.clone().recalled(recall.recall_time)),
            });
        }
        self.confirm_recalled(&noted).await?;
        self.slept_through.lock().retain(|id, _| !ids.contains(id));
        Ok(())
    }
}
