//! `msg:unread:{userId}`: what a user has not read. Derived: MySQL's read positions can make it anew
//! (`protocol.md`, "Unread is derived"). A mark beside it says that it was made complete since Redis' last loss.

use rand::Rng as _;

use super::epoch::Epoch;
use super::redis::typed;
use super::{Cache, keys, scripts, step, unpersisted};
use crate::error::ServerError;
use crate::id::{MessageId, UserId};

/// What the mark holds if the set was complete in `epoch`; else whose doubt it is.
fn complete_in(epoch: &Epoch) -> String {
    format!("1:{}", epoch.name())
}

/// Whoever changes a set, or makes it anew, has this until that is done.
#[derive(Debug)]
pub struct Doubt {
    name: String,
    epoch: Epoch,
    /// Whether the set was complete before.
    pub was_complete: bool,
}

/// What Redis knows of a user's unread messages.
#[derive(Debug)]
pub struct Unread {
    /// Whether the set is known to hold all of them.
    pub complete: bool,
    /// How many it holds.
    pub total: u64,
}

impl Cache {
    /// How many messages this user has not read, as far as Redis knows.
    pub async fn unread(&self, user: UserId) -> Result<Unread, ServerError> {
        const ACTION: &str = "cache.unread";
        let reads = vec![step!("GET", keys::unread_complete(user)), step!("SCARD", keys::unread(user))];
        let (answers, epoch) = self.in_epoch(ACTION, reads).await?;
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(::redis::Value::Nil));
        let mark: Option<String> = typed(ACTION, next()?)?;
        Ok(Unread { complete: mark == Some(complete_in(&epoch)), total: typed(ACTION, next()?)? })
    }

    /// The newest `limit` unread ids, newest first.
    pub async fn unread_ids(&self, user: UserId, limit: usize) -> Result<Vec<MessageId>, ServerError> {
        // By text, since Redis would sort numbers as doubles; ids of one length sort alike either way, and a shorter id
        // is years older.
        let sort = step!("SORT", keys::unread(user), "ALPHA", "DESC", "LIMIT", 0, limit);
        let ids: Vec<i64> = self.redis.run("cache.unread_ids", sort).await?;
        Ok(ids.into_iter().filter_map(|id| MessageId::new(id).ok()).collect())
    }

    /// Takes ids off all that Redis holds of a user's unread.
    pub async fn remove_unread(&self, user: UserId, ids: &[MessageId]) -> Result<(), ServerError> {
        if ids.is_empty() {
            return Ok(());
        }
        let (mut unread, mut pending) = (::redis::cmd("SREM"), ::redis::cmd("ZREM"));
        unread.arg(keys::unread(user));
        pending.arg(keys::unread_pending(user));
        for &id in ids {
            unread.arg(id.get());
            pending.arg(unpersisted::member(id));
        }
        self.redis.batch("cache.remove_unread", vec![unread, pending]).await.map(drop)
    }

    /// Adds ids to a user's unread set.
    pub async fn add_unread(&self, user: UserId, ids: &[MessageId]) -> Result<(), ServerError> {
        self.change_unread("SADD", user, ids).await
    }

    /// Puts in doubt that the set is complete, before MySQL is told or asked what changes it: should the change of the set
    /// fail, it is made anew.
    pub async fn doubt_unread(&self, user: UserId) -> Result<Doubt, ServerError> {
        const ACTION: &str = "cache.doubt_unread";
        let name = format!("{:032x}", rand::rng().random::<u128>());
        let doubt = step!("SET", keys::unread_complete(user), &name, "GET");
        let (mut answers, epoch) = self.in_epoch(ACTION, vec![doubt]).await?;
        let before: Option<String> = typed(ACTION, answers.swap_remove(0)?)?;
        let was_complete = before == Some(complete_in(&epoch));
        Ok(Doubt { name, epoch, was_complete })
    }

    /// Notes that the set is complete, unless Redis has lost its memory or somebody else has put it in doubt since `doubt`.
    pub async fn note_unread_complete(&self, user: UserId, doubt: Doubt) -> Result<(), ServerError> {
        let vouch =
            scripts::VOUCH.on(keys::unread_complete(user), vec![doubt.name, complete_in(&doubt.epoch)]);
        self.redis.run::<i64>("cache.note_unread_complete", vouch).await.map(drop)
    }

    async fn change_unread(
        &self,
        command: &'static str,
        user: UserId,
        ids: &[MessageId],
    ) -> Result<(), ServerError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut change = ::redis::cmd(command);
        change.arg(keys::unread(user));
        for id in ids {
            change.arg(id.get());
        }
        self.redis.run::<i64>("cache.change_unread", change).await.map(drop)
    }
}
