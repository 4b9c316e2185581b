//! Reaching clients over WebSocket: who is connected (in Redis), and the `@connections` call of API Gateway, which the
//! local gateway serves as well (`contract.md`, "WebSocket").
//!
//! A push is best effort: the truth is the history. So nothing here fails its caller; what went wrong is logged.

mod callback;
mod registry;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use url::Url;

use crate::cache::redis::Redis;
use crate::clock::TimestampMs;
use crate::config::PushConfig;
use crate::error::ServerError;
use crate::http::MessageView;
use crate::id::{ConversationId, MessageId, UserId};
use crate::telemetry::metric;
use callback::{Callback, Delivery};
use registry::Registry;

/// The longest that a push may keep its caller, all connections of the user together.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// What a client is told. As JSON it is the form of `contract.md`.
#[derive(Debug)]
pub enum PushEvent {
    /// A message for this user.
    Message(Box<MessageView>),
    /// The sender took a message back.
    MessageRecalled {
        /// Which message.
        message_id: MessageId,
        /// Its conversation.
        conversation_id: ConversationId,
        /// When it was recalled, ms since 1970 UTC.
        recall_time: TimestampMs,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
enum Wire<'a> {
    Message { data: &'a MessageView },
    MessageRecalled { message_id: String, conversation_id: ConversationId, recall_time: TimestampMs },
}

impl Serialize for PushEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Message(data) => Wire::Message { data },
            &Self::MessageRecalled { message_id, conversation_id, recall_time } => {
                Wire::MessageRecalled { message_id: message_id.to_string(), conversation_id, recall_time }
            }
        }
        .serialize(serializer)
    }
}

/// Who is connected, and how they are reached. Cheap to clone.
#[derive(Clone)]
pub struct Push {
    registry: Registry,
    callback: Callback,
    endpoint: Option<Url>,
}

impl Push {
    /// Prepares the client; nothing is opened yet.
    pub fn new(config: &PushConfig, redis: Redis) -> Self {
        Self { registry: Registry::new(redis), callback: Callback::new(), endpoint: config.endpoint.clone() }
    }

    /// Remembers that `connection` is one of this user's.
    pub async fn connected(&self, user: UserId, connection: &str) -> Result<(), ServerError> {
        self.registry.add(user, connection).await
    }

    /// Forgets `connection`. One that is not known is no error.
    pub async fn disconnected(&self, connection: &str) -> Result<(), ServerError> {
        match self.registry.user_of(connection).await? {
            Some(user) => self.registry.remove(user, connection).await,
            None => Ok(()),
        }
    }

    /// Whose connection it is, if it is known.
    pub async fn user_of(&self, connection: &str) -> Result<Option<UserId>, ServerError> {
        self.registry.user_of(connection).await
    }

    /// Tells every connection of `user`, all at the same time, and comes back after a second at the latest. Without
    /// `PUSH_ENDPOINT` nobody is told.
    #[tracing::instrument(name = "push.to_user", skip_all, fields(user = %user))]
    pub async fn to_user(&self, user: UserId, event: &PushEvent) {
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        if tokio::time::timeout(TIME_LIMIT, self.tell_all(endpoint, user, event)).await.is_err() {
            metrics::counter!(metric::PUSHES, "outcome" => "late").increment(1);
            tracing::warn!(
                "push.to_user: not all connections were reached within 1 s; they catch up from the history"
            );
        }
    }

    async fn tell_all(&self, endpoint: &Url, user: UserId, event: &PushEvent) {
        let connections = match self.registry.connections(user).await {
            Ok(connections) => connections,
            Err(error) => {
                metrics::counter!(metric::PUSHES, "outcome" => "failed").increment(1);
                tracing::warn!(%error, "push.to_user: connections are not known; the user catches up from the history");
                return;
            }
        };
        if connections.is_empty() {
            return;
        }
        let body = match serde_json::to_vec(event) {
            Ok(body) => Bytes::from(body),
            Err(error) => {
                tracing::error!(%error, "push.to_user: the event does not become JSON; this is a fault of ours");
                return;
            }
        };
        let mut told: FuturesUnordered<_> = connections
            .iter()
            .map(|connection| self.tell(endpoint, user, connection, body.clone()))
            .collect();
        while told.next().await.is_some() {}
    }

    async fn tell(&self, endpoint: &Url, user: UserId, connection: &str, body: Bytes) {
        let outcome = match self.callback.post(endpoint, connection, body).await {
            Ok(Delivery::Done) => "delivered",
            Ok(Delivery::Gone) => {
                if let Err(error) = self.registry.remove(user, connection).await {
                    tracing::warn!(%connection, %error, "push.forget: the connection is gone but stays remembered");
                }
                "gone"
            }
            Err(failure) => {
                tracing::warn!(%connection, status = failure.status(), error = %failure,
                    "push.tell: not delivered; the user catches up from the history");
                "failed"
            }
        };
        metrics::counter!(metric::PUSHES, "outcome" => outcome).increment(1);
    }

    /// Closes `connection` from this side, so that its client connects again. `own_endpoint` is used where
    /// `PUSH_ENDPOINT` is not set: a WebSocket function learns it from its event.
    pub async fn close(&self, own_endpoint: Option<&Url>, connection: &str) {
        let Some(endpoint) = self.endpoint.as_ref().or(own_endpoint) else {
            tracing::warn!(%connection, "push.close: PUSH_ENDPOINT is not set; the connection stays open");
            return;
        };
        let closed = tokio::time::timeout(TIME_LIMIT, self.callback.delete(endpoint, connection)).await;
        match closed {
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => {
                tracing::warn!(%connection, status = failure.status(), error = %failure, "push.close: not closed");
            }
            Err(_) => tracing::warn!(%connection, "push.close: not closed within 1 s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, MessageType};

    #[test]
    fn events_have_the_form_of_the_contract() {
        let id = MessageId::new(9_007_199_254_740_993).unwrap();
        let (from, to) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        let message = Message::new(id, from, to, MessageType::TEXT, "你好".to_owned(), None);
        let event = PushEvent::Message(Box::new(message.into()));
        let json: serde_json::Value = serde_json::to_value(&event).unwrap();
        assert_eq!(json["type"], "MESSAGE");
        assert_eq!(json["data"]["id"], "9007199254740993");
        assert_eq!(json["data"]["content"], "你好");

        let event = PushEvent::MessageRecalled {
            message_id: id,
            conversation_id: ConversationId::between(from, to).unwrap(),
            recall_time: 1_732_723_200_000,
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"type":"MESSAGE_RECALLED","messageId":"9007199254740993","conversationId":"1_2","recallTime":1732723200000}"#
        );
    }
}
