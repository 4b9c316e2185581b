//! `msg:client:{userId}:{clientMsgId}`: what a sender's own name for a message stands for, for 30 minutes. For good it
//! is a unique key in MySQL (`protocol.md`, "Retrying is always safe").

use sha2::{Digest, Sha256};

use super::detail::unless_full;
use super::redis::typed;
use super::{Cache, keys, step};
use crate::error::ServerError;
use crate::id::{MessageId, UserId};
use crate::message::{ClientMessageId, Message, MessageType};

/// What a send says, in few bytes: the same for a retry, another for anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of a message to `to` with this kind and content.
    pub fn of(to: UserId, kind: MessageType, content: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(to.get().to_be_bytes());
        hash.update([u8::from(kind)]);
        hash.update(content.as_bytes());
        let digest = hash.finalize();
        let bits = digest.iter().take(16).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        Self(format!("{bits:032x}"))
    }
}

/// What a `clientMsgId` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// For the id that was offered now.
    New,
    /// For this message, sent before by the same request.
    Same(MessageId),
    /// For another request's message.
    Other,
}

impl Cache {
    /// Claims `client_msg_id` for the message `id`, unless it stands for one already. One round trip.
    pub async fn claim(
        &self,
        from: UserId,
        client_msg_id: &ClientMessageId,
        id: MessageId,
        fingerprint: &Fingerprint,
    ) -> Result<Claim, ServerError> {
        let key = keys::client_message(from, client_msg_id);
        let claim = step!("SET", &key, format!("{id}:{}", fingerprint.0), "NX", "PX", self.expiry_ms);
        let mut values = self.in_order("cache.claim", vec![claim], vec![step!("GET", &key)]).await?;
        let held: Option<String> = typed("cache.claim", values.swap_remove(1))?;
        let held = held.as_deref().and_then(|held| held.split_once(':'));
        Ok(match held.and_then(|(held_id, print)| Some((held_id.parse::<MessageId>().ok()?, print))) {
            Some((held_id, _)) if held_id == id => Claim::New,
            Some((held_id, print)) if print == fingerprint.0 => Claim::Same(held_id),
            Some(_) => Claim::Other,
            // It expired between the two commands, which takes 30 minutes: as good as new.
            None => Claim::New,
        })
    }

    /// Points a sender's `clientMsgId` to the message that MySQL keeps for it.
    pub async fn repoint_claim(&self, retry: &Message, first: MessageId) -> Result<(), ServerError> {
        let Some(client_msg_id) = &retry.client_msg_id else {
            return Ok(());
        };
        let fingerprint = Fingerprint::of(retry.to, retry.kind, &retry.content);
        let key = keys::client_message(retry.from, client_msg_id);
        let value = format!("{first}:{}", fingerprint.0);
        let set = step!("SET", key, value, "PX", self.expiry_ms);
        unless_full(self.redis.run::<()>("cache.repoint_claim", set).await)
    }
}
