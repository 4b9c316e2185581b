//! `msg:deleted:{userId}`: what a user hid from their own history. MySQL (`message_delete`) is the truth; the set may be
//! missing or partial, and says with the member `0` that it holds everything. The negative of an id says that its deletion
//! was begun, and that MySQL must be asked how it ended.

use std::collections::HashSet;

use super::memory::Read;
use super::redis::typed;
use super::{Cache, keys, step, unpersisted};
use crate::error::ServerError;
use crate::id::{MessageId, UserId};

/// No message has this id: it marks a set as complete.
const COMPLETE: i64 = 0;

/// What the set says of some ids.
#[derive(Debug)]
pub struct DeletedAmong {
    /// Those of the ids that are certainly deleted.
    pub deleted: HashSet<MessageId>,
    /// Those whose deletion was begun: MySQL knows how it ended.
    pub in_doubt: Vec<MessageId>,
    /// Whether all others are certainly not.
    pub complete: bool,
}

impl Cache {
    /// Which of `ids` this user deleted, as far as Redis knows. One round trip.
    pub async fn deleted_among(&self, user: UserId, ids: &[MessageId]) -> Result<DeletedAmong, ServerError> {
        let mut members = Read::new("SMISMEMBER", keys::deleted(user)).arg(COMPLETE);
        for id in ids {
            members = members.arg(id.get()).arg(-id.get());
        }
        let members: Vec<bool> = self.untorn_one("cache.deleted_among", members).await?;
        let (complete, members) =
            members.split_first().map_or((false, &[][..]), |(first, rest)| (*first, rest));
        let mut among = DeletedAmong { deleted: HashSet::new(), in_doubt: Vec::new(), complete };
        for (id, members) in ids.iter().zip(members.chunks_exact(2)) {
            if members[0] {
                among.deleted.insert(*id);
            } else if members[1] {
                among.in_doubt.push(*id);
            }
        }
        Ok(among)
    }

    /// Notes, before MySQL is told, that a deletion was begun. Whatever becomes of it, no set vouches for it any more: not
    /// that of the deleted, nor that of the unread if it has the message.
    pub async fn begin_deletion(&self, user: UserId, id: MessageId) -> Result<(), ServerError> {
        const ACTION: &str = "cache.begin_deletion";
        let steps = vec![
            step!("SADD", keys::deleted(user), -id.get()),
            step!("PEXPIRE", keys::deleted(user), self.expiry_ms),
            step!("SISMEMBER", keys::unread(user), id.get()),
        ];
        let unread = self.redis.batch(ACTION, steps).await?.pop().unwrap_or(::redis::Value::Nil);
        if typed(ACTION, unread)? { self.doubt_unread(user).await.map(drop) } else { Ok(()) }
    }

    /// Notes a deletion that MySQL has, and takes the id off the user's unread.
    pub async fn note_deleted(&self, user: UserId, id: MessageId) -> Result<(), ServerError> {
        // The doubt goes only once the deletion is there: in between the set would deny it.
        let noted = vec![step!("SADD", keys::deleted(user), id.get())];
        let rest = vec![
            step!("SREM", keys::deleted(user), -id.get()),
            step!("PEXPIRE", keys::deleted(user), self.expiry_ms),
            step!("SREM", keys::unread(user), id.get()),
            step!("ZREM", keys::unread_pending(user), unpersisted::member(id)),
        ];
        self.in_order("cache.note_deleted", noted, rest).await.map(drop)
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
