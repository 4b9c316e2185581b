//! A WebSocket from its handshake to its end: `$connect`, messages by `$default`, `$disconnect`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest};
use aws_lambda_events::encodings::Body as EventBody;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hongyan::auth::Handshake;
use hongyan::clock::TimestampMs;
use hongyan::error::ApiError;
use http::HeaderValue;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::request::Parts;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use super::connections::{Client, Closing, Connection, Place, TOKEN_ENDED};
use super::shared::Shared;
use super::{event, response, socket_event};
use crate::functions::FUNCTIONS;
use crate::host::InvokeError;

/// The gateway is stopping.
pub(super) const GOING_AWAY: Closing =
    Closing { code: 1001, reason: "the server is stopping; connect again" };
const IDLE: Closing = Closing { code: 1001, reason: "no message for too long" };
const DEAD: Closing = Closing { code: 1001, reason: "no sign of life" };
const NOT_THE_PROTOCOL: Closing = Closing { code: 1002, reason: "not the WebSocket protocol" };
const BINARY: Closing = Closing { code: 1003, reason: "only text messages are understood" };
const NOT_TEXT: Closing = Closing { code: 1007, reason: "a text that is not UTF-8" };
const TOO_MANY: Closing = Closing { code: 1008, reason: "too many messages a second" };
const TOO_BIG: Closing = Closing { code: 1009, reason: "a message or frame that is too big" };
const STALLED: Closing = super::connections::TOO_SLOW;

/// The message by which a client keeps its connection registered.
const PING: &str = r#"{"action":"ping"}"#;

/// The size of the read buffer of an idle WebSocket.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// How long the client may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The code for an end without a close frame (RFC 6455, 7.1.5).
const ABNORMAL: u16 = 1006;

/// `GET /ws`.
pub(super) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    let upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection> =
        WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let Ok(upgrade) = upgrade else {
        let what = "this path is a WebSocket: connect to it with a WebSocket client".to_owned();
        return response::problem(&ApiError::InvalidRequest(what));
    };
    if shared.stop.is_cancelled() {
        return response::problem(&ApiError::Unavailable(None));
    }
    let domain =
        event::text(&parts.headers, &http::header::HOST).unwrap_or_else(|| shared.address.to_string());
    let client = Client {
        source_ip: peer.ip().to_string(),
        user_agent: socket_event::user_agent(&parts.headers),
        token_ends_at: token_ends_at(&shared, &parts).await,
    };
    // Register the connection before `$connect` has answered: a push that comes meanwhile waits in the queue.
    let now = shared.behind.clock.now_ms();
    let (connection, queue) = shared.connections.open(client, now, &shared.options);
    let place = parts.extensions.remove();
    let session = Session { shared, connection, domain, has_left: AtomicBool::new(false), _place: place };
    match session.connect(&parts).await {
        Ok(subprotocol) => session.run(upgrade, subprotocol, queue),
        Err(refusal) => {
            session.leave();
            refusal
        }
    }
}

/// The time when the token of the handshake ends. `None` if the token is not valid: then `$connect` refuses the
/// handshake.
async fn token_ends_at(shared: &Shared, parts: &Parts) -> Option<TimestampMs> {
    let query = parts.uri.query().unwrap_or_default();
    let tokens = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "token");
    let in_query = tokens.last().map(|(_, token)| token);
    let token = Handshake::read(&parts.headers, in_query.as_deref()).token?;
    Some(shared.behind.auth.check(token).await.ok()?.ends_at)
}

struct Session {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    domain: String,
    /// Set once the connection is no longer among the open ones and `$disconnect` was invoked. `$disconnect` is not
    /// invoked if `$connect` refused the handshake.
    has_left: AtomicBool,
    /// The place among the connections, given back when the session ends.
    _place: Option<Place>,
}

