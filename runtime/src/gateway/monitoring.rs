//! `GET /health`, `GET /ready` and `GET /metrics`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hongyan::error::ApiError;
use http::{StatusCode, header};
use serde_json::json;

use super::response;
use super::shared::Shared;

/// Answers 200 if all servers answer, else 503. The body names the status of each.
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let report = shared.checks.ask(&shared.behind.health).await;
    let code = if report.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(report)).into_response()
}

/// Answers 200 while new requests may be sent here, and 503 from the beginning of a stop. A server that is away does
/// not matter: it is away for other nodes too, and most requests are answered without it.
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    if shared.leaving.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "stopping" }))).into_response()
    } else {
        Json(json!({ "status": "ready" })).into_response()
    }
}

/// Answers in Prometheus' text format.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match &shared.behind.metrics {
        Some(metrics) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics()).into_response()
        }
        None => response::problem(&ApiError::NotFound("this process keeps no metrics")),
    }
}
