//! `msg:detail:{id}`: the one copy of a message that changes.

use serde::Deserialize;

use super::connection::typed;
use super::epoch::Epoch;
use super::step::{Step, step};
use super::{Cache, keys, scripts};
use crate::clock::TimestampMs;
use crate::error::{Retry, Server, ServerError};
use crate::id::{ConversationId, MessageId};
use crate::message::Message;

/// How a detail begins whose message was taken back.
pub(super) const RECALLED_HEAD: &str = r#"{"status":0"#;

/// What Redis knows of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// Nothing: it was never there, it has expired, or Redis was emptied.
    Missing,
    /// It was taken back; nothing of its content is left.
    Recalled(RecalledDetail),
    /// It can be seen.
    Message(Message),
}

/// A message that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecalledDetail {
    /// When, ms since 1970 UTC.
    pub recall_time: TimestampMs,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The message without its content; `None` where only a stub is left.
    pub message: Option<Message>,
}

impl Detail {
    fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Stub {
            status: u8,
            recall_time: TimestampMs,
            conversation_id: ConversationId,
        }
        match serde_json::from_slice::<Message>(json) {
            Ok(message) if message.is_recalled() => Ok(Self::Recalled(RecalledDetail {
                recall_time: message.recall_time.unwrap_or_default(),
                conversation: message.conversation(),
                message: Some(message),
            })),
            Ok(message) => Ok(Self::Message(message)),
            Err(error) => match serde_json::from_slice(json) {
                Ok(Stub { status: 0, recall_time, conversation_id: conversation }) => {
                    Ok(Self::Recalled(RecalledDetail { recall_time, conversation, message: None }))
                }
                _ => Err(error),
            },
        }
    }

    /// Whether the message was taken back.
    pub fn is_recalled(&self) -> bool {
        matches!(self, Self::Recalled(_))
    }
}

impl Cache {
    /// What Redis knows of one message.
    pub async fn detail(&self, id: MessageId) -> Result<Detail, ServerError> {
        Ok(self.details(&[id]).await?.pop().unwrap_or(Detail::Missing))
    }

    /// What Redis knows of one message, and the epoch: where that does not have all of the message
    /// ([`Epoch::has_all_of`]), Redis may have forgotten its recall.
    pub async fn detail_in_epoch(&self, id: MessageId) -> Result<(Detail, Epoch), ServerError> {
        let (mut answers, epoch) =
            Box::pin(self.in_epoch("cache.detail", vec![step!("GET", keys::detail(id))])).await?;
        let detail = self.read_details(&[id], vec![answers.swap_remove(0)?]).await?.pop();
        Ok((detail.unwrap_or(Detail::Missing), epoch))
    }

    /// What Redis knows of each of these messages, in their order. One round trip.
    #[tracing::instrument(name = "cache.details", skip_all, fields(messages = ids.len()))]
    pub async fn details(&self, ids: &[MessageId]) -> Result<Vec<Detail>, ServerError> {
        let gets = ids.iter().map(|&id| step!("GET", keys::detail(id))).collect();
        // The compensator calls this too, also while Redis is full.
        let answers = self.redis.batch_that_frees("cache.details", gets).await?;
        self.read_details(ids, answers).await
    }

    /// Reads details. A value that is no detail is removed and counts as missing: MySQL has the message, or the consumer will
    /// write it.
    pub(super) async fn read_details(
        &self,
        ids: &[MessageId],
        answers: Vec<redis::Value>,
    ) -> Result<Vec<Detail>, ServerError> {
        let mut details = Vec::with_capacity(ids.len());
        for (&id, answer) in ids.iter().zip(answers) {
            let json: Option<Vec<u8>> = typed("cache.details", answer)?;
            let detail = match json.as_deref().map(Detail::parse) {
                None => Detail::Missing,
                Some(Ok(detail)) => detail,
                Some(Err(_)) => {
                    self.repair(id).await?;
                    Detail::Missing
                }
            };
            details.push(detail);
        }
        Ok(details)
    }

    /// Brings a detail into the form that the scripts know: a message whose fields another writer has put in another order
    /// is written anew, anything else is removed. Only if the detail is still what was read.
    async fn repair(&self, id: MessageId) -> Result<(), ServerError> {
        const ACTION: &str = "cache.repair";
        let key = keys::detail(id);
        let Some(found) = self.redis.run::<Option<Vec<u8>>>(ACTION, step!("GET", &key)).await? else {
            return Ok(());
        };
        let repaired = match Detail::parse(&found) {
            Ok(
                Detail::Message(message) | Detail::Recalled(RecalledDetail { message: Some(message), .. }),
            ) => {
                tracing::warn!(
                    key,
                    "cache.repair: the detail has another form than this service's; written anew"
                );
                to_json(&message)?
            }
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::error!(key, %error, "cache.repair: the detail is not a message; removed, MySQL and Kafka have it");
                String::new()
            }
        };
        let mut exchange = redis::cmd("EVAL");
        exchange.arg(scripts::EXCHANGE.source()).arg(1).arg(&key).arg(found).arg(repaired);
        self.redis.run::<i64>(ACTION, exchange).await.map(drop)
    }

    /// Runs steps of which some are scripts on details, `(position, id)`. Where a script does not know the form of a
    /// detail, the detail is repaired and the script run once more.
    pub(super) async fn on_details(
        &self,
        action: &'static str,
        steps: Vec<Step>,
        scripts: &[(usize, MessageId)],
    ) -> Result<Vec<redis::Value>, ServerError> {
        let mut answers = self.redis.each(action, steps.clone(), true).await?;
        for &(position, id) in scripts {
            if answers[position].is_err() {
                self.repair(id).await?;
                let again = vec![steps[position].clone()];
                answers[position] = Ok(self.redis.batch_that_frees(action, again).await?.swap_remove(0));
            }
        }
        answers.into_iter().collect()
    }
}

pub(super) fn to_json(message: &Message) -> Result<String, ServerError> {
    serde_json::to_string(message).map_err(|error| ServerError {
        server: Server::Redis,
        action: "cache.detail",
        retry: Retry::Permanent,
        source: Box::new(error),
    })
}
