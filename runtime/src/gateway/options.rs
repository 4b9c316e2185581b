//! The limits of the gateway. Where API Gateway has one, its value is the default.

use std::time::Duration;

/// The shortest time between two log lines about refused connections, or about refused bodies: anybody can cause a thousand
/// refusals a second.
pub(super) const REFUSALS_EVERY: Duration = Duration::from_secs(10);

/// See each field for its default.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// The most bytes of a request's body (1 MiB); above is 413.
    pub max_body_bytes: usize,
    /// The most bytes of all bodies that are being worked on (64 MiB); above is 503.
    pub max_bodies_bytes: usize,
    /// The most bytes of a request's head (16 KiB, and not less than 8 KiB); above is 431.
    pub max_header_bytes: usize,
    /// How long a request's head may take to arrive, and a connection may wait for its next request (20 s).
    pub header_timeout: Duration,
    /// How long a request's body may take to arrive (20 s).
    pub body_timeout: Duration,
    /// How long a request may take in all (29 s, as API Gateway); above is 503.
    pub request_timeout: Duration,
    /// The most connections at a time, WebSockets among them (4,096); one more is answered 503.
    pub max_connections: usize,
    /// The most bytes of a WebSocket frame (32 KiB, as API Gateway).
    pub max_frame_bytes: usize,
    /// The most bytes of a WebSocket message, either way (128 KiB, as API Gateway).
    pub max_message_bytes: usize,
    /// The most messages that a client may send in a second (50); above it is closed with 1008.
    pub messages_per_second: u32,
    /// How many messages wait for a client that reads slowly (256); one more and it is closed with 1013.
    pub outgoing_queue: usize,
    /// How many bytes of messages wait for such a client (2 MiB); above it is closed with 1013.
    pub outgoing_bytes: usize,
    /// How long a client may take to make room for what is written to it (10 s), an answer or a message; then it is cut
    /// off.
    pub send_timeout: Duration,
    /// How often a WebSocket is pinged (30 s). One that is silent for three times as long is taken for dead.
    pub ping_every: Duration,
    /// After how long without a message either way a WebSocket is closed with 1001 (10 min, as API Gateway).
    pub idle_timeout: Duration,
    /// How often the gateway renews the registration of a WebSocket (2 min, a quarter more or less at random).
    pub renew_every: Duration,
    /// How long a stop waits for what is under way (30 s).
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
