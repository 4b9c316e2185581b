//! Pushes to clients over WebSocket: the registry of connections in Redis, and the `@connections` call of API Gateway,
//! which the local gateway serves too (`docs/contract.md`, "WebSocket").
//!
//! A push is best effort, since clients catch up from the changes. So no push fails its caller; faults are logged.

mod callback;
mod endpoint;
mod registry;

use std::cmp::Reverse;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use crate::cache::connection::Redis;
use crate::clock::{Clock, TimestampMs};
use crate::config::PushConfig;
use crate::error::ServerError;
use crate::http::MessageView;
use crate::id::{ConversationId, MessageId, UserId};
use crate::message::Message;
use crate::telemetry::metric;
use crate::trace;
use callback::{Callback, Delivery};
use registry::{Registration, Registry};

/// The longest that a push may delay its caller, for all connections of the user together.
const TIME_LIMIT: Duration = Duration::from_secs(1);
/// The most connections that one push reaches.
const MAX_REACHED: usize = 100;
/// The most bytes of one message that API Gateway sends to a connection.
const MAX_EVENT_BYTES: usize = 128 * 1024;
/// How long after a registration API Gateway may answer 410 for an open connection, because `$connect` has not returned
/// yet.
const YOUNG_MS: TimestampMs = 5_000;
/// The close code of a connection that gives way to a newer one of its user.
pub const SUPERSEDED: u16 = 4409;
/// The pauses before the next tries for such a connection, all within [`TIME_LIMIT`].
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(400)];

/// A push. Its JSON is described in `docs/contract.md`, "WebSocket".
#[derive(Debug)]
pub enum PushEvent {
    /// A message to this user.
    Message(Box<MessageView>),
    /// A message was recalled.
    MessageRecalled {
        /// The message.
        message_id: MessageId,
        /// The message's conversation.
        conversation_id: ConversationId,
        /// The time of the recall, ms since 1970 UTC.
        recall_time: TimestampMs,
    },
    /// A user's read position moved.
    Read {
        /// The conversation.
        conversation_id: ConversationId,
        /// The user whose position moved.
        user_id: UserId,
        /// The new position: every message up to this one is read.
        up_to: MessageId,
    },
    /// This user hid a message from their own history.
    MessageDeleted {
        /// The message.
        message_id: MessageId,
        /// The message's conversation.
        conversation_id: ConversationId,
    },
    /// A user is typing to this one.
    Typing {
        /// The conversation.
        conversation_id: ConversationId,
        /// The user who is typing.
        from_user_id: UserId,
    },
    /// This user cleared a conversation.
    ConversationCleared {
        /// The conversation.
        conversation_id: ConversationId,
        /// Every message up to this one is hidden.
        up_to: MessageId,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
enum Wire<'a> {
    Message { data: &'a MessageView },
    MessageRecalled { message_id: String, conversation_id: ConversationId, recall_time: TimestampMs },
    Read { conversation_id: ConversationId, user_id: String, up_to: String },
    MessageDeleted { message_id: String, conversation_id: ConversationId },
    ConversationCleared { conversation_id: ConversationId, up_to: String },
    Typing { conversation_id: ConversationId, from_user_id: String },
}

impl Serialize for PushEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Message(data) => Wire::Message { data },
            &Self::MessageRecalled { message_id, conversation_id, recall_time } => {
                Wire::MessageRecalled { message_id: message_id.to_string(), conversation_id, recall_time }
            }
            &Self::Read { conversation_id, user_id, up_to } => {
                Wire::Read { conversation_id, user_id: user_id.to_string(), up_to: up_to.to_string() }
            }
            &Self::MessageDeleted { message_id, conversation_id } => {
                Wire::MessageDeleted { message_id: message_id.to_string(), conversation_id }
            }
            &Self::Typing { conversation_id, from_user_id } => {
                Wire::Typing { conversation_id, from_user_id: from_user_id.to_string() }
            }
            &Self::ConversationCleared { conversation_id, up_to } => {
                Wire::ConversationCleared { conversation_id, up_to: up_to.to_string() }
            }
        }
        .serialize(serializer)
    }
}

