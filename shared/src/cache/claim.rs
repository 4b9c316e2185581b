//! `msg:client:{userId}:{clientMsgId}`: the message that a sender's own name stands for, kept for 30 minutes. MySQL
//! keeps names for good, by a unique key (`docs/protocol.md`, R5).

use super::connection::{typed, unless_full};
use super::step::step;
use super::{Cache, keys, scripts};
use crate::error::ServerError;
use crate::id::{MessageId, UserId};
use crate::message::{ClientMessageId, Fingerprint};

/// The message that a `clientMsgId` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The id that was offered now: nobody had claimed the name.
    New,
    /// An earlier message, whose send had the same fingerprint: this send is a retry.
    Same(MessageId),
    /// An earlier message with another fingerprint: the name is taken.
    Other,
}

impl Cache {
    /// Claims `client_msg_id` for the message `id`, unless the name is claimed already. One round trip.
    pub async fn claim(
        &self,
        from: UserId,
        client_msg_id: &ClientMessageId,
        id: MessageId,
        fingerprint: &Fingerprint,
    ) -> Result<Claim, ServerError> {
        let key = keys::client_message(from, client_msg_id);
        let claim = step!("SET", &key, format!("{id}:{fingerprint}"), "NX", "PX", self.expiry_ms);
        let mut values = self.in_order("cache.claim", vec![claim], vec![step!("GET", &key)]).await?;
        let held: Option<String> = typed("cache.claim", values.swap_remove(1))?;
        let held = held.as_deref().and_then(|held| held.split_once(':'));
        Ok(match held.and_then(|(held_id, print)| Some((held_id.parse::<MessageId>().ok()?, print))) {
            Some((held_id, _)) if held_id == id => Claim::New,
            Some((held_id, print)) if print == fingerprint.to_string() => Claim::Same(held_id),
            Some(_) => Claim::Other,
            // The other claim expired between the two commands, which takes 30 minutes. The name is free.
            None => Claim::New,
        })
    }

    /// Gives up the claim of a send that was refused after all. Another try of the send may have finished it meanwhile under the
    /// same id: then MySQL recognises the next retry.
    pub async fn give_up_claim(
        &self,
        from: UserId,
        client_msg_id: &ClientMessageId,
        id: MessageId,
        fingerprint: &Fingerprint,
    ) -> Result<(), ServerError> {
        let key = keys::client_message(from, client_msg_id);
        let held = format!("{id}:{fingerprint}");
        self.redis.run("cache.give_up_claim", scripts::EXCHANGE.on(key, vec![held, String::new()])).await
    }

    /// Points a sender's `clientMsgId` at the message that MySQL has for it, with the fingerprint of that send.
    pub async fn repoint_claim(
        &self,
        from: UserId,
        client_msg_id: &ClientMessageId,
        first: MessageId,
        fingerprint: &Fingerprint,
    ) -> Result<(), ServerError> {
        let key = keys::client_message(from, client_msg_id);
        let set = step!("SET", key, format!("{first}:{fingerprint}"), "PX", self.expiry_ms);
        unless_full(self.redis.run::<()>("cache.repoint_claim", set).await)
    }
}
