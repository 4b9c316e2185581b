//! The WebSockets that are open, and the bounded queue of each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::extract::ws::Utf8Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hongyan::clock::TimestampMs;
use hongyan::telemetry::metric;
use rand::Rng as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Why a WebSocket ends: a code of RFC 6455, 7.4.1, and a few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closing {
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

/// The client does not read as fast as it is written to.
pub(super) const TOO_SLOW: Closing =
    Closing { code: 1013, reason: "cannot keep up; connect again and catch up" };
/// Closed by `DELETE /@connections/{id}`.
const DELETED: Closing = Closing { code: 1000, reason: "closed by the server" };

/// One WebSocket.
pub(super) struct Connection {
    pub(super) id: String,
    pub(super) connected_at: TimestampMs,
    pub(super) source_ip: String,
    pub(super) user_agent: String,
    last_active_at: AtomicI64,
    outgoing: mpsc::Sender<Utf8Bytes>,
    closing: OnceLock<Closing>,
    /// Cancelled once `closing` is set.
    pub(super) closed: CancellationToken,
}

/// The connection is closed or closing.
#[derive(Debug)]
pub(super) struct Gone;

impl Connection {
    /// Queues a message. A client that cannot keep up is closed, never skipped.
    pub(super) fn send(&self, text: Utf8Bytes, now: TimestampMs) -> Result<(), Gone> {
        if self.closed.is_cancelled() {
            return Err(Gone);
        }
        if self.outgoing.try_send(text).is_err() {
            self.close(TOO_SLOW);
            return Err(Gone);
        }
        self.active(now);
        Ok(())
    }

    /// A message went either way at `now`.
    pub(super) fn active(&self, now: TimestampMs) {
        self.last_active_at.fetch_max(now, Ordering::Relaxed);
    }

    pub(super) fn last_active_at(&self) -> TimestampMs {
        self.last_active_at.load(Ordering::Relaxed)
    }

    /// Asks the connection to end; the first reason counts.
    pub(super) fn close(&self, closing: Closing) {
        if self.closing.set(closing).is_ok() {
            tracing::debug!(connection = %self.id, code = closing.code, reason = closing.reason, "gateway.close");
        }
        self.closed.cancel();
    }

    /// Why it ends, if this side decided it.
    pub(super) fn closing(&self) -> Option<Closing> {
        self.closing.get().copied()
    }
}

/// All that are open, by id.
#[derive(Default)]
pub(super) struct Connections(RwLock<HashMap<String, Arc<Connection>>>);

impl Connections {
    /// Adds one under an id that nobody can guess. The receiver is its queue.
    pub(super) fn open(
        &self,
        source_ip: String,
        user_agent: String,
        now: TimestampMs,
        queue: usize,
    ) -> (Arc<Connection>, mpsc::Receiver<Utf8Bytes>) {
        let (outgoing, receiver) = mpsc::channel(queue.max(1));
        let connection = Arc::new(Connection {
            id: URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 16]>()),
            connected_at: now,
            source_ip,
            user_agent,
            last_active_at: AtomicI64::new(now),
            outgoing,
            closing: OnceLock::new(),
            closed: CancellationToken::new(),
        });
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(connection.id.clone(), connection.clone());
        metrics::gauge!(metric::CONNECTIONS).increment(1.0);
        (connection, receiver)
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Connection>> {
        let open = self.0.read().unwrap_or_else(PoisonError::into_inner);
        open.get(id).filter(|connection| !connection.closed.is_cancelled()).cloned()
    }

    pub(super) fn remove(&self, id: &str) {
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if open.remove(id).is_some() {
            metrics::gauge!(metric::CONNECTIONS).decrement(1.0);
        }
    }

    /// Asks `id` to end; whether it was open.
    pub(super) fn delete(&self, id: &str) -> bool {
        let found = self.get(id);
        if let Some(connection) = &found {
            connection.close(DELETED);
        }
        found.is_some()
    }

    /// Asks each to end.
    pub(super) fn close_all(&self, closing: Closing) {
        for connection in self.0.read().unwrap_or_else(PoisonError::into_inner).values() {
            connection.close(closing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_cannot_keep_up_is_closed_and_gone() {
        let connections = Connections::default();
        let (connection, mut queue) = connections.open("ip".to_owned(), String::new(), 1, 2);
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
        assert!(!connections.delete(&connection.id));
    }
}
