//! `msg:detail:{id}`: the one copy of a message that changes, and the decisions made on it.

use serde::Deserialize;

use super::pending::Pending;
use super::redis::{Step, typed};
use super::{Cache, keys, scripts, step, unpersisted};
use crate::clock::TimestampMs;
use crate::error::{Retry, Server, ServerError};
use crate::event::Recall;
use crate::id::{ConversationId, MessageId, UserId};
use crate::message::Message;

/// How long the recall flag `msg:cancel:{id}` stays: 10 minutes, twice the recall window (`mission.md`).
const CANCEL_FLAG_MS: u64 = 10 * 60 * 1_000;

/// How old a message may be to begin a conversation's list: less than it takes Redis to lose a newer one.
const FRESH_MS: TimestampMs = 2_000;

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
    fn parse(id: MessageId, json: Option<String>) -> Result<Self, ServerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Stub {
            status: u8,
            recall_time: TimestampMs,
            conversation_id: ConversationId,
        }
        let Some(json) = json else { return Ok(Self::Missing) };
        let parsed = match serde_json::from_str::<Message>(&json) {
            Ok(message) if message.is_recalled() => Ok(Self::Recalled(RecalledDetail {
                recall_time: message.recall_time.unwrap_or_default(),
                conversation: message.conversation(),
                message: Some(message),
            })),
            Ok(message) => Ok(Self::Message(message)),
            Err(error) => match serde_json::from_str(&json) {
                Ok(Stub { status: 0, recall_time, conversation_id: conversation }) => {
                    Ok(Self::Recalled(RecalledDetail { recall_time, conversation, message: None }))
                }
                _ => Err(error),
            },
        };
        parsed.map_err(|error| ServerError {
            server: Server::Redis,
            action: "cache.detail",
            retry: Retry::Permanent,
            source: format!("{} is not a message: {error}", keys::detail(id)).into(),
        })
    }

    /// Whether the message was taken back.
    pub fn is_recalled(&self) -> bool {
        matches!(self, Self::Recalled(_))
    }
}

/// What [`Cache::mark_recalled`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecallMark {
    /// There was no detail; a stub now keeps the content from coming back.
    Missing,
    /// It had been recalled before, at this time.
    Already(TimestampMs),
    /// It is recalled now.
    Recalled,
}

/// What [`Cache::accept`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Redis has the message.
    Kept,
    /// The message of this id was accepted before and has been recalled: nobody is to be shown it.
    Recalled,
}

impl Cache {
    /// Takes a new message in. One round trip.
    ///
    /// The indexes of what is pending come first, so that Redis can hold no message that the compensator and the pages
    /// do not see; then the detail without TTL, its place in the conversation, the receiver's unread.
    ///
    /// A message just made begins the conversation's list where there is none. One that was held up on its way does
    /// not: newer ones may have gone past it, and a list begun with it would lack them. `now` is the time, ms.
    #[tracing::instrument(name = "cache.send", skip_all, fields(message_id = %message.id))]
    pub async fn accept(&self, message: &Message, now: TimestampMs) -> Result<Accepted, ServerError> {
        const ACTION: &str = "cache.send";
        self.drop_torn().await?;
        self.tell_unremembered(now).await?;
        let (conversation, id) = (message.conversation(), message.id);
        let entry = Pending::sent(message);
        let mode = if now.saturating_sub(message.send_time) < FRESH_MS { "create" } else { "heal" };
        let first = vec![
            step!("ZADD", self.shard(conversation), "NX", entry.score, id.get()),
            step!("ZADD", keys::conversation_pending(conversation), 0, unpersisted::member(id)),
        ];
        let rest = vec![
            step!("SET", keys::detail(id), to_json(message)?, "NX"),
            self.insert_step(conversation, id, mode),
            step!("SADD", keys::unread(message.to), id.get()),
            step!("PEXPIRE", keys::unread(message.to), self.expiry_ms),
            step!("ZADD", keys::unread_pending(message.to), 0, unpersisted::member(id)),
            step!("GETRANGE", keys::detail(id), 0, RECALLED_HEAD.len() - 1),
        ];
        match self.in_order(ACTION, first, rest).await {
            Ok(mut answers) => {
                let head: String = typed(ACTION, answers.pop().unwrap_or(::redis::Value::Nil))?;
                if head != RECALLED_HEAD {
                    return Ok(Accepted::Kept);
                }
                // A twin of this send was accepted and recalled before: take back what this one has just added.
                let marks = self.take_off_steps(conversation, &[id]);
                self.redis.batch(ACTION, marks).await?;
                Ok(Accepted::Recalled)
            }
            Err(error) => {
                if self.redis.is_cluster() {
                    self.give_up(message).await;
                }
                Err(error)
            }
        }
    }

