//! The open WebSockets, each with a bounded queue of outgoing messages.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use axum::extract::ws::Utf8Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hongyan::clock::TimestampMs;
use hongyan::telemetry::metric;
use parking_lot::RwLock;
use rand::Rng as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::GatewayOptions;

/// The reason why a WebSocket ends: a code of RFC 6455, 7.4.1, and a short text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closing {
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

/// The client reads more slowly than messages come for it.
pub(super) const TOO_SLOW: Closing =
    Closing { code: 1013, reason: "cannot keep up; connect again and catch up" };
/// The token of the handshake is no longer accepted.
pub(super) const TOKEN_ENDED: Closing =
    Closing { code: 4401, reason: "the token has ended; connect again with a new one" };
/// A function closed the connection by `DELETE /@connections/{id}`.
pub(super) const DELETED: Closing = Closing { code: 1000, reason: "closed by the server" };

/// The user has opened more connections than `IM_MAX_CONNECTIONS_PER_USER`, and this is the oldest.
pub(super) const SUPERSEDED: Closing = Closing {
    code: hongyan::push::SUPERSEDED,
    reason: "too many connections of this user; the oldest gives way",
};

/// One of the [`GatewayOptions::max_connections`] places. A connection gives its place back when its last part ends;
/// for a WebSocket, that is the end of the WebSocket.
#[derive(Clone)]
pub(super) struct Place(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

impl Place {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(permit))
    }
}

/// One WebSocket.
pub(super) struct Connection {
    pub(super) id: String,
    pub(super) connected_at: TimestampMs,
    pub(super) client: Client,
    last_active_at: AtomicI64,
    outgoing: mpsc::Sender<Utf8Bytes>,
    /// The bytes of all messages in `outgoing`. At most `max_waiting_bytes`.
    waiting_bytes: AtomicUsize,
    max_waiting_bytes: usize,
    closing: OnceLock<Closing>,
    /// Cancelled once `closing` is set.
    pub(super) closed: CancellationToken,
}

/// The data of a client, from its handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct Client {
    pub(super) source_ip: String,
    pub(super) user_agent: String,
    /// The time from which the client's token is no longer accepted. `None` if the handshake has no valid token.
    pub(super) token_ends_at: Option<TimestampMs>,
}

/// The connection is closed or closing.
#[derive(Debug)]
pub(super) struct Gone;

impl Connection {
    /// Queues a message. Closes the connection of a client that cannot keep up, instead of skipping a message, and of
    /// a client whose token has ended.
    pub(super) fn send(&self, text: Utf8Bytes, now: TimestampMs) -> Result<(), Gone> {
        self.close_if_ended(now);
        if self.closed.is_cancelled() {
            return Err(Gone);
        }
        let bytes = text.len();
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting.saturating_add(bytes) > self.max_waiting_bytes || self.outgoing.try_send(text).is_err() {
            self.close(TOO_SLOW);
            return Err(Gone);
        }
        self.active(now);
        Ok(())
    }

