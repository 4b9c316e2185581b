//! Reading a page: the recent list `msg:conv:{convId}` (newest first, gapless or not believed: `docs/protocol.md`,
//! R18), the pending ids beside it, and the details that they lead to.
//!
//! The list is believed only while `msg:conv-epoch:{convId}` names the present epoch ([`super::epoch`]) and the list's
//! oldest id. The oldest id shows that the list is still the same one: a list that vanished and was begun again by a
//! send has another, and may lack a newer message that became a row in between.

use super::clearing::{self, Clearing};
use super::connection::typed;
use super::deletion::{self, DeletedAmong};
use super::detail::Detail;
use super::epoch::Epoch;
use super::step::step;
use super::{Cache, index, keys};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};

/// The most pending ids that are read at once. With more, a page is read in several parts.
pub const MOST_PENDING: usize = 1_000;

/// The part of a conversation that a page is read from.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// Messages older than this id, or all without one; newest first.
    Before(Option<MessageId>),
    /// Messages newer than this id; oldest first.
    After(MessageId),
}

/// The list and the pending ids of a conversation, as Redis has them.
#[derive(Debug)]
pub struct Recent {
    /// The newest ids of the recent list, newest first, as many as were asked for.
    pub listed: Vec<MessageId>,
    /// How many ids the whole list has.
    pub(super) length: usize,
    /// The pending ids of the part, in the part's order; at most [`MOST_PENDING`].
    pub pending: Vec<MessageId>,
    /// How far the reader has cleared the conversation.
    pub cleared: Clearing,
    /// `epoch oldest-id`: the epoch in which the list was last known to be gapless, and its oldest id at that time.
    mark: Option<String>,
    /// The list's oldest id right before and right after the list was read.
    oldest: [Option<MessageId>; 2],
    /// True if the list has its greatest length, so that a newer id pushes the oldest one out.
    is_full: bool,
}

/// Details and deletions, read at one moment.
#[derive(Debug)]
pub struct Lookup {
    /// The details, in the order of the ids that were asked for.
    pub details: Vec<Detail>,
    /// The deletions of the user among the messages.
    pub deleted: DeletedAmong,
    /// The epoch in which they were read.
    pub epoch: Epoch,
}

impl Recent {
    /// True if the list and the pending ids may be believed in `epoch`, together with the details that they lead to.
    pub fn is_believed_in(&self, epoch: &Epoch) -> bool {
        let mark = self.mark.as_deref().and_then(|mark| mark.rsplit_once(' '));
        let Some((name, marked)) = mark.filter(|_| self.oldest[0] == self.oldest[1]) else { return false };
        let marked = marked.parse::<MessageId>().ok();
        name == epoch.name()
            && (marked == self.oldest[0] || self.is_full && marked.is_some() && marked < self.oldest[0])
    }

    /// True if the list has older ids than those that were read.
    pub fn has_more(&self) -> bool {
        self.length > self.listed.len()
    }

    /// True if the part may have more pending ids than were read.
    pub fn has_more_pending(&self) -> bool {
        self.pending.len() >= MOST_PENDING
    }
}

impl Cache {
    /// The newest `limit` ids of the recent list, the pending ids of `part`, and how far `reader` has cleared. One round
    /// trip.
    #[tracing::instrument(name = "cache.recent", skip_all)]
    pub async fn recent(
        &self,
        reader: UserId,
        conversation: ConversationId,
        part: Part,
        limit: usize,
    ) -> Result<Recent, ServerError> {
        const ACTION: &str = "cache.recent";
        let list = keys::conversation(conversation);
        let end = i64::try_from(limit).unwrap_or(i64::MAX) - 1;
        let pending = match part {
            Part::Before(before) => index::range_step(conversation, None, before, true, MOST_PENDING),
            Part::After(after) => index::range_step(conversation, Some(after), None, false, MOST_PENDING),
        };
        // The pending ids are read before the list: the consumer puts an id into the list before it takes the id off
        // the index, so a message that becomes a row in between is found in one of the two.
        let reads = vec![
            pending,
            step!("GET", keys::conversation_epoch(conversation)),
            step!("LINDEX", &list, -1),
            step!("LRANGE", &list, 0, end),
            step!("LLEN", &list),
            step!("LINDEX", &list, -1),
            clearing::read_step(reader, conversation),
        ];
        // The epoch is read next. If MySQL must be asked for the generation, that happens meanwhile.
        let (answers, _) = tokio::join!(self.redis.batch(ACTION, reads), self.generation.current());
        let mut answers = answers?.into_iter();
        let mut next = || answers.next().unwrap_or(redis::Value::Nil);
        let (pending, mark): (Vec<String>, Option<String>) = (typed(ACTION, next())?, typed(ACTION, next())?);
        let before: Option<String> = typed(ACTION, next())?;
        let (listed, length): (Vec<String>, usize) = (typed(ACTION, next())?, typed(ACTION, next())?);
        let after: Option<String> = typed(ACTION, next())?;
        let cleared = Clearing::of(typed(ACTION, next())?);
        Ok(Recent {
            listed: index::ids(listed),
            length,
            pending: index::ids(pending),
            cleared,
            mark,
            oldest: [before, after].map(|id| id.and_then(|id| id.parse().ok())),
            is_full: length >= self.conversation_size,
        })
    }

    /// The details of these messages, which of the messages `user` has deleted, and the epoch of both. One round trip.
    #[tracing::instrument(name = "cache.look_up", skip_all, fields(messages = ids.len()))]
    pub async fn look_up(&self, user: UserId, ids: &[MessageId]) -> Result<Lookup, ServerError> {
        const ACTION: &str = "cache.look_up";
        let mut reads = self.detail_steps(ids);
        let assumed = self.generation.last_epoch();
        reads.push(deletion::among_step(user, ids, &assumed));
        let (answers, epoch) = Box::pin(self.in_epoch(ACTION, reads)).await?;
        let mut answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut deleted = deletion::among(ids, answers.pop().unwrap_or(redis::Value::Nil))?;
        deleted.complete &= assumed == epoch.name();
        let details = self.read_details(ids, self.detail_values(answers)?).await?;
        Ok(Lookup { details, deleted, epoch })
    }

    /// The greatest length of a recent list: `IM_CONV_CACHE_SIZE`.
    pub fn conversation_size(&self) -> usize {
        self.conversation_size
    }
}
