//! Accepting a send: the message, its place among what is recent and what is unread, and the note for the compensator
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

/// How old a message may be to begin a conversation's list: less than it takes Redis to lose a newer one.
const FRESH_MS: TimestampMs = 2_000;

/// What [`Cache::accept`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Redis has the message.
    Kept,
    /// The message of this id was accepted before and has been recalled: nobody is to be shown it.
    Recalled,
}

impl Cache {
    /// Takes a new message in. One round trip.
    ///
    /// The indexes of what is pending come first, so that Redis can hold no message that the compensator and the pages
    /// do not see; then the detail without TTL, its place in the conversation, the receiver's unread.
    ///
    /// A message just made begins the conversation's list where there is none. One that was held up on its way does
    /// not: newer ones may have gone past it, and a list begun with it would lack them. `now` is the time, ms.
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
            step!("GETRANGE", keys::detail(id), 0, RECALLED_HEAD.len() - 1),
        ];
        match self.in_order(ACTION, first, rest).await {
            Ok(mut answers) => {
                let head: String = typed(ACTION, answers.pop().unwrap_or(redis::Value::Nil))?;
                if head != RECALLED_HEAD {
                    return Ok(Accepted::Kept);
                }
                // A twin of this send was accepted and recalled before: take back what this one has just added.
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

    /// One node of the cluster was away, so the message is not accepted here. The consumer puts back what Redis lacks of
    /// a message, but looks only for its detail: so the detail goes. Should its node be the one that is away, the detail
    /// is missing anyway.
    async fn give_up(&self, message: &Message) {
        let forget = step!("DEL", keys::detail(message.id));
        if let Err(error) = self.redis.run::<i64>("cache.send", forget).await {
            tracing::debug!(%error, "the detail of a message that was refused is away as well");
        }
    }
}