    /// Notes that a message of `bytes` bytes has left the queue.
    pub(super) fn taken(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Closes the connection if the client's token has ended at `now`.
    pub(super) fn close_if_ended(&self, now: TimestampMs) {
        if self.client.token_ends_at.is_some_and(|end| now >= end) {
            self.close(TOKEN_ENDED);
        }
    }

    /// Notes that a message was sent or received at `now`.
    pub(super) fn active(&self, now: TimestampMs) {
        self.last_active_at.fetch_max(now, Ordering::Relaxed);
    }

    pub(super) fn last_active_at(&self) -> TimestampMs {
        self.last_active_at.load(Ordering::Relaxed)
    }

    /// Closes the connection. If it is closed twice, the first reason counts.
    pub(super) fn close(&self, closing: Closing) {
        if self.closing.set(closing).is_ok() {
            tracing::debug!(connection = %self.id, code = closing.code, reason = closing.reason, "gateway.close");
        }
        self.closed.cancel();
    }

    /// The reason why this side closed the connection; `None` if it did not.
    pub(super) fn closing(&self) -> Option<Closing> {
        self.closing.get().copied()
    }
}

/// All open connections, by id.
#[derive(Default)]
pub(super) struct Connections(RwLock<HashMap<String, Arc<Connection>>>);

impl Connections {
    /// Adds a connection under a random id that nobody can guess. The receiver is the queue of outgoing messages.
    pub(super) fn open(
        &self,
        client: Client,
        now: TimestampMs,
        options: &GatewayOptions,
    ) -> (Arc<Connection>, mpsc::Receiver<Utf8Bytes>) {
        let (outgoing, receiver) = mpsc::channel(options.outgoing_queue.max(1));
        let connection = Arc::new(Connection {
            id: URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 16]>()),
            connected_at: now,
            client,
            last_active_at: AtomicI64::new(now),
            outgoing,
            waiting_bytes: AtomicUsize::new(0),
            max_waiting_bytes: options.outgoing_bytes,
            closing: OnceLock::new(),
            closed: CancellationToken::new(),
        });
        let mut open = self.0.write();
        open.insert(connection.id.clone(), connection.clone());
        metrics::gauge!(metric::CONNECTIONS).increment(1.0);
        (connection, receiver)
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Connection>> {
        let open = self.0.read();
        open.get(id).filter(|connection| !connection.closed.is_cancelled()).cloned()
    }

    pub(super) fn remove(&self, id: &str) {
        let mut open = self.0.write();
        if open.remove(id).is_some() {
            metrics::gauge!(metric::CONNECTIONS).decrement(1.0);
        }
    }

    /// Closes the connection `id` for the reason `closing`. False if there is no such connection.
    pub(super) fn delete(&self, id: &str, closing: Closing, now: TimestampMs) -> bool {
        let found = self.get(id);
        if let Some(connection) = &found {
            connection.close_if_ended(now);
            connection.close(closing);
        }
        found.is_some()
    }

    /// Closes every connection.
    pub(super) fn close_all(&self, closing: Closing) {
        for connection in self.0.read().values() {
            connection.close(closing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(connections: &Connections, client: Client) -> (Arc<Connection>, mpsc::Receiver<Utf8Bytes>) {
        let options = GatewayOptions { outgoing_queue: 2, outgoing_bytes: 10, ..GatewayOptions::default() };
        connections.open(client, 1, &options)
    }

    #[test]
    fn a_connection_that_cannot_keep_up_is_closed_and_gone() {
        let connections = Connections::default();
        let (connection, mut queue) = open(&connections, Client::default());
        assert_eq!(connection.id.len(), 22);
        for text in ["a", "b"] {
            connection.send(text.into(), 2).unwrap();
        }
        assert_eq!(connection.last_active_at(), 2);
        assert!(connection.send("c".into(), 3).is_err());
        assert_eq!(connection.closing(), Some(TOO_SLOW));
        assert!(connections.get(&connection.id).is_none(), "gone at once for whoever pushes");
        assert_eq!(queue.try_recv().unwrap(), "a");
        assert!(connection.send("d".into(), 3).is_err(), "room again, but never with a gap");
        assert!(!connections.delete(&connection.id, DELETED, 3));
    }

    #[test]
    fn the_bytes_that_wait_are_bounded_too() {
        let connections = Connections::default();
        let (connection, _queue) = open(&connections, Client::default());
        connection.send("0123456789".into(), 2).unwrap();
        connection.taken(10);
        connection.send("012345678".into(), 2).unwrap();
        assert!(connection.send("ab".into(), 3).is_err());
        assert_eq!(connection.closing(), Some(TOO_SLOW));
    }

    #[test]
    fn nothing_is_sent_once_the_token_has_ended() {
        let connections = Connections::default();
        let client = || Client { token_ends_at: Some(10), ..Client::default() };
        let (connection, _queue) = open(&connections, client());
        connection.send("a".into(), 9).unwrap();
        assert!(connection.send("b".into(), 10).is_err());
        assert_eq!(connection.closing(), Some(TOKEN_ENDED));

        let (connection, _queue) = open(&connections, client());
        assert!(connections.delete(&connection.id, DELETED, 10));
        assert_eq!(connection.closing(), Some(TOKEN_ENDED));
    }
}
