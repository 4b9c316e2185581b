//! The limits of the gateway. A limit that API Gateway also has is the same by default.

use std::time::Duration;

/// The shortest time between two lines of the log about the same kind of refusal: any client can cause a thousand a second.
pub(super) const LOG_REFUSALS_EVERY: Duration = Duration::from_secs(10);

/// The limits of the gateway. The default stands in parentheses.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// The most bytes of a request's body (1 MiB). Above it the answer is 413.
    pub max_body_bytes: usize,
    /// The most bytes of all bodies under way together (64 MiB). Above it the answer is 503.
    pub max_bodies_bytes: usize,
    /// The most bytes of a request's head (16 KiB, at least 8 KiB). Above it the answer is 431.
    pub max_header_bytes: usize,
    /// How long the head of a request may take to arrive, and how long a connection may wait for its next request (20
    /// s).
    pub header_timeout: Duration,
    /// How long the body of a request may take to arrive (20 s).
    pub body_timeout: Duration,
    /// How long a request may take in all (29 s, as API Gateway). Above it the answer is 503.
    pub request_timeout: Duration,
    /// The most connections at a time, WebSockets included (4,096). A further connection is answered 503.
    pub max_connections: usize,
    /// The most bytes of a WebSocket frame (32 KiB, as API Gateway).
    pub max_frame_bytes: usize,
    /// The most bytes of a WebSocket message, either way (128 KiB, as API Gateway).
    pub max_message_bytes: usize,
    /// The most messages that a client may send in a second (50). Above it the WebSocket is closed with code 1008.
    pub messages_per_second: u32,
    /// The most messages that wait for a client that reads slowly (256). Above it the WebSocket is closed with code
    /// 1013.
    pub outgoing_queue: usize,
    /// The most bytes of messages that wait for such a client (2 MiB). Above it the WebSocket is closed with code
    /// 1013.
    pub outgoing_bytes: usize,
    /// How long a client may take to read an answer or a message once the system's buffers are full (10 s). Then the
    /// connection is cut off.
    pub send_timeout: Duration,
    /// How often a WebSocket is pinged (30 s). A WebSocket that is silent for three times as long is closed.
    pub ping_every: Duration,
    /// How long a WebSocket may be without a message in either direction (10 min, as API Gateway). Then it is closed
    /// with code 1001.
    pub idle_timeout: Duration,
    /// How often the gateway renews the registration of a WebSocket (2 min, with up to a quarter more or less at
    /// random).
    pub renew_every: Duration,
    /// How long a stop waits for requests under way (30 s).
    pub drain: Duration,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: 1024 * 1024,
            max_bodies_bytes: 64 * 1024 * 1024,
            max_header_bytes: 16 * 1024,
            header_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(29),
            max_connections: 4_096,
            max_frame_bytes: 32 * 1024,
            max_message_bytes: 128 * 1024,
            messages_per_second: 50,
            outgoing_queue: 256,
            outgoing_bytes: 2 * 1024 * 1024,
            send_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(10),
            renew_every: Duration::from_mins(2),
            drain: Duration::from_secs(30),
        }
    }
}