/// A client may go away at any moment, also during `$connect`. If that `$connect` registers the connection after its
/// `$disconnect`, the registration is removed by the next push or by its TTL.
impl Drop for Session {
    fn drop(&mut self) {
        if self.leave() && Handle::try_current().is_ok() {
            let ended = Ended { code: ABNORMAL, reason: "the client went away".to_owned() };
            self.shared.tasks.spawn(self.shared.behind.functions.websocket(self.ended(ended)));
        }
    }
}

/// The close code and reason of the client.
struct Ended {
    code: u16,
    reason: String,
}

impl Session {
    /// Invokes `$connect`. Any answer but 2xx refuses the handshake. A 2xx may select a subprotocol.
    async fn connect(&self, parts: &Parts) -> Result<Option<HeaderValue>, Response> {
        let now = self.shared.behind.clock.now_ms();
        let event = socket_event::connect(&self.connection, parts, &self.domain, now);
        let answer = self.invoke(event).await.map_err(|error| response::problem(&error))?;
        if (200..300).contains(&answer.status_code) {
            return Ok(answer.headers.get(SEC_WEBSOCKET_PROTOCOL).cloned());
        }
        Err(response::problem(&match answer.status_code {
            401 => ApiError::Unauthorized,
            503 => ApiError::Unavailable(None),
            status => ApiError::Internal(format!("$connect answered {status}").into()),
        }))
    }

    async fn invoke(
        &self,
        event: ApiGatewayWebsocketProxyRequest,
    ) -> Result<ApiGatewayProxyResponse, ApiError> {
        let invocation = self.shared.tasks.spawn(self.shared.behind.functions.websocket(event));
        match timeout(self.shared.options.request_timeout, invocation).await {
            Ok(answer) => answer
                .unwrap_or_else(|panic| Err(InvokeError::new(FUNCTIONS.websocket.name, panic)))
                .map_err(|error| ApiError::Internal(Box::new(error))),
            Err(_) => Err(ApiError::Unavailable(None)),
        }
    }

    /// Upgrades the connection, and serves it in a task of its own.
    fn run(
        self,
        mut upgrade: WebSocketUpgrade,
        subprotocol: Option<HeaderValue>,
        queue: mpsc::Receiver<Utf8Bytes>,
    ) -> Response {
        let options = &self.shared.options;
        if let Some(subprotocol) = subprotocol {
            upgrade.set_selected_protocol(subprotocol);
        }
        let upgrade = upgrade
            .max_frame_size(options.max_frame_bytes)
            .max_message_size(options.max_message_bytes)
            // This much is allocated for every connection at once; a larger message grows the buffer.
            .read_buffer_size(READ_BUFFER_BYTES)
            // Messages are written through at once. They wait only in the connection's bounded queue.
            .write_buffer_size(0);
        // A stop of the gateway waits for this token, from the handshake to the end of `$disconnect`.
        let running = self.shared.tasks.token();
        let session = Arc::new(self);
        let failed = session.clone();
        let failed_running = session.shared.tasks.token();
        upgrade
            .on_failed_upgrade(move |_| {
                tokio::spawn(async move {
                    let reason = "the handshake broke off".to_owned();
                    failed.disconnect(Ended { code: ABNORMAL, reason }).await;
                    drop(failed_running);
                });
            })
            .on_upgrade(move |socket| async move {
                let abort = session.shared.abort.clone();
                let ended = tokio::select! {
                    ended = session.talk(socket, queue) => ended,
                    () = abort.cancelled() => Ended { code: ABNORMAL, reason: "cut off".to_owned() },
                };
                session.disconnect(ended).await;
                drop(running);
            })
    }

    async fn talk(&self, socket: WebSocket, queue: mpsc::Receiver<Utf8Bytes>) -> Ended {
        let (sink, stream) = socket.split();
        let reading = async {
            let ended = self.read(stream).await;
            // Wakes the writer if the client has closed the connection.
            self.connection.closed.cancel();
            ended
        };
        let (ended, (), ()) = tokio::join!(reading, self.write(sink, queue), self.renew());
        let ours = self.connection.closing();
        ours.map_or(ended, |closing| Ended { code: closing.code, reason: closing.reason.to_owned() })
    }

