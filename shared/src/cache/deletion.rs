//! `msg:deleted:{userId}`: the messages that a user hid from their own history (`docs/protocol.md`, R24).
//!
//! MySQL (`message_delete`) is the truth; the set may be missing or partial. A member that names the epoch
//! ([`super::epoch`]) says that the set is complete. The negative of an id says that its deletion was begun: MySQL
//! knows how it ended.

use std::collections::HashSet;

use redis::Value;

use super::connection::typed;
use super::epoch::{Epoch, complete_in};
use super::step::{Step, step};
use super::{Cache, index, keys};
use crate::error::ServerError;
use crate::id::{MessageId, UserId};

/// The set's answer about some ids.
#[derive(Debug)]
pub struct DeletedAmong {
    /// Ids that are certainly deleted.
    pub deleted: HashSet<MessageId>,
    /// Ids whose deletion was begun and not finished: MySQL must be asked.
    pub begun: Vec<MessageId>,
    /// True if all other ids are certainly not deleted.
    pub complete: bool,
}

/// The command that asks which of `ids` a user deleted, and whether the set is complete in `epoch`.
pub(super) fn among_step(user: UserId, ids: &[MessageId], epoch: &str) -> Step {
    let mut members = redis::cmd("SMISMEMBER");
    members.arg(keys::deleted(user)).arg(complete_in(epoch));
    for id in ids {
        members.arg(id.get()).arg(-id.get());
    }
    members.into()
}

/// Reads the answer to [`among_step`].
pub(super) fn among(ids: &[MessageId], answer: Value) -> Result<DeletedAmong, ServerError> {
    let members: Vec<bool> = typed("cache.deleted_among", answer)?;
    let (complete, members) = members.split_first().map_or((false, &[][..]), |(first, rest)| (*first, rest));
    let mut among = DeletedAmong { deleted: HashSet::new(), begun: Vec::new(), complete };
    for (id, members) in ids.iter().zip(members.chunks_exact(2)) {
        if members[0] {
            among.deleted.insert(*id);
        } else if members[1] {
            among.begun.push(*id);
        }
    }
    Ok(among)
}

impl Cache {
    /// Notes that a deletion is begun. Called before MySQL gets the deletion, so that the set never denies a deletion
    /// that MySQL has.
    pub async fn begin_deletion(&self, user: UserId, id: MessageId) -> Result<(), ServerError> {
        let steps = vec![
            step!("SADD", keys::deleted(user), -id.get()),
            step!("PEXPIRE", keys::deleted(user), self.expiry_ms),
        ];
        self.redis.batch("cache.begin_deletion", steps).await.map(drop)
    }

    /// Notes a deletion that MySQL has, and takes the id off the user's unread sets.
    pub async fn note_deleted(&self, user: UserId, id: MessageId) -> Result<(), ServerError> {
        // First the id, then the removal of its negative: in the other order the set would deny the deletion in
        // between.
        let noted = vec![step!("SADD", keys::deleted(user), id.get())];
        let rest = vec![
            step!("SREM", keys::deleted(user), -id.get()),
            step!("PEXPIRE", keys::deleted(user), self.expiry_ms),
            step!("SREM", keys::unread(user), id.get()),
            step!("ZREM", keys::unread_pending(user), index::member(id)),
        ];
        self.in_order("cache.note_deleted", noted, rest).await.map(drop)
    }

    /// Fills the set with all deletions that MySQL had after `epoch` was read, and marks it complete in that epoch.
    pub async fn fill_deleted(
        &self,
        user: UserId,
        all: &[MessageId],
        epoch: &Epoch,
    ) -> Result<(), ServerError> {
        let mut command = redis::cmd("SADD");
        command.arg(keys::deleted(user)).arg(complete_in(epoch.name()));
        for id in all {
            command.arg(id.get());
        }
        let steps = vec![command.into(), step!("PEXPIRE", keys::deleted(user), self.expiry_ms)];
        self.redis.batch("cache.fill_deleted", steps).await.map(drop)
    }
}