    /// One node of the cluster was away, so the message is not accepted here. The consumer puts back what Redis lacks of
    /// a message, but looks only for its detail: so the detail goes. Should its node be the one that is away, the detail
    /// is missing anyway.
    async fn give_up(&self, message: &Message) {
        let forget = step!("DEL", keys::detail(message.id));
        if let Err(error) = self.redis.run::<i64>("cache.send", forget).await {
            tracing::debug!(%error, "the detail of a message that was refused is away as well");
        }
    }

    /// What Redis knows of one message.
    pub async fn detail(&self, id: MessageId) -> Result<Detail, ServerError> {
        let json = self.redis.run("cache.detail", step!("GET", keys::detail(id))).await?;
        let mut detail = [Detail::parse(id, json)?];
        self.correct(&[id], &mut detail).await?;
        let [detail] = detail;
        Ok(detail)
    }

    /// What Redis knows of each of these messages, in their order. One round trip.
    #[tracing::instrument(name = "cache.details", skip_all, fields(messages = ids.len()))]
    pub async fn details(&self, ids: &[MessageId]) -> Result<Vec<Detail>, ServerError> {
        let gets = ids.iter().map(|&id| step!("GET", keys::detail(id))).collect();
        let values = self.redis.batch("cache.details", gets).await?;
        let parsed = ids
            .iter()
            .zip(values)
            .map(|(&id, value)| Detail::parse(id, typed("cache.details", value)?))
            .collect::<Result<Vec<_>, _>>();
        let mut details = parsed?;
        self.correct(ids, &mut details).await?;
        Ok(details)
    }

    /// Puts back details that are missing, of messages read from MySQL; what is there, above all a recall, stays.
    pub async fn restore<'a>(
        &self,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<(), ServerError> {
        let sets = messages
            .into_iter()
            .map(|message| {
                Ok(step!("SET", keys::detail(message.id), to_json(message)?, "NX", "PX", self.expiry_ms))
            })
            .collect::<Result<Vec<_>, ServerError>>()?;
        self.redis.batch("cache.restore", sets).await.map(drop)
    }

    /// Decides a recall: sets the flag, changes the detail, then notes the recall as unconfirmed and takes the id off the
    /// receiver's unread. Safe to repeat. The note comes after the change: if Redis loses its memory in between, either
    /// both are there or the note alone, and the note is what the compensator works from.
    #[tracing::instrument(name = "cache.mark_recalled", skip_all, fields(message_id = %recall.message_id))]
    pub async fn mark_recalled(&self, recall: &Recall, receiver: UserId) -> Result<RecallMark, ServerError> {
        let id = recall.message_id;
        let entry = Pending::recalled(recall);
        let first = vec![
            step!("SET", keys::cancel(id), recall.recall_time, "PX", CANCEL_FLAG_MS),
            mark_recalled_step(recall),
        ];
        let mut rest = vec![
            step!("ZADD", self.shard(recall.conversation_id), entry.score, id.get()),
            step!("SREM", keys::unread(receiver), id.get()),
            step!("ZREM", keys::unread_pending(receiver), unpersisted::member(id)),
        ];
        rest.extend(self.off_pages_steps(recall.conversation_id, id));
        let mut values = self.in_order("cache.mark_recalled", first, rest).await?;
        recall_mark(values.swap_remove(1))
    }