/// The state of the registration of a connection that has just sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The connection is registered for this user, and its registration was renewed.
    Registered(UserId),
    /// The connection is not registered (any more), so no push would reach it.
    Unknown,
    /// The connection's token has ended.
    Ended,
}

/// The registry of connections and the way to them. Cheap to clone.
#[derive(Clone)]
pub struct Push {
    registry: Registry,
    callback: Callback,
    endpoint: Option<Url>,
    max_connections_per_user: usize,
    clock: Clock,
}

impl Push {
    /// Prepares the client; no connection is opened yet.
    pub fn new(config: &PushConfig, redis: Redis, clock: Clock) -> Self {
        Self {
            registry: Registry::new(redis),
            callback: Callback::new(),
            endpoint: config.endpoint.clone(),
            max_connections_per_user: config.max_connections_per_user,
            clock,
        }
    }

    /// Registers `connection` for `user`, as held by the gateway at `PUSH_ENDPOINT`. Its token is good until `ends_at`
    /// (ms since 1970 UTC). If the user has more connections than `IM_MAX_CONNECTIONS_PER_USER`, the oldest are closed.
    pub async fn connected(
        &self,
        user: UserId,
        connection: &str,
        ends_at: TimestampMs,
    ) -> Result<(), ServerError> {
        let endpoint = self.endpoint.as_ref().and_then(endpoint::to_register);
        let registration = Registration { user, endpoint, connected_at: self.clock.now_ms(), ends_at };
        self.registry.add(connection, &registration).await?;
        if let Err(error) = self.close_oldest(user, connection).await {
            tracing::warn!(%error, "push.connected: the user's connections are not counted; the next one counts them");
        }
        Ok(())
    }

    /// Closes the user's oldest connections above the limit. `newest`, which has just been registered, stays.
    async fn close_oldest(&self, user: UserId, newest: &str) -> Result<(), ServerError> {
        let mut others = self.registry.connections(&[user]).await?.pop().unwrap_or_default();
        others.retain(|connection| connection != newest);
        let room = self.max_connections_per_user - 1;
        if others.len() <= room {
            return Ok(());
        }
        let registrations = self.registry.get_all(&others).await?;
        let mut open: Vec<(String, Registration)> = Vec::new();
        for (connection, registration) in others.into_iter().zip(registrations) {
            match registration {
                Some(registration) if registration.user == user => open.push((connection, registration)),
                // The registration expired, or is another user's: the member counts for nothing.
                _ => self.registry.remove_member(user, &connection).await?,
            }
        }
        open.sort_by_key(|(_, registration)| registration.connected_at);
        let beyond = open.len().saturating_sub(room);
        let mut closed: FuturesUnordered<_> =
            open.iter().take(beyond).map(|(connection, old)| self.supersede(connection, old)).collect();
        while closed.next().await.is_some() {}
        Ok(())
    }

    /// Forgets and closes a connection that gives way to a newer one.
    async fn supersede(&self, connection: &str, registration: &Registration) {
        tracing::debug!(user = %registration.user, %connection, "push.supersede: the user has too many connections");
        self.forget(connection, self.registry.remove(registration.user, connection)).await;
        let own = self.endpoint.as_ref();
        let holder = own.and_then(|own| Self::holder(own, registration));
        let Some(holder) = holder else {
            tracing::warn!(%connection, "push.close: PUSH_ENDPOINT is not set; the connection stays open");
            return;
        };
        // API Gateway has no reason for a close. A gateway that names itself is a local one.
        let code = registration.endpoint.is_some().then_some(SUPERSEDED);
        self.close_at(&holder, connection, code).await;
    }