    /// Takes the session off the open connections. False if that was done before.
    fn leave(&self) -> bool {
        self.connection.closed.cancel();
        self.shared.connections.remove(&self.connection.id);
        !self.has_left.swap(true, Ordering::SeqCst)
    }

    /// The event of `$disconnect`.
    fn ended(&self, ended: Ended) -> ApiGatewayWebsocketProxyRequest {
        let now = self.shared.behind.clock.now_ms();
        socket_event::disconnect(&self.connection, ended.code, ended.reason, &self.domain, now)
    }

    async fn disconnect(&self, ended: Ended) {
        self.leave();
        if let Err(error) = self.invoke(self.ended(ended)).await {
            tracing::warn!(connection = %self.connection.id, %error,
                "gateway.disconnect: $disconnect failed; the next push to it is answered 410");
        }
    }

    /// Reads until the client closes the connection, or until this side closes it and the client has answered.
    async fn read(&self, mut stream: SplitStream<WebSocket>) -> Ended {
        let options = &self.shared.options;
        let silence = options.ping_every * 3;
        let mut allowance = Allowance::new(options.messages_per_second);
        let abnormal = |reason: String| Ended { code: ABNORMAL, reason };
        loop {
            let received = tokio::select! {
                received = timeout(silence, stream.next()) => received,
                () = self.connection.closed.cancelled() => break,
            };
            let message = match received {
                Err(_) => {
                    self.connection.close(DEAD);
                    break;
                }
                Ok(None) => return abnormal("the connection broke off".to_owned()),
                Ok(Some(Err(error))) => {
                    let Some(fault) = fault_of(error) else {
                        return abnormal("the connection broke off".to_owned());
                    };
                    self.connection.close(fault);
                    break;
                }
                Ok(Some(Ok(message))) => message,
            };
            if !allowance.take() {
                self.connection.close(TOO_MANY);
                break;
            }
            match message {
                Message::Text(text) => self.message(&text).await,
                Message::Binary(_) => {
                    self.connection.close(BINARY);
                    break;
                }
                Message::Close(frame) => return ended_by(frame),
                // The library answers a ping. A pong only shows that the client is alive.
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
        // The writer sends the close frame. Wait for the client's.
        let answered = async { while let Some(Ok(_)) = stream.next().await {} };
        let _ = timeout(CLOSE_TIMEOUT, answered).await;
        abnormal(String::new())
    }

    /// Keeps the connection registered: sends a ping in the client's name and ignores the answer. If the registration
    /// is missing, the function closes the connection. On AWS only the client's own pings renew a registration.
    async fn renew(&self) {
        loop {
            // At random, so that connections that began together do not renew together.
            let pause = self.shared.options.renew_every.mul_f64(rand::random_range(0.75..1.25));
            tokio::select! {
                () = self.connection.closed.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let now = self.shared.behind.clock.now_ms();
            let event = socket_event::message(&self.connection, PING.to_owned(), &self.domain, now);
            if let Err(error) = self.invoke(event).await {
                tracing::debug!(connection = %self.connection.id, %error, "gateway.renew: the next will do");
            }
        }
    }

    /// Returns when the client's token has ended. Never returns if the end of the token is not known.
    async fn token_ended(&self) {
        let Some(end) = self.connection.client.token_ends_at else {
            return std::future::pending().await;
        };
        loop {
            let left = end.saturating_sub(self.shared.behind.clock.now_ms());
            let Ok(left) = u64::try_from(left).map(Duration::from_millis) else { return };
            if left.is_zero() {
                return;
            }
            // The wall clock may be set, or go on while the machine sleeps, so look again from time to time.
            tokio::time::sleep(left.min(self.shared.options.ping_every)).await;
        }
    }

    /// Hands one message to `$default` and sends the answer to the client.
    async fn message(&self, text: &str) {
        let now = self.shared.behind.clock.now_ms();
        self.connection.active(now);
        let event = socket_event::message(&self.connection, text.to_owned(), &self.domain, now);
        let body = match self.invoke(event).await {
            Ok(answer) => match answer.body {
                Some(EventBody::Text(text)) if !text.is_empty() => text,
                _ => return,
            },
            Err(error) => {
                tracing::warn!(connection = %self.connection.id, %error, "gateway.message: $default failed");
                // The text that API Gateway sends when an integration fails.
                format!(
                    r#"{{"message":"Internal server error","connectionId":"{}","requestId":"{}"}}"#,
                    self.connection.id,
                    event::request_id()
                )
            }
        };
        // If the queue has no room, the connection is closing already.
        let _ = self.connection.send(body.into(), self.shared.behind.clock.now_ms());
    }

    /// Writes queued messages and pings, and in the end the close frame.
    async fn write(&self, mut sink: SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<Utf8Bytes>) {
        let options = &self.shared.options;
        let mut ping = tokio::time::interval_at(Instant::now() + options.ping_every, options.ping_every);
        let mut idle_since = (self.connection.last_active_at(), Instant::now());
        loop {
            let message = tokio::select! {
                biased;
                () = self.connection.closed.cancelled() => break,
                () = self.token_ended() => {
                    self.connection.close(TOKEN_ENDED);
                    break;
                }
                Some(text) = queue.recv() => {
                    self.connection.taken(text.len());
                    Message::Text(text)
                }
                _ = ping.tick() => {
                    let last = self.connection.last_active_at();
                    if last != idle_since.0 {
                        idle_since = (last, Instant::now());
                    } else if idle_since.1.elapsed() >= options.idle_timeout {
                        self.connection.close(IDLE);
                        break;
                    }
                    Message::Ping(bytes::Bytes::new())
                }
            };
            match timeout(options.send_timeout, sink.send(message)).await {
                Ok(Ok(())) => {}
                // The reader meets the same broken connection and reports it.
                Ok(Err(_)) => break,
                Err(_) => {
                    self.connection.close(STALLED);
                    break;
                }
            }
        }
        if let Some(Closing { code, reason }) = self.connection.closing() {
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            let _ = timeout(CLOSE_TIMEOUT, sink.send(Message::Close(Some(frame)))).await;
        } else {
            // Flushing sends the answer to the client's close frame.
            let _ = timeout(CLOSE_TIMEOUT, sink.close()).await;
        }
    }
}

/// The fault of the client by which it broke the protocol; `None` if the connection itself broke.
fn fault_of(error: axum::Error) -> Option<Closing> {
    match *error.into_inner().downcast::<tungstenite::Error>().ok()? {
        tungstenite::Error::Capacity(_) => Some(TOO_BIG),
        tungstenite::Error::Utf8(_) => Some(NOT_TEXT),
        // The client went away without a close frame, which breaks no rule of the protocol.
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        tungstenite::Error::Protocol(_) => Some(NOT_THE_PROTOCOL),
        _ => None,
    }
}

fn ended_by(frame: Option<CloseFrame>) -> Ended {
    match frame {
        Some(frame) => Ended { code: frame.code, reason: frame.reason.to_string() },
        None => Ended { code: 1005, reason: "Client-side close frame status not set".to_owned() },
    }
}

/// A limit on messages a second. A client may send that many at once.
struct Allowance {
    per_second: f64,
    left: f64,
    counted: Instant,
}

impl Allowance {
    fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, left: per_second, counted: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let earned = now.duration_since(self.counted).as_secs_f64() * self.per_second;
        self.left = (self.left + earned).min(self.per_second);
        self.counted = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}
