//! `msg:detail:{id}`: the one copy of a message that changes, and the decisions made on it.

use serde::Deserialize;

use super::deleted::{self, DeletedAmong};
use super::epoch::Epoch;
use super::pending::Pending;
use super::redis::{self, Step, typed};
use super::{Cache, keys, scripts, step, unpersisted};
use crate::clock::TimestampMs;
use crate::error::{Retry, Server, ServerError};
use crate::event::Recall;
use crate::id::{ConversationId, MessageId, UserId};
use crate::message::Message;

/// How long the recall flag `msg:cancel:{id}` stays: 10 minutes, twice the recall window (`docs/contract.md`, "Keys").
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

/// What Redis knows of some messages at one moment.
#[derive(Debug)]
pub struct Look {
    /// The messages, in the order of their ids.
    pub details: Vec<Detail>,
    /// Which of them the user has deleted.
    pub deleted: DeletedAmong,
    /// The epoch.
    pub epoch: Epoch,
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
                let marks = take_off_steps(conversation, id);
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

    /// What Redis knows of each of these messages, which of them `user` has deleted, and the epoch that all of it is of.
    /// One round trip.
    #[tracing::instrument(name = "cache.look", skip_all, fields(messages = ids.len()))]
    pub async fn look(&self, user: UserId, ids: &[MessageId]) -> Result<Look, ServerError> {
        const ACTION: &str = "cache.look";
        let mut reads: Vec<Step> = ids.iter().map(|&id| step!("GET", keys::detail(id))).collect();
        let assumed = self.generation.last_epoch();
        reads.push(deleted::among_step(user, ids, &assumed));
        let (answers, epoch) = Box::pin(self.in_epoch(ACTION, reads)).await?;
        let mut answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut deleted = deleted::among(ids, answers.pop().unwrap_or(::redis::Value::Nil))?;
        deleted.complete &= assumed == epoch.name();
        Ok(Look { details: self.read_details(ids, answers).await?, deleted, epoch })
    }

    /// Reads details. A value that is no detail is removed and counts as missing: MySQL has the message, or the consumer will
    /// write it.
    async fn read_details(
        &self,
        ids: &[MessageId],
        answers: Vec<::redis::Value>,
    ) -> Result<Vec<Detail>, ServerError> {
        let mut details = Vec::with_capacity(ids.len());
        for (&id, answer) in ids.iter().zip(answers) {
            let json: Option<Vec<u8>> = typed("cache.details", answer)?;
            let detail = match json.as_deref().map(Detail::parse) {
                None => Detail::Missing,
                Some(Ok(detail)) => detail,
                Some(Err(_)) => {
                    self.mend(id).await?;
                    Detail::Missing
                }
            };
            details.push(detail);
        }
        Ok(details)
    }