    /// Renews the registration of `connection` after a sign of life, for two hours more. Fails only if Redis cannot be
    /// read.
    pub async fn renew(&self, connection: &str) -> Result<Standing, ServerError> {
        let Some(registration) = self.registry.get(connection).await? else {
            return Ok(Standing::Unknown);
        };
        if self.clock.now_ms() >= registration.ends_at {
            return Ok(Standing::Ended);
        }
        // A Redis that takes no writes is no reason to refuse the client: its next ping renews the registration.
        if let Err(error) = self.registry.renew(registration.user, connection).await {
            tracing::debug!(%connection, %error, "push.renew: the registration is not renewed");
        }
        Ok(Standing::Registered(registration.user))
    }

    /// Removes the registration of `connection`, if there is one.
    pub async fn disconnected(&self, connection: &str) -> Result<(), ServerError> {
        match self.user_of(connection).await? {
            Some(user) => self.registry.remove(user, connection).await,
            None => Ok(()),
        }
    }

    /// The user of a connection, if it is registered.
    pub async fn user_of(&self, connection: &str) -> Result<Option<UserId>, ServerError> {
        Ok(self.registry.get(connection).await?.map(|registration| registration.user))
    }

    /// Pushes `message` to all connections of its two users, as [`Self::to_users`] does. Only its sender gets the
    /// `clientMsgId`.
    pub async fn message(&self, message: &Message) {
        let view = |user| PushEvent::Message(Box::new(MessageView::of(message.clone(), user)));
        self.send(&[message.to, message.from], |user| encode(&view(user))).await;
    }

    /// Pushes `event` to the connections of `users`, all at the same time, and returns after a second at the latest.
    /// Without `PUSH_ENDPOINT` nothing is pushed. If a user has more than 100 connections, the newest get the push.
    pub async fn to_users(&self, users: &[UserId], event: &PushEvent) {
        self.send(users, |_| encode(event)).await;
    }

    /// Pushes to the connections of `users`. `body_for` makes the bytes for a user, and is called only for a user with
    /// connections: most sends are to users without any.
    #[tracing::instrument(name = "push.to_users", skip_all, fields(users = users.len()))]
    async fn send(&self, users: &[UserId], body_for: impl Fn(UserId) -> Result<Bytes, serde_json::Error>) {
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        if tokio::time::timeout(TIME_LIMIT, self.send_all(endpoint, users, body_for)).await.is_err() {
            metrics::counter!(metric::PUSHES, "outcome" => "late").increment(1);
            tracing::warn!(
                "push.to_users: not all connections were reached within 1 s; they catch up from the changes"
            );
        }
    }

    async fn send_all(
        &self,
        own: &Url,
        users: &[UserId],
        body_for: impl Fn(UserId) -> Result<Bytes, serde_json::Error>,
    ) {
        let connections = match self.connections_of(users).await {
            Ok(connections) => connections,
            Err(error) => {
                metrics::counter!(metric::PUSHES, "outcome" => "failed").increment(1);
                tracing::warn!(%error, "push.to_users: connections are not known; the users catch up from the changes");
                return;
            }
        };
        let mut told = FuturesUnordered::new();
        for (&user, connections) in users.iter().zip(&connections) {
            if connections.is_empty() {
                continue;
            }
            let body = match body_for(user) {
                Ok(body) => body,
                Err(error) => {
                    tracing::error!(%error, "push.to_users: the event does not become JSON; this is a fault of ours");
                    return;
                }
            };
            for (connection, registration) in connections {
                told.push(self.reach(own, user, connection, registration.as_ref(), body.clone()));
            }
        }
        while told.next().await.is_some() {}
    }

