//! `msg:cleared:{userId}:{convId}`: how far a user has cleared a conversation (`docs/protocol.md`, R24).
//!
//! MySQL (`conversation`) is the truth; the set may be missing or partial. Its greatest id is a clearing that MySQL has. A
//! member that names the epoch ([`super::epoch`]) says that there is no later one. The negative of an id says that its
//! clearing was begun: MySQL knows how it ended.

use super::connection::typed;
use super::epoch::{COMPLETE, Epoch, complete_in};
use super::step::{Step, step};
use super::{Cache, keys};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};
use crate::store::Cleared;

/// The members of the set, as they were read.
#[derive(Debug, Default)]
pub struct Clearing {
    done: Vec<MessageId>,
    begun: Vec<MessageId>,
    /// The members that name an epoch.
    epochs: Vec<String>,
}

impl Clearing {
    pub(super) fn of(members: Vec<String>) -> Self {
        let mut clearing = Self::default();
        for member in members {
            if member.starts_with(COMPLETE) {
                clearing.epochs.push(member);
            } else if let Some(begun) = member.strip_prefix('-') {
                clearing.begun.extend(begun.parse::<MessageId>().ok());
            } else {
                clearing.done.extend(member.parse::<MessageId>().ok());
            }
        }
        clearing
    }

    /// A clearing that MySQL certainly has. There may be a later one.
    pub fn at_least(&self) -> Cleared {
        self.done.iter().max().map_or_else(Cleared::default, |id| Cleared::up_to(*id))
    }

    /// The clearing as the user wants it: with those that were begun.
    pub fn at_most(&self) -> Cleared {
        let begun = self.begun.iter().max().map_or_else(Cleared::default, |id| Cleared::up_to(*id));
        begun.max(self.at_least())
    }

    /// True if the set had every clearing of MySQL in this epoch, apart from those that were begun.
    pub fn is_complete_in(&self, epoch: &Epoch) -> bool {
        self.epochs.contains(&complete_in(epoch.name()))
    }

    /// The clearing, if Redis knows it in this epoch; `None` if MySQL must be asked.
    pub fn known_in(&self, epoch: &Epoch) -> Option<Cleared> {
        (self.is_complete_in(epoch) && self.at_most() == self.at_least()).then(|| self.at_least())
    }

    /// The members that say nothing any more beside `cleared`.
    fn idle_beside(&self, cleared: Cleared) -> Vec<String> {
        let done = self.done.iter().filter(|id| cleared.hides(**id) && Some(**id) != cleared.last());
        let begun = self.begun.iter().filter(|id| cleared.hides(**id));
        done.map(ToString::to_string).chain(begun.map(|id| format!("-{id}"))).collect()
    }
}

/// The command that reads the set.
pub(super) fn read_step(user: UserId, conversation: ConversationId) -> Step {
    step!("SMEMBERS", keys::cleared(user, conversation))
}

impl Cache {
    /// How far the user has cleared the conversation as Redis knows it, and the epoch.
    pub async fn clearing(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<(Clearing, Epoch), ServerError> {
        const ACTION: &str = "cache.clearing";
        let (mut answers, epoch) =
            Box::pin(self.in_epoch(ACTION, vec![read_step(user, conversation)])).await?;
        Ok((Clearing::of(typed(ACTION, answers.swap_remove(0)?)?), epoch))
    }

    /// Notes that a clearing is begun. Called before MySQL gets the clearing, so that the set never denies a clearing
    /// that MySQL has.
    pub async fn begin_clearing(
        &self,
        user: UserId,
        conversation: ConversationId,
        up_to: MessageId,
    ) -> Result<(), ServerError> {
        let key = keys::cleared(user, conversation);
        let steps = vec![step!("SADD", &key, -up_to.get()), step!("PEXPIRE", &key, self.expiry_ms)];
        self.redis.batch("cache.begin_clearing", steps).await.map(drop)
    }

    /// Notes a clearing that MySQL has, and drops `msg:unread:{userId}`, which has ids that are hidden now.
    pub async fn note_cleared(
        &self,
        user: UserId,
        conversation: ConversationId,
        up_to: MessageId,
    ) -> Result<(), ServerError> {
        const ACTION: &str = "cache.note_cleared";
        let key = keys::cleared(user, conversation);
        let noted = vec![step!("SADD", &key, up_to.get())];
        let rest = vec![
            read_step(user, conversation),
            step!("PEXPIRE", &key, self.expiry_ms),
            step!("UNLINK", keys::unread(user)),
        ];
        let mut answers = self.in_order(ACTION, noted, rest).await?;
        // The set stays small however often the user clears.
        let clearing = Clearing::of(typed(ACTION, answers.swap_remove(1))?);
        self.remove_cleared(&key, clearing.idle_beside(clearing.at_least())).await
    }

    /// Brings to Redis what MySQL had after `epoch` was read. `known` is what Redis had before.
    pub async fn fill_cleared(
        &self,
        user: UserId,
        conversation: ConversationId,
        known: &Clearing,
        cleared: Cleared,
        epoch: &Epoch,
    ) -> Result<(), ServerError> {
        let key = keys::cleared(user, conversation);
        let complete = complete_in(epoch.name());
        let mut fill = redis::cmd("SADD");
        fill.arg(&key).arg(&complete);
        if let Some(last) = cleared.last() {
            fill.arg(last.get());
        }
        let steps = vec![Step::from(fill), step!("PEXPIRE", &key, self.expiry_ms)];
        self.redis.batch("cache.fill_cleared", steps).await?;
        let mut idle = known.idle_beside(cleared);
        idle.extend(known.epochs.iter().filter(|epoch| **epoch != complete).cloned());
        self.remove_cleared(&key, idle).await
    }

    async fn remove_cleared(&self, key: &str, members: Vec<String>) -> Result<(), ServerError> {
        if members.is_empty() {
            return Ok(());
        }
        self.redis.run::<i64>("cache.cleared", step!("SREM", key, members)).await.map(drop)
    }
}
