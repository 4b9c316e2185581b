//! What Redis has of a conversation: `msg:conv:{convId}`, the recent ids, newest first, a gapless newest part of the
//! conversation or nothing (`docs/protocol.md`, R18); and the ids that are not rows yet.
//!
//! The list is believed only while `msg:conv-epoch:{convId}` names the present epoch ([`super::epoch`]) and the list's oldest id.
//! A list that went and was begun anew by a send has another oldest id: a newer message may have become a row in between,
//! which that list lacks.

use super::epoch::Epoch;
use super::redis::{Step, typed};
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
    /// The epoch in which the list was last known to be gapless, and its oldest id at that time.
    mark: Option<String>,
    /// The list's oldest id before and after the list was read.
    oldest: [Option<MessageId>; 2],
    /// Whether the list is as long as it may get, so that its oldest ids go as newer ones come.
    is_full: bool,
}

impl Recent {
    /// Whether list and pending ids may be believed, with the details that they lead to.
    pub fn is_of(&self, epoch: &Epoch) -> bool {
        let mark = self.mark.as_deref().and_then(|mark| mark.rsplit_once(' '));
        let Some((name, marked)) = mark.filter(|_| self.oldest[0] == self.oldest[1]) else { return false };
        let marked = marked.parse::<MessageId>().ok();
        name == epoch.name()
            && (marked == self.oldest[0] || self.is_full && marked.is_some() && marked < self.oldest[0])
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
            step!("GET", keys::conversation_epoch(conversation)),
            step!("LINDEX", &list, -1),
            step!("LRANGE", &list, 0, end),
            step!("LLEN", &list),
            step!("LINDEX", &list, -1),
        ];
        // The epoch follows: MySQL tells the generation meanwhile, if that is due.
        let (answers, _) = tokio::join!(self.redis.batch(ACTION, reads), self.generation.present());
        let mut answers = answers?.into_iter();
        let mut next = || answers.next().unwrap_or(::redis::Value::Nil);
        let (pending, mark): (Vec<String>, Option<String>) = (typed(ACTION, next())?, typed(ACTION, next())?);
        let before: Option<String> = typed(ACTION, next())?;
        let (listed, length): (Vec<String>, usize) = (typed(ACTION, next())?, typed(ACTION, next())?);
        let after: Option<String> = typed(ACTION, next())?;
        Ok(Recent {
            listed: unpersisted::ids(listed),
            length,
            pending: unpersisted::ids(pending),
            mark,
            oldest: [before, after].map(|id| id.and_then(|id| id.parse().ok())),
            is_full: length >= self.conversation_size,
        })
    }

    /// Appends ids read from MySQL, newest first and all older than `last`, the last id that the list had then (`None`:
    /// there was no list). The list then lives for 10 s, until [`Self::keep_conversation`]. False if the list has changed at
    /// its end meanwhile: nothing is done.
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

    /// The list down to `oldest` (`None`: the conversation has no rows) is gapless, as was checked after `epoch` was read: it may
    /// live its full time, and is believed in that epoch while `oldest` is its end.
    pub async fn keep_conversation(
        &self,
        conversation: ConversationId,
        oldest: Option<MessageId>,
        epoch: &Epoch,
    ) -> Result<(), ServerError> {
        let mark = format!("{} {}", epoch.name(), oldest.map(|id| id.to_string()).unwrap_or_default());
        let steps = vec![
            step!("PEXPIRE", keys::conversation(conversation), self.expiry_ms),
            step!("SET", keys::conversation_epoch(conversation), mark, "PX", self.expiry_ms),
        ];
        self.redis.batch("cache.keep_conversation", steps).await.map(drop)
    }

    /// Drops the list: what is not known to be gapless must not be.
    pub async fn drop_conversation(&self, conversation: ConversationId) -> Result<(), ServerError> {
        let gone = [keys::conversation(conversation), keys::conversation_epoch(conversation)];
        let steps = gone.into_iter().map(|key| step!("UNLINK", key)).collect();
        self.redis.batch::<Step>("cache.drop_conversation", steps).await.map(drop)
    }

    /// The most ids that a list keeps.
    pub fn conversation_size(&self) -> usize {
        self.conversation_size
    }
}
