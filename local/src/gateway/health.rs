//! `GET /health` and `GET /metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use hongyan::error::{ApiError, Server, ServerError};
use http::{StatusCode, header};
use serde::Serialize;

use super::{Shared, response};

/// One server, asked whether it answers.
#[derive(Debug)]
pub struct ServerHealth {
    /// Which.
    pub server: Server,
    /// Whether it did.
    pub answer: Result<(), ServerError>,
}

/// Asks all three servers, bounded in time.
pub type HealthCheck = Arc<dyn Fn() -> BoxFuture<'static, Vec<ServerHealth>> + Send + Sync>;

#[derive(Serialize)]
struct Report {
    /// `ok` or `unavailable`.
    status: &'static str,
    /// Each server by name: `ok` or `unavailable`.
    servers: BTreeMap<&'static str, &'static str>,
}

/// 200 when all answer, 503 naming which does not.
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let asked = (shared.behind.health)().await;
    let mut servers = BTreeMap::new();
    for ServerHealth { server, answer } in asked {
        if let Err(error) = &answer {
            tracing::warn!(%error, "gateway.health: a server does not answer");
        }
        servers.insert(server.as_str(), if answer.is_ok() { "ok" } else { "unavailable" });
    }
    let well = servers.values().all(|server| *server == "ok");
    let (code, status) =
        if well { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    (code, Json(Report { status, servers })).into_response()
}

/// Prometheus' text format.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match &shared.behind.metrics {
        Some(metrics) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
                .into_response()
        }
        None => response::problem(&ApiError::NotFound("this process keeps no metrics")),
    }
}
