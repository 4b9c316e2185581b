//! `msg:deleted:{userId}`: what a user hid from their own history. MySQL (`message_delete`) is the truth; the set may be
//! missing or partial, and says with the member `0` that it holds everything.

use std::collections::HashSet;

use super::{Cache, keys, step};
use crate::error::ServerError;
use crate::id::{MessageId, UserId};

/// No message has this id: it marks a set as complete.
const COMPLETE: i64 = 0;

/// What the set says of some ids.
#[derive(Debug)]
pub struct DeletedAmong {
    /// Those of the ids that are certainly deleted.
    pub deleted: HashSet<MessageId>,
    /// Whether all others are certainly not.
    pub complete: bool,
}

impl Cache {
    /// Which of `ids` this user deleted, as far as Redis knows. One round trip.
    pub async fn deleted_among(&self, user: UserId, ids: &[MessageId]) -> Result<DeletedAmong, ServerError> {
        let mut command = ::redis::cmd("SMISMEMBER");
        command.arg(keys::deleted(user)).arg(COMPLETE);
        for id in ids {
            command.arg(id.get());
        }
        let members: Vec<bool> = self.redis.run("cache.deleted_among", command).await?;
        let deleted =
            ids.iter().zip(members.iter().skip(1)).filter(|(_, member)| **member).map(|(id, _)| *id);
        Ok(DeletedAmong { deleted: deleted.collect(), complete: members.first().copied().unwrap_or(false) })
    }

    /// Notes a deletion that MySQL has, and takes the id off the user's unread.
    pub async fn note_deleted(&self, user: UserId, id: MessageId) -> Result<(), ServerError> {
        let steps = vec![
            step!("SADD", keys::deleted(user), id.get()),
            step!("PEXPIRE", keys::deleted(user), self.expiry_ms),
            step!("SREM", keys::unread(user), id.get()),
        ];
        self.redis.batch("cache.note_deleted", steps).await.map(drop)
    }

    /// Fills the set with all that MySQL has, and marks it complete.
    pub async fn fill_deleted(&self, user: UserId, all: &[MessageId]) -> Result<(), ServerError> {
        let mut command = ::redis::cmd("SADD");
        command.arg(keys::deleted(user)).arg(COMPLETE);
        for id in all {
            command.arg(id.get());
        }
        let steps = vec![command.into(), step!("PEXPIRE", keys::deleted(user), self.expiry_ms)];
        self.redis.batch("cache.fill_deleted", steps).await.map(drop)
    }
}