    /// The newest connections of each user with their registrations, at most [`MAX_REACHED`] of one user. Two round trips,
    /// and one if nobody is connected.
    async fn connections_of(
        &self,
        users: &[UserId],
    ) -> Result<Vec<Vec<(String, Option<Registration>)>>, ServerError> {
        let connections = self.registry.connections(users).await?;
        let mut registrations = self.registry.get_all(&connections.concat()).await?.into_iter();
        let of_user = |connections: Vec<String>| {
            let mut all: Vec<_> = connections.into_iter().zip(registrations.by_ref()).collect();
            if all.len() > MAX_REACHED {
                tracing::warn!(
                    most = MAX_REACHED,
                    "push.to_users: the user has too many connections; the oldest are not told"
                );
                // Connections without a registration sort last. A later push finds them and removes them.
                all.sort_by_key(|(_, registration)| {
                    Reverse(registration.as_ref().map(|registration| registration.connected_at))
                });
                all.truncate(MAX_REACHED);
            }
            all
        };
        Ok(connections.into_iter().map(of_user).collect())
    }

    /// Pushes to one connection. Removes a connection that cannot or may not get the push.
    async fn reach(
        &self,
        own: &Url,
        user: UserId,
        connection: &str,
        registration: Option<&Registration>,
        body: Bytes,
    ) {
        let outcome = match registration.map(|registration| (registration, Self::holder(own, registration))) {
            // The registration was evicted or has ended. If the connection is open, closing it is better than silently
            // skipping it: its client connects again and catches up.
            None => {
                self.forget(connection, self.registry.remove_member(user, connection)).await;
                self.close_at(own, connection, None).await;
                "gone"
            }
            Some((registration, _)) if registration.user != user => {
                self.forget(connection, self.registry.remove_member(user, connection)).await;
                "gone"
            }
            Some((_, None)) => {
                tracing::warn!(%connection, "push.tell: the registration names a gateway that is not one of ours");
                "failed"
            }
            Some((registration, Some(holder))) if self.clock.now_ms() >= registration.ends_at => {
                self.forget(connection, self.registry.remove(user, connection)).await;
                self.close_at(&holder, connection, None).await;
                "gone"
            }
            Some((registration, Some(holder))) => self.tell(&holder, registration, connection, body).await,
        };
        metrics::counter!(metric::PUSHES, "outcome" => outcome).increment(1);
        if trace::is_recorded() {
            tracing::info!(%connection, outcome, "push.reach: pushed to a connection");
        }
    }

    /// The endpoint of the gateway that holds the connection; `own` is this process's. `None` if the registration names
    /// an endpoint that may not be called.
    fn holder(own: &Url, registration: &Registration) -> Option<Url> {
        match &registration.endpoint {
            None => Some(own.clone()),
            // If the own endpoint is API Gateway's, no process registers another one.
            Some(text) => endpoint::to_register(own).and_then(|_| endpoint::of_this_machine(text)),
        }
    }