    /// MySQL has these recalls: makes sure that Redis has them too (it may have been away when they were decided), lets
    /// the details expire, and takes them off the pending set.
    #[tracing::instrument(name = "cache.confirm_recalled", skip_all, fields(messages = recalls.len()))]
    pub async fn confirm_recalled(&self, recalls: &[Recall]) -> Result<(), ServerError> {
        let marks = recalls.iter().map(mark_recalled_step).collect();
        let confirms = recalls.iter().flat_map(|recall| {
            let id = recall.message_id;
            let confirm = scripts::CONFIRM_RECALLED.on(keys::detail(id), vec![self.expiry_ms.to_string()]);
            [confirm].into_iter().chain(self.take_off_steps(recall.conversation_id, &[id]))
        });
        self.in_order("cache.confirm_recalled", marks, confirms.collect()).await?;
        self.remove_pending(recalls.iter().map(|recall| (recall.conversation_id, recall.message_id))).await
    }

    /// Takes a message out of Redis that will never be a row: a retry whose first try is already kept.
    pub async fn forget(&self, message: &Message) -> Result<(), ServerError> {
        let mut steps = self.take_off_steps(message.conversation(), &[message.id]);
        steps.push(step!("DEL", keys::detail(message.id)));
        self.redis.batch("cache.forget", steps).await?;
        self.remove_pending([(message.conversation(), message.id)]).await
    }

    /// Takes recalled or forgotten messages off everything that leads to them: the pages of their conversation, and the
    /// unread of both users (own messages never count, so which of the two is the receiver need not be known).
    fn take_off_steps(&self, conversation: ConversationId, ids: &[MessageId]) -> Vec<Step> {
        let mut steps = Vec::new();
        for &id in ids {
            steps.extend(self.off_pages_steps(conversation, id));
            for user in conversation.users() {
                steps.push(step!("SREM", keys::unread(user), id.get()));
                steps.push(step!("ZREM", keys::unread_pending(user), unpersisted::member(id)));
            }
        }
        steps
    }

    /// Takes a message off the list and the pending index that pages are read from.
    fn off_pages_steps(&self, conversation: ConversationId, id: MessageId) -> [Step; 2] {
        [
            step!("LREM", keys::conversation(conversation), 0, id.get()),
            step!("ZREM", keys::conversation_pending(conversation), unpersisted::member(id)),
        ]
    }

    /// The script that puts `id` in its place in the recent list.
    pub(super) fn insert_step(&self, conversation: ConversationId, id: MessageId, mode: &str) -> Step {
        scripts::CONVERSATION_INSERT.on(
            keys::conversation(conversation),
            vec![
                id.to_string(),
                self.conversation_size.to_string(),
                self.expiry_ms.to_string(),
                mode.to_owned(),
            ],
        )
    }
}

fn mark_recalled_step(recall: &Recall) -> Step {
    let stub = format!(
        r#"{{"status":0,"persistStatus":"PENDING","recallTime":{},"id":{},"conversationId":"{}","content":""}}"#,
        recall.recall_time, recall.message_id, recall.conversation_id
    );
    scripts::MARK_RECALLED.on(keys::detail(recall.message_id), vec![recall.recall_time.to_string(), stub])
}

fn recall_mark(value: ::redis::Value) -> Result<RecallMark, ServerError> {
    let answer: Vec<String> = typed("cache.mark_recalled", value)?;
    match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["missing"] => Ok(RecallMark::Missing),
        ["recalled", _] => Ok(RecallMark::Recalled),
        ["already", time] => Ok(RecallMark::Already(time.parse().unwrap_or_default())),
        _ => Err(unexpected_answer("cache.mark_recalled", &answer)),
    }
}

pub(super) fn unexpected_answer(action: &'static str, answer: &[String]) -> ServerError {
    let source = format!("the script answered {answer:?}").into();
    ServerError { server: Server::Redis, action, retry: Retry::Permanent, source }
}

fn to_json(message: &Message) -> Result<String, ServerError> {
    serde_json::to_string(message).map_err(|error| ServerError {
        server: Server::Redis,
        action: "cache.detail",
        retry: Retry::Permanent,
        source: Box::new(error),
    })
}
