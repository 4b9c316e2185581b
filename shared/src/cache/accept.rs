//! Accepting a send: writes the detail, the indexes that lead to it, and the entry for the compensator
//! (`docs/protocol.md`, R4).

use super::connection::typed;
use super::detail::{RECALLED_HEAD, to_json};
use super::index::{self, take_off_steps};
use super::settle::Pending;
use super::step::step;
use super::{Cache, keys};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::message::Message;

/// A message younger than this may begin a conversation's list, ms. Redis needs longer than this to lose a message that
/// is newer than it.
const FRESH_MS: TimestampMs = 2_000;

/// The outcome of [`Cache::accept`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Redis has the message.
    Kept,
    /// A message with this id was accepted and recalled before. Nobody may be shown the message.
    Recalled,
}

impl Cache {
    /// Accepts a new message, in one round trip. `now` is the time in ms.
    ///
    /// The pending indexes are written first, so Redis never holds a message that neither the compensator nor a page
    /// can find. Then follow the detail (without TTL), the recent list and the receiver's unread sets.
    ///
    /// A fresh message begins the conversation's list where there is none. A message that was held up on its way does
    /// not: newer messages may have overtaken it, and the list would lack them.
    #[tracing::instrument(name = "cache.send", skip_all, fields(message_id = %message.id))]
    pub async fn accept(&self, message: &Message, now: TimestampMs) -> Result<Accepted, ServerError> {
        const ACTION: &str = "cache.send";
        let (conversation, id) = (message.conversation(), message.id);
        let entry = Pending::sent(message);
        let mode = if now.saturating_sub(message.send_time) < FRESH_MS { "create" } else { "heal" };
        let first = vec![
            step!("ZADD", self.shard(conversation), "NX", entry.score, id.get()),
            step!("ZADD", keys::conversation_pending(conversation), 0, index::member(id)),
        ];
        let rest = vec![
            step!("SET", keys::detail(id), to_json(message)?, "NX"),
            self.insert_step(conversation, id, mode),
            step!("SADD", keys::unread(message.to), id.get()),
            step!("PEXPIRE", keys::unread(message.to), self.expiry_ms),
            step!("ZADD", keys::unread_pending(message.to), 0, index::member(id)),
            step!("ZADD", keys::sent_pending(message.from), 0, index::member(id)),
            step!("GETRANGE", keys::detail(id), 0, RECALLED_HEAD.len() - 1),
        ];
        match self.in_order(ACTION, first, rest).await {
            Ok(mut answers) => {
                let head: String = typed(ACTION, answers.pop().unwrap_or(redis::Value::Nil))?;
                if head != RECALLED_HEAD {
                    return Ok(Accepted::Kept);
                }
                // An equal send was accepted and recalled before: remove the index entries that this send has just
                // added.
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

    /// Cleans up after a send that failed because a node of the cluster was away. The consumer restores the indexes of
    /// a message only if the detail is missing, so the detail is removed. If its own node is the one that is away,
    /// there is no detail to remove.
    async fn give_up(&self, message: &Message) {
        let forget = step!("DEL", keys::detail(message.id));
        if let Err(error) = self.redis.run::<i64>("cache.send", forget).await {
            tracing::debug!(%error, "cache.send: the detail of a refused message is not removed; its node is away");
        }
    }
}