    /// Posts the event to the gateway that holds the connection. A 410 from there means that the connection is gone.
    async fn tell(
        &self,
        holder: &Url,
        registration: &Registration,
        connection: &str,
        body: Bytes,
    ) -> &'static str {
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            match self.callback.post(holder, connection, body.clone()).await {
                Ok(Delivery::Done) => return "delivered",
                // API Gateway answers 410 until `$connect` has returned. A gateway that registers its connections
                // itself does not.
                Ok(Delivery::Gone) if registration.endpoint.is_none() && self.is_young(registration) => {
                    let Some(&pause) = pauses.next() else {
                        tracing::debug!(%connection, "push.tell: 410 right after the registration; the connection stays registered, and the next push decides");
                        return "failed";
                    };
                    tokio::time::sleep(pause).await;
                }
                Ok(Delivery::Gone) => {
                    // If the answer was wrong, the client learns by the close that it must connect again. A connection that was
                    // forgotten first would stay open and hear nothing if the time limit ended in between.
                    self.close_at(holder, connection, None).await;
                    self.forget(connection, self.registry.remove(registration.user, connection)).await;
                    return "gone";
                }
                // No gateway listens there: that runtime has ended, and its registrations expire by themselves.
                Err(failure) if registration.endpoint.is_some() && failure.is_connect() => {
                    tracing::debug!(%connection, error = %failure, "push.tell: its gateway does not listen any more");
                    return "failed";
                }
                Err(failure) => {
                    tracing::warn!(%connection, status = failure.status(), error = %failure,
                        "push.tell: not delivered; the user catches up from the changes");
                    return "failed";
                }
            }
        }
    }

    fn is_young(&self, registration: &Registration) -> bool {
        self.clock.now_ms().saturating_sub(registration.connected_at) < YOUNG_MS
    }

    async fn forget(&self, connection: &str, removal: impl Future<Output = Result<(), ServerError>>) {
        if let Err(error) = removal.await {
            tracing::warn!(%connection, %error, "push.forget: the connection is gone but stays registered");
        }
    }

    /// Closes `connection`, so that its client connects again. `own_endpoint` is used if `PUSH_ENDPOINT` is not set: a
    /// WebSocket function learns its endpoint from its event.
    pub async fn close(&self, own_endpoint: Option<&Url>, connection: &str) {
        let Some(endpoint) = self.endpoint.as_ref().or(own_endpoint) else {
            tracing::warn!(%connection, "push.close: PUSH_ENDPOINT is not set; the connection stays open");
            return;
        };
        self.close_at(endpoint, connection, None).await;
    }

    /// Closes `connection`, at a local gateway with this close code.
    async fn close_at(&self, endpoint: &Url, connection: &str, code: Option<u16>) {
        let closed = tokio::time::timeout(TIME_LIMIT, self.callback.delete(endpoint, connection, code)).await;
        match closed {
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => {
                tracing::warn!(%connection, status = failure.status(), error = %failure, "push.close: the connection is not closed");
            }
            Err(_) => tracing::warn!(%connection, "push.close: the connection is not closed within 1 s"),
        }
    }
}

/// The event's bytes. If they are more than API Gateway takes, the message goes without its content and says so; the
/// client then reads the message by its id.
fn encode(event: &PushEvent) -> Result<Bytes, serde_json::Error> {
    let whole = serde_json::to_vec(event)?;
    if whole.len() <= MAX_EVENT_BYTES {
        return Ok(whole.into());
    }
    let mut event = serde_json::to_value(event)?;
    if let Some(message) = event.get_mut("data").and_then(Value::as_object_mut) {
        message.insert("content".to_owned(), Value::Null);
        message.insert("truncated".to_owned(), true.into());
    }
    Ok(serde_json::to_vec(&event)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, MessageType};

    fn message(content: String) -> PushEvent {
        let id = MessageId::new(9_007_199_254_740_993).unwrap();
        let (from, to) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        let message = Message::new(id, from, to, MessageType::TEXT, content, None);
        PushEvent::Message(Box::new(MessageView::of(message, to)))
    }

    #[test]
    fn a_message_that_is_too_large_to_push_goes_without_its_content() {
        let read = |event: &PushEvent| -> Value { serde_json::from_slice(&encode(event).unwrap()).unwrap() };
        // A control character takes six bytes in JSON.
        let small = read(&message("\u{1}".repeat(21_000)));
        assert_eq!(small["data"]["content"].as_str().unwrap().len(), 21_000);
        assert!(small["data"].get("truncated").is_none());

        let event = message("\u{1}".repeat(65_535));
        let large = read(&event);
        assert!(encode(&event).unwrap().len() < 1_000);
        assert_eq!(large["type"], "MESSAGE");
        assert_eq!(large["data"]["content"], Value::Null);
        assert_eq!(large["data"]["truncated"], true);
        assert_eq!(large["data"]["id"], "9007199254740993");
        let mut whole = serde_json::to_value(&event).unwrap();
        whole["data"]["content"] = Value::Null;
        whole["data"]["truncated"] = true.into();
        assert_eq!(large, whole, "and all else is as ever");
    }

    #[test]
    fn events_have_the_form_of_the_contract() {
        let id = MessageId::new(9_007_199_254_740_993).unwrap();
        let (from, to) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        let message = Message::new(id, from, to, MessageType::TEXT, "你好".to_owned(), None);
        let event = PushEvent::Message(Box::new(MessageView::of(message, to)));
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
