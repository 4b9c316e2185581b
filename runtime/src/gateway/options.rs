//! The limits of the gateway. A limit that API Gateway also has is the same by default.

use std::time::Duration;

use hongyan::config::Reader;

use super::cors::Origins;

/// The shortest time between two lines of the log about the same kind of refusal: any client can cause a thousand a second.
pub(super) const LOG_REFUSALS_EVERY: Duration = Duration::from_secs(10);

/// Who may use the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Page {
    /// There is no page.
    #[default]
    None,
    /// There is a page. Its visitors bring their own tokens.
    Plain,
    /// Visitors on this machine get the tokens of any user. Only for a secret that was made for this machine.
    WithTokens,
}

/// The limits of the gateway. Each field names its variable and, in parentheses, its default.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// The origins whose web pages may call the HTTP API: `CORS_ORIGINS` (none).
    pub cors_origins: Origins,
    /// The chat page at `/`, and who gets tokens from it (there is no page).
    pub page: Page,
    /// The most bytes of a request's body: `GATEWAY_MAX_BODY_BYTES` (1 MiB). Above it the answer is 413.
    pub max_body_bytes: usize,
    /// The most bytes of all bodies under way together: `GATEWAY_MAX_BODIES_BYTES` (64 MiB). Above it the answer is
    /// 503.
    pub max_bodies_bytes: usize,
    /// The most bytes of a request's head: `GATEWAY_MAX_HEADER_BYTES` (16 KiB, at least 8 KiB). Above it the answer
    /// is 431.
    pub max_header_bytes: usize,
    /// How long the head of a request may take to arrive, and how long a connection may wait for its next request:
    /// `GATEWAY_HEADER_TIMEOUT_MS` (20 s).
    pub header_timeout: Duration,
    /// How long the body of a request may take to arrive: `GATEWAY_BODY_TIMEOUT_MS` (20 s).
    pub body_timeout: Duration,
    /// How long a request may take in all: `GATEWAY_REQUEST_TIMEOUT_MS` (29 s, as API Gateway). Above it the answer
    /// is 503.
    pub request_timeout: Duration,
    /// The most connections at a time, WebSockets included: `GATEWAY_MAX_CONNECTIONS` (4,096). A further connection
    /// is answered 503.
    pub max_connections: usize,
    /// The most bytes of a WebSocket frame: `GATEWAY_MAX_FRAME_BYTES` (32 KiB, as API Gateway).
    pub max_frame_bytes: usize,
    /// The most bytes of a WebSocket message, in either direction: `GATEWAY_MAX_MESSAGE_BYTES` (128 KiB, as API
    /// Gateway).
    pub max_message_bytes: usize,
    /// The most messages that a client may send in a second: `GATEWAY_MESSAGES_PER_SECOND` (50). Above it the
    /// WebSocket is closed with code 1008.
    pub messages_per_second: u32,
    /// The most messages that wait for a client that reads slowly: `GATEWAY_OUTGOING_QUEUE` (256). Above it the
    /// WebSocket is closed with code 1013.
    pub outgoing_queue: usize,
    /// The most bytes of messages that wait for such a client: `GATEWAY_OUTGOING_BYTES` (2 MiB). Above it the
    /// WebSocket is closed with code 1013.
    pub outgoing_bytes: usize,
    /// How long a client may take to read an answer or a message once the system's buffers are full:
    /// `GATEWAY_SEND_TIMEOUT_MS` (10 s). Then the connection is cut off.
    pub send_timeout: Duration,
    /// How often a WebSocket is pinged: `GATEWAY_PING_SECONDS` (30 s). A WebSocket that is silent for three times as
    /// long is closed.
    pub ping_every: Duration,
    /// How long a WebSocket may be without a message in either direction: `GATEWAY_IDLE_SECONDS` (10 min, as API
    /// Gateway). Then it is closed with code 1001.
    pub idle_timeout: Duration,
    /// How often the gateway renews the registration of a WebSocket: `GATEWAY_RENEW_SECONDS` (2 min, with up to a
    /// quarter more or less at random).
    pub renew_every: Duration,
    /// How long a stop waits for requests under way (30 s).
    pub drain: Duration,
}

impl GatewayOptions {
    /// Reads the limits that are settings. Faults are collected in `reader`.
    pub fn read<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            cors_origins: Origins::read(reader),
            page: Page::None,
            max_body_bytes: reader.number("GATEWAY_MAX_BODY_BYTES", MIB, 1_024, 64 * MIB),
            max_bodies_bytes: reader.number("GATEWAY_MAX_BODIES_BYTES", 64 * MIB, MIB, 4_096 * MIB),
            max_header_bytes: reader.number("GATEWAY_MAX_HEADER_BYTES", 16 * 1_024, 8 * 1_024, MIB),
            header_timeout: reader.millis("GATEWAY_HEADER_TIMEOUT_MS", 20_000, 100, 600_000),
            body_timeout: reader.millis("GATEWAY_BODY_TIMEOUT_MS", 20_000, 100, 600_000),
            request_timeout: reader.millis("GATEWAY_REQUEST_TIMEOUT_MS", 29_000, 100, 600_000),
            max_connections: reader.number("GATEWAY_MAX_CONNECTIONS", 4_096, 1, 1_000_000),
            max_frame_bytes: reader.number("GATEWAY_MAX_FRAME_BYTES", 32 * 1_024, 1_024, 64 * MIB),
            max_message_bytes: reader.number("GATEWAY_MAX_MESSAGE_BYTES", 128 * 1_024, 1_024, 64 * MIB),
            messages_per_second: reader.number("GATEWAY_MESSAGES_PER_SECOND", 50, 1, 100_000),
            outgoing_queue: reader.number("GATEWAY_OUTGOING_QUEUE", 256, 1, 100_000),
            outgoing_bytes: reader.number("GATEWAY_OUTGOING_BYTES", 2 * MIB, 1_024, 1_024 * MIB),
            send_timeout: reader.millis("GATEWAY_SEND_TIMEOUT_MS", 10_000, 100, 600_000),
            ping_every: reader.seconds("GATEWAY_PING_SECONDS", 30, 1, 3_600),
            idle_timeout: reader.seconds("GATEWAY_IDLE_SECONDS", 600, 1, 24 * 3_600),
            renew_every: reader.seconds("GATEWAY_RENEW_SECONDS", 120, 1, 300),
            drain: Self::default().drain,
        }
    }
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            cors_origins: Origins::default(),
            page: Page::default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_settings_are_those_of_the_options() {
        let mut reader = Reader::new(|_: &str| None);
        let read = GatewayOptions::read(&mut reader);
        assert_eq!(format!("{read:?}"), format!("{:?}", GatewayOptions::default()));
        let limits = reader.settings().iter().filter(|setting| setting.name.starts_with("GATEWAY_"));
        assert_eq!((limits.count(), reader.settings().len()), (16, 17));
    }

    #[test]
    fn a_limit_out_of_bounds_is_a_fault() {
        let mut reader =
            Reader::new(|name: &str| (name == "GATEWAY_MAX_HEADER_BYTES").then(|| "4096".to_owned()));
        let read = GatewayOptions::read(&mut reader);
        let faults = reader.finish(read).unwrap_err().faults;
        assert_eq!(faults, ["GATEWAY_MAX_HEADER_BYTES must be a whole number from 8192 to 1048576"]);
    }
}
