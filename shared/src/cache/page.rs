//! What Redis has of a conversation: `msg:conv:{convId}`, the recent ids, newest first, a gapless newest part of the
//! conversation or nothing (`docs/protocol.md`, R18); and the ids that are not rows yet.
//!
//! The list is believed only while `msg:conv-epoch:{convId}` names the present epoch ([`super::epoch`]) and the list's oldest id.
//! A list that went and was begun anew by a send has another oldest id: a newer message may have become a row in between,
//! which that list lacks.

use super::connection::typed;
use super::deletion::{self, DeletedAmong};
use super::detail::Detail;
use super::epoch::Epoch;
use super::step::{Step, step};
use super::{Cache, index, keys};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};

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
    pub(super) length: usize,
    /// The ids of the part that are not rows yet, in its order; at most [`MOST_PENDING`].
    pub pending: Vec<MessageId>,
    /// The epoch in which the list was last known to be gapless, and its oldest id at that time.
    mark: Option<String>,
    /// The list's oldest id before and after the list was read.
    oldest: [Option<MessageId>; 2],
    /// Whether the list is as long as it may get, so that its oldest ids go as newer ones come.
    is_full: bool,
}

/// What Redis knows of some messages at one moment.
#[derive(Debug)]
pub struct Lookup {
    /// The messages, in the order of their ids.
    pub details: Vec<Detail>,
    /// Which of them the user has deleted.
    pub deleted: DeletedAmong,
    /// The epoch.
    pub epoch: Epoch,
}

impl Recent {
    /// Whether list and pending ids may be believed, with the details that they lead to.
    pub fn is_believed_in(&self, epoch: &Epoch) -> bool {
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
            Part::Before(before) => index::range_step(conversation, None, before, true, MOST_PENDING),
            Part::After(after) => index::range_step(conversation, Some(after), None, false, MOST_PENDING),
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
        let (answers, _) = tokio::join!(self.redis.batch(ACTION, reads), self.generation.current());
        let mut answers = answers?.into_iter();
        let mut next = || answers.next().unwrap_or(redis::Value::Nil);
        let (pending, mark): (Vec<String>, Option<String>) = (typed(ACTION, next())?, typed(ACTION, next())?);
        let before: Option<String> = typed(ACTION, next())?;
        let (listed, length): (Vec<String>, usize) = (typed(ACTION, next())?, typed(ACTION, next())?);
        let after: Option<String> = typed(ACTION, next())?;
        Ok(Recent {
            listed: index::ids(listed),
            length,
            pending: index::ids(pending),
            mark,
            oldest: [before, after].map(|id| id.and_then(|id| id.parse().ok())),
            is_full: length >= self.conversation_size,
        })
    }

    /// What Redis knows of each of these messages, which of them `user` has deleted, and the epoch that all of it is of.
    /// One round trip.
    #[tracing::instrument(name = "cache.look_up", skip_all, fields(messages = ids.len()))]
    pub async fn look_up(&self, user: UserId, ids: &[MessageId]) -> Result<Lookup, ServerError> {
        const ACTION: &str = "cache.look_up";
        let mut reads: Vec<Step> = ids.iter().map(|&id| step!("GET", keys::detail(id))).collect();
        let assumed = self.generation.last_epoch();
        reads.push(deletion::among_step(user, ids, &assumed));
        let (answers, epoch) = Box::pin(self.in_epoch(ACTION, reads)).await?;
        let mut answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut deleted = deletion::among(ids, answers.pop().unwrap_or(redis::Value::Nil))?;
        deleted.complete &= assumed == epoch.name();
        Ok(Lookup { details: self.read_details(ids, answers).await?, deleted, epoch })
    }

    /// The most ids that a list keeps.
    pub fn conversation_size(&self) -> usize {
        self.conversation_size
    }
}
