//! `msg:detail:{id}`: the one copy of a message in Redis that may change.

use redis::Value;
use serde::Deserialize;

use super::connection::typed;
use super::epoch::Epoch;
use super::step::{Step, step};
use super::{Cache, keys, scripts};
use crate::clock::TimestampMs;
use crate::error::{Retry, Server, ServerError};
use crate::id::{ConversationId, MessageId};
use crate::message::Message;
use crate::redact;

/// The beginning of every recalled detail.
pub(super) const RECALLED_HEAD: &str = r#"{"status":0"#;

/// A message as Redis knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// Redis has no detail: there never was one, it has expired, or Redis was emptied.
    Missing,
    /// The sender recalled the message. The content is gone.
    Recalled(RecalledDetail),
    /// A live message.
    Message(Message),
}

/// A recalled message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecalledDetail {
    /// The time of the recall, ms since 1970 UTC.
    pub recall_time: TimestampMs,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The message without its content; `None` if only a stub is left.
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

    /// True if the message is recalled.
    pub fn is_recalled(&self) -> bool {
        matches!(self, Self::Recalled(_))
    }
}

impl Cache {
    /// The detail of one message.
    pub async fn detail(&self, id: MessageId) -> Result<Detail, ServerError> {
        Ok(self.details(&[id]).await?.pop().unwrap_or(Detail::Missing))
    }

    /// The detail of one message, and the epoch. If the message was not certainly sent in that epoch
    /// ([`Epoch::has_all_of`]), Redis may have lost its recall.
    pub async fn detail_in_epoch(&self, id: MessageId) -> Result<(Detail, Epoch), ServerError> {
        let (mut answers, epoch) =
            Box::pin(self.in_epoch("cache.detail", vec![step!("GET", keys::detail(id))])).await?;
        let detail = self.read_details(&[id], vec![answers.swap_remove(0)?]).await?.pop();
        Ok((detail.unwrap_or(Detail::Missing), epoch))
    }

    /// The details of these messages, in the same order. One round trip.
    #[tracing::instrument(name = "cache.details", skip_all, fields(messages = ids.len()))]
    pub async fn details(&self, ids: &[MessageId]) -> Result<Vec<Detail>, ServerError> {
        let gets = ids.iter().map(|&id| step!("GET", keys::detail(id))).collect();
        // The compensator reads details too, and must be able to while Redis is full.
        let answers = self.redis.batch_that_frees("cache.details", gets).await?;
        self.read_details(ids, answers).await
    }

    /// The commands that read these details: one on a single server, one a detail in a cluster, where the keys are on
    /// several nodes. A page has 21 details, and 21 commands took a third of the time that Redis spends on a page.
    ///
    /// A single server answers a key of a wrong type with nil instead of an error. The detail then counts as missing; the
    /// key is removed when the message is restored ([`Self::details`]), or when it becomes a row.
    pub(super) fn detail_steps(&self, ids: &[MessageId]) -> Vec<Step> {
        if ids.is_empty() || self.redis.is_cluster() {
            return ids.iter().map(|&id| step!("GET", keys::detail(id))).collect();
        }
        let keys: Vec<String> = ids.iter().map(|&id| keys::detail(id)).collect();
        vec![step!("MGET", keys)]
    }

    /// The details that the answers to [`Self::detail_steps`] hold, in the order of the ids.
    pub(super) fn detail_values(&self, mut answers: Vec<Value>) -> Result<Vec<Value>, ServerError> {
        if answers.is_empty() || self.redis.is_cluster() {
            return Ok(answers);
        }
        match answers.swap_remove(0) {
            Value::Array(values) => Ok(values),
            other => typed("cache.details", other),
        }
    }

    /// Reads details. A value that is not a detail is removed and counts as missing: MySQL has the message, or the
    /// consumer will write it.
    pub(super) async fn read_details(
        &self,
        ids: &[MessageId],
        answers: Vec<Value>,
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

    /// Brings a detail into the form that the scripts can read. A message whose fields another writer put in another
    /// order is written in our order; any other value is removed. Nothing happens if the detail has changed since it
    /// was read here.
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
                    "cache.repair: the detail has another form than this service's; rewritten"
                );
                to_json(&message)?
            }
            Ok(_) => return Ok(()),
            Err(error) => {
                let error = redact::json(&error);
                tracing::error!(
                    key,
                    error,
                    "cache.repair: the detail is not a message; removed, since MySQL or Kafka has the message"
                );
                String::new()
            }
        };
        let mut exchange = redis::cmd("EVAL");
        exchange.arg(scripts::EXCHANGE.source()).arg(1).arg(&key).arg(found).arg(repaired);
        self.redis.run::<i64>(ACTION, exchange).await.map(drop)
    }

    /// Runs steps of which some are scripts on details: `scripts` has their positions and message ids. Where a script
    /// cannot read a detail, the detail is repaired and the script runs once more.
    pub(super) async fn on_details(
        &self,
        action: &'static str,
        steps: Vec<Step>,
        scripts: &[(usize, MessageId)],
    ) -> Result<Vec<Value>, ServerError> {
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
