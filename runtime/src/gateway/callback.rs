//! `/@connections/{id}`: the interface by which functions reach a client, as API Gateway serves it. Only this machine
//! may call it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::ws::Utf8Bytes;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hongyan::clock::TimestampMs;
use hongyan::trace;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use serde_json::json;

use super::connections::{DELETED, SUPERSEDED};
use super::shared::Shared;

/// Lets only loopback peers through. API Gateway checks a signature here; this gateway checks that the caller is on
/// this machine.
pub(super) async fn loopback_only(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    if peer.ip().to_canonical().is_loopback() {
        next.run(request).await
    } else {
        message(StatusCode::FORBIDDEN, "Forbidden")
    }
}

/// Answers 200 once the message is queued, 410 if the connection is gone, 413 above 128 KiB.
pub(super) async fn post(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Body) -> Response {
    let Some(connection) = shared.connections.get(&id) else {
        return gone();
    };
    let body = Limited::new(body, shared.options.max_message_bytes).collect();
    let Ok(Ok(body)) = tokio::time::timeout(shared.options.body_timeout, body).await else {
        return message(StatusCode::PAYLOAD_TOO_LARGE, "the message is too large, or broke off");
    };
    let Ok(text) = Utf8Bytes::try_from(body.to_bytes()) else {
        return message(StatusCode::BAD_REQUEST, "the message is not UTF-8");
    };
    match connection.send(text, shared.behind.clock.now_ms()) {
        Ok(()) => {
            if trace::is_recorded() {
                tracing::info!(connection = %id, "gateway.push: the push is on its way to the client");
            }
            StatusCode::OK.into_response()
        }
        Err(_) => gone(),
    }
}

/// Answers 200 and the data of the connection, or 410.
pub(super) async fn get(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let Some(connection) = shared.connections.get(&id) else {
        return gone();
    };
    Json(json!({
        "connectedAt": iso(connection.connected_at),
        "lastActiveAt": iso(connection.last_active_at()),
        "identity": { "sourceIp": connection.client.source_ip, "userAgent": connection.client.user_agent },
    }))
    .into_response()
}

/// Answers 204 and closes the connection, or 410. With `?code=4409` the client is told that it gives way to a newer
/// connection; API Gateway has nothing like it.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let superseded = query.is_some_and(|query| query == format!("code={}", SUPERSEDED.code));
    let closing = if superseded { SUPERSEDED } else { DELETED };
    if shared.connections.delete(&id, closing, shared.behind.clock.now_ms()) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        gone()
    }
}

fn gone() -> Response {
    let mut response = message(StatusCode::GONE, "Gone");
    response.headers_mut().insert("x-amzn-errortype", http::HeaderValue::from_static("GoneException"));
    response
}

fn message(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "message": text }))).into_response()
}

/// For example `2024-11-27T16:00:00.000Z`.
fn iso(time: TimestampMs) -> String {
    let time = chrono::DateTime::from_timestamp_millis(time).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
