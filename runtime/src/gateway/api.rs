//! One request of the HTTP API: route, authorizer, event, function, answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use hongyan::error::ApiError;
use hongyan::telemetry::metric;
use http::{HeaderMap, HeaderValue, Method, header};

use super::routes::{self, Matched, NoRoute};
use super::{Shared, event, response};
use crate::host::InvokeError;

/// Every path that is not the gateway's own.
pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let begun = Instant::now();
    let found = routes::find(request.method(), request.uri().path());
    let route = found.as_ref().map_or("none", |matched| matched.route.path);
    let answer = match found {
        Ok(matched) => {
            let limit = shared.options.request_timeout;
            let answer = tokio::time::timeout(limit, answer(&shared, request, matched, peer)).await;
            let answer = answer.unwrap_or_else(|_| {
                tracing::warn!(route, "gateway.request: no answer within the time limit; answered 503");
                Err(ApiError::Unavailable(None))
            });
            answer.unwrap_or_else(|error| response::problem(&error))
        }
        Err(NoRoute::Path) => response::problem(&ApiError::NotFound("there is no such path")),
        Err(NoRoute::Method(allowed)) => method_not_allowed(&allowed),
    };
    let status = answer.status().as_u16().to_string();
    metrics::histogram!(metric::HTTP_SECONDS, "route" => route, "status" => status)
        .record(begun.elapsed().as_secs_f64());
    answer
}

/// 405, with what the path has instead.
fn method_not_allowed(allowed: &[Method]) -> Response {
    let mut answer = response::problem(&ApiError::MethodNotAllowed);
    let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
        answer.headers_mut().insert(header::ALLOW, allowed);
    }
    answer
}

async fn answer(
    shared: &Arc<Shared>,
    request: Request,
    matched: Matched,
    peer: SocketAddr,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let token = bearer(&parts.headers).ok_or(ApiError::Unauthorized)?;
    let caller = shared.behind.auth.check(token).await?;
    let body = shared.room.read(&shared.options, &parts.headers, body).await?;
    let function = matched.route.function;
    let event = event::build(&parts, matched, &caller, &body.bytes, peer, shared.behind.clock.now_ms());
    // In a task of its own: a caller that goes away does not stop a function half-way, as it does not in Lambda.
    let invoked = shared.tasks.spawn(shared.behind.functions.http(function, event)).await;
    let invoked = invoked
        .map_err(|panic| InvokeError::new(function.name, panic))
        .and_then(|answer| answer)
        .map_err(|error| ApiError::Internal(Box::new(error)))?;
    response::from_function(invoked).map_err(|error| ApiError::Internal(Box::new(error)))
}

/// The token of `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110, 11.1). A token without a scheme
/// is taken too, as API Gateway's authorizer takes it.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    match value.split_once(' ') {
        Some((scheme, token)) => scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()),
        None => Some(value),
    }
}