    /// Brings a detail into the form that the scripts know: a message whose fields another writer has put in another order
    /// is written anew, anything else is removed. Only if the detail is still what was read.
    async fn mend(&self, id: MessageId) -> Result<(), ServerError> {
        const ACTION: &str = "cache.mend";
        let key = keys::detail(id);
        let Some(found) = self.redis.run::<Option<Vec<u8>>>(ACTION, step!("GET", &key)).await? else {
            return Ok(());
        };
        let mended = match Detail::parse(&found) {
            Ok(
                Detail::Message(message) | Detail::Recalled(RecalledDetail { message: Some(message), .. }),
            ) => {
                tracing::warn!(
                    key,
                    "cache.mend: the detail has another form than this service's; written anew"
                );
                to_json(&message)?
            }
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::error!(key, %error, "cache.mend: the detail is not a message; removed, MySQL and Kafka have it");
                String::new()
            }
        };
        let mut exchange = ::redis::cmd("EVAL");
        exchange.arg(scripts::EXCHANGE.source()).arg(1).arg(&key).arg(found).arg(mended);
        self.redis.run::<i64>(ACTION, exchange).await.map(drop)
    }

    /// Runs steps of which some are scripts on details, `(position, id)`. Where a script does not know the form of a
    /// detail, the detail is mended and the script run once more.
    pub(super) async fn on_details(
        &self,
        action: &'static str,
        steps: Vec<Step>,
        scripts: &[(usize, MessageId)],
    ) -> Result<Vec<::redis::Value>, ServerError> {
        let mut answers = self.redis.each(action, steps.clone(), true).await?;
        for &(position, id) in scripts {
            if answers[position].is_err() {
                self.mend(id).await?;
                let again = vec![steps[position].clone()];
                answers[position] = Ok(self.redis.batch_that_frees(action, again).await?.swap_remove(0));
            }
        }
        answers.into_iter().collect()
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
        unless_full(self.redis.batch("cache.restore", sets).await)
    }

    /// Decides a recall: sets the flag, notes the recall as unconfirmed and changes the detail, in one round trip; then takes
    /// the id off the pages and the receiver's unread. Safe to repeat.
    ///
    /// The note comes right before the change: the compensator works from it, so a process that dies here never leaves a
    /// changed detail that nobody completes. A note without a change is settled as a message like any other.
    #[tracing::instrument(name = "cache.mark_recalled", skip_all, fields(message_id = %recall.message_id))]
    pub async fn mark_recalled(&self, recall: &Recall, receiver: UserId) -> Result<RecallMark, ServerError> {
        const ACTION: &str = "cache.mark_recalled";
        let id = recall.message_id;
        let entry = Pending::recalled(recall);
        let first = vec![
            step!("SET", keys::cancel(id), recall.recall_time, "PX", CANCEL_FLAG_MS),
            step!("ZADD", self.shard(recall.conversation_id), entry.score, id.get()),
            mark_recalled_step(recall),
        ];
        let mut rest = vec![
            step!("SREM", keys::unread(receiver), id.get()),
            step!("ZREM", keys::unread_pending(receiver), unpersisted::member(id)),
        ];
        rest.extend(off_pages_steps(recall.conversation_id, id));
        let mut values = self.on_details(ACTION, first, &[(2, id)]).await?;
        self.redis.batch(ACTION, rest).await?;
        recall_mark(values.swap_remove(2))
    }

    /// MySQL has these recalls: makes sure that Redis has them too (it may have been away when they were decided), lets
    /// the details expire, and takes them off the pending set.
    #[tracing::instrument(name = "cache.confirm_recalled", skip_all, fields(messages = recalls.len()))]
    pub async fn confirm_recalled(&self, recalls: &[Recall]) -> Result<(), ServerError> {
        const ACTION: &str = "cache.confirm_recalled";
        let marks = recalls.iter().map(mark_recalled_step).collect();
        let scripts: Vec<_> = recalls.iter().map(|recall| recall.message_id).enumerate().collect();
        let confirms = recalls.iter().flat_map(|recall| {
            let id = recall.message_id;
            let confirm = scripts::CONFIRM_RECALLED.on(keys::detail(id), vec![self.expiry_ms.to_string()]);
            [confirm].into_iter().chain(take_off_steps(recall.conversation_id, id))
        });
        self.on_details(ACTION, marks, &scripts).await?;
        self.redis.batch_that_frees(ACTION, confirms.collect()).await?;
        self.remove_pending(recalls.iter().map(|recall| (recall.conversation_id, recall.message_id))).await
    }

    /// Removes the stub that a recall of another conversation left under this id.
    pub async fn drop_stub(&self, id: MessageId) -> Result<(), ServerError> {
        self.redis.run::<i64>("cache.drop_stub", step!("DEL", keys::detail(id))).await.map(drop)
    }

    /// Takes a message out of Redis that will never be a row: a retry whose first try is already kept.
    pub async fn forget(&self, message: &Message) -> Result<(), ServerError> {
        let mut steps = take_off_steps(message.conversation(), message.id);
        steps.push(step!("DEL", keys::detail(message.id)));
        self.redis.batch_that_frees("cache.forget", steps).await?;
        self.remove_pending([(message.conversation(), message.id)]).await
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

/// A Redis that is full is not given what MySQL has as well: that is no failure of the work that would have given it.
pub(super) fn unless_full<T>(given: Result<T, ServerError>) -> Result<(), ServerError> {
    match given {
        Err(error) if redis::is_full(&error) => {
            tracing::debug!(%error, "Redis is full; MySQL answers for what it lacks");
            Ok(())
        }
        given => given.map(drop),
    }
}

/// Takes a message off the list and the pending index that pages are read from.
fn off_pages_steps(conversation: ConversationId, id: MessageId) -> [Step; 2] {
    [
        scripts::CONVERSATION_REMOVE.on(keys::conversation(conversation), vec![id.to_string()]),
        step!("ZREM", keys::conversation_pending(conversation), unpersisted::member(id)),
    ]
}

/// Takes a recalled or forgotten message off everything that leads to it: the pages of its conversation, and the unread of
/// both users (own messages never count, so which of the two is the receiver need not be known).
fn take_off_steps(conversation: ConversationId, id: MessageId) -> Vec<Step> {
    let mut steps = Vec::from(off_pages_steps(conversation, id));
    for user in conversation.users() {
        steps.push(step!("SREM", keys::unread(user), id.get()));
        steps.push(step!("ZREM", keys::unread_pending(user), unpersisted::member(id)));
    }
    steps
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
