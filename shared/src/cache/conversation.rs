//! What Redis has of a conversation: `msg:conv:{convId}`, the recent ids, newest first, a gapless newest part of the
//! conversation or nothing (`protocol.md`, "Reads"); and the ids that are not rows yet.
//!
//! The list is believed only while `msg:conv-epoch:{convId}` names the present epoch ([`super::epoch`]).

use super::epoch::Epoch;
use super::redis::typed;
use super::{Cache, keys, scripts, step, unpersisted};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId};

/// How long a list lives that was refilled and not yet checked: should the one who checks die, it goes by itself.
const UNCHECKED_MS: u64 = 10_000;

/// The most pending ids that are read at once.
pub const MOST_PENDING: usize = 1_000;

/// Which part of a conversation is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// What is older than this id, or the newest; newest first.
    Before(Option<MessageId>),
    /// What is newer than this id, oldest first.
    After(MessageId),
}

/// What Redis has of a conversation.
#[derive(Debug)]
pub struct Recent {
    /// The recent list, newest first.
    pub listed: Vec<MessageId>,
    /// How many ids the whole list has.
    length: usize,
    /// The ids of the part that are not rows yet, in its order; at most [`MOST_PENDING`].
    pub pending: Vec<MessageId>,
    /// The epoch in which the list was last known to be gapless.
    epoch: Option<String>,
}

impl Recent {
    /// Whether list and pending ids may be believed, with the details that they lead to.
    pub fn is_of(&self, epoch: &Epoch) -> bool {
        self.epoch.as_deref() == Some(epoch.name())
    }

    /// Whether the list goes on behind the ids that were read.
    pub fn has_more(&self) -> bool {
        self.length > self.listed.len()
    }

    /// Whether more ids of the part are pending than were read.
    pub fn has_more_pending(&self) -> bool {
        self.pending.len() >= MOST_PENDING
    }
}

impl Cache {
    /// The newest `limit` ids of the recent list, and the pending ids of `part`. One round trip.
    #[tracing::instrument(name = "cache.recent", skip_all)]
    pub async fn recent(
        &self,
        conversation: ConversationId,
        part: Part,
        limit: usize,
    ) -> Result<Recent, ServerError> {
        const ACTION: &str = "cache.recent";
        let list = keys::conversation(conversation);
        let end = i64::try_from(limit).unwrap_or(i64::MAX) - 1;
        let pending = match part {
            Part::Before(before) => unpersisted::range_step(conversation, None, before, true, MOST_PENDING),
            Part::After(after) => {
                unpersisted::range_step(conversation, Some(after), None, false, MOST_PENDING)
            }
        };
        // The pending ids first: the consumer puts an id into the list before it takes the id off the pending ones, so a
        // message that becomes a row in between is found in one of the two.
        let reads = vec![
            pending,
            step!("LRANGE", &list, 0, end),
            step!("LLEN", &list),
            step!("GET", keys::conversation_epoch(conversation)),
        ];
        // The epoch follows: MySQL tells the generation meanwhile, if that is due.
        let (answers, _) = tokio::join!(self.redis.batch(ACTION, reads), self.generation.present());
        let mut answers = answers?.into_iter();
        let mut next = || answers.next().unwrap_or(::redis::Value::Nil);
        let (pending, listed): (Vec<String>, Vec<String>) = (typed(ACTION, next())?, typed(ACTION, next())?);
        Ok(Recent {
            listed: unpersisted::ids(listed),
            length: typed(ACTION, next())?,
            pending: unpersisted::ids(pending),
            epoch: typed(ACTION, next())?,
        })
    }

    /// Appends ids read from MySQL, newest first and all older than `last`, the last id that the list had then (`None`:
    /// there was no list). The list then
    /// lives for 10 s, until [`Self::keep_conversation`]. False if the list has changed at its end meanwhile: nothing is done.
    pub async fn append(
        &self,
        conversation: ConversationId,
        last: Option<MessageId>,
        ids: &[MessageId],
    ) -> Result<bool, ServerError> {
        let mut arguments = vec![
            last.map(|id| id.to_string()).unwrap_or_default(),
            self.conversation_size.to_string(),
            UNCHECKED_MS.to_string(),
        ];
        arguments.extend(ids.iter().map(ToString::to_string));
        let append = scripts::CONVERSATION_APPEND.on(keys::conversation(conversation), arguments);
        self.redis.run("cache.append", append).await
    }

    /// Replaces the list that was `seen` and is not believed by these ids, newest first, which MySQL has. It then lives for
    /// 10 s, until [`Self::keep_conversation`]. False if the list has changed meanwhile: nothing is done.
    pub async fn replace(
        &self,
        conversation: ConversationId,
        seen: &Recent,
        ids: &[MessageId],
    ) -> Result<bool, ServerError> {
        let head = seen.listed.first().map(ToString::to_string).unwrap_or_default();
        let mut arguments = vec![head, seen.length.to_string(), UNCHECKED_MS.to_string()];
        arguments.extend(ids.iter().take(self.conversation_size).map(ToString::to_string));
        let replace = scripts::CONVERSATION_REPLACE.on(keys::conversation(conversation), arguments);
        self.redis.run("cache.replace", replace).await
    }

    /// The list is gapless, as was checked after `epoch` was read: it may live its full time, and is believed in that
    /// epoch.
    pub async fn keep_conversation(
        &self,
        conversation: ConversationId,
        epoch: &Epoch,
    ) -> Result<(), ServerError> {
        let steps = vec![
            step!("PEXPIRE", keys::conversation(conversation), self.expiry_ms),
            step!("SET", keys::conversation_epoch(conversation), epoch.name(), "PX", self.expiry_ms),
        ];
        self.redis.batch("cache.keep_conversation", steps).await.map(drop)
    }

    /// Drops the list: what is not known to be gapless must not be.
    pub async fn drop_conversation(&self, conversation: ConversationId) -> Result<(), ServerError> {
        self.redis.run("cache.drop_conversation", step!("UNLINK", keys::conversation(conversation))).await
    }

    /// The most ids that a list keeps.
    pub fn conversation_size(&self) -> usize {
        self.conversation_size
    }
}
