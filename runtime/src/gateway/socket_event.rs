//! Builds the events of a WebSocket API as AWS sends them.

use std::collections::HashMap;

use aws_lambda_events::apigw::{
    ApiGatewayRequestIdentity, ApiGatewayWebsocketProxyRequest, ApiGatewayWebsocketProxyRequestContext,
};
use hongyan::clock::TimestampMs;
use http::HeaderMap;
use http::request::Parts;

use super::connections::Connection;
use super::event::{query_parameters, request_id, request_time, text};

const API: &str = "local-websocket";
const STAGE: &str = "local";

/// `$connect`: the handshake with its headers and query.
pub(super) fn connect(
    connection: &Connection,
    parts: &Parts,
    domain: &str,
    now: TimestampMs,
) -> ApiGatewayWebsocketProxyRequest {
    let mut event = event(connection, "$connect", "CONNECT", domain, now);
    for name in parts.headers.keys() {
        let values: Vec<_> =
            parts.headers.get_all(name).iter().filter(|value| value.to_str().is_ok()).collect();
        for &value in &values {
            event.multi_value_headers.append(name, value.clone());
        }
        // Of several headers with one name, API Gateway shows the last one here.
        if let Some(&last) = values.last() {
            event.headers.insert(name, last.clone());
        }
    }
    let query = parts.uri.query().unwrap_or_default();
    event.multi_value_query_string_parameters = query_parameters(query);
    let last: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    event.query_string_parameters = last.into();
    event
}

/// `$default`: a message from the client.
pub(super) fn message(
    connection: &Connection,
    body: String,
    domain: &str,
    now: TimestampMs,
) -> ApiGatewayWebsocketProxyRequest {
    let mut event = event(connection, "$default", "MESSAGE", domain, now);
    event.request_context.message_id = Some(request_id());
    event.body = Some(body);
    event
}

/// `$disconnect`: the connection has ended, with this code and reason.
pub(super) fn disconnect(
    connection: &Connection,
    code: u16,
    reason: String,
    domain: &str,
    now: TimestampMs,
) -> ApiGatewayWebsocketProxyRequest {
    let mut event = event(connection, "$disconnect", "DISCONNECT", domain, now);
    event.request_context.disconnect_status_code = Some(i64::from(code));
    event.request_context.disconnect_reason = Some(reason);
    event
}

fn event(
    connection: &Connection,
    route: &str,
    kind: &str,
    domain: &str,
    now: TimestampMs,
) -> ApiGatewayWebsocketProxyRequest {
    let mut identity = ApiGatewayRequestIdentity::default();
    identity.source_ip = Some(connection.client.source_ip.clone());
    identity.user_agent = Some(connection.client.user_agent.clone());

    let request_id = request_id();
    let mut context = ApiGatewayWebsocketProxyRequestContext::default();
    context.route_key = Some(route.to_owned());
    context.event_type = Some(kind.to_owned());
    context.extended_request_id = Some(request_id.clone());
    context.request_time = Some(request_time(now));
    context.message_direction = Some("IN".to_owned());
    context.stage = Some(STAGE.to_owned());
    context.connected_at = connection.connected_at;
    context.request_time_epoch = now;
    context.identity = identity;
    context.request_id = Some(request_id);
    context.domain_name = Some(domain.to_owned());
    context.connection_id = Some(connection.id.clone());
    context.apiid = Some(API.to_owned());

    let mut event = ApiGatewayWebsocketProxyRequest::default();
    event.request_context = context;
    event
}

/// The `User-Agent` header of the handshake.
pub(super) fn user_agent(headers: &HeaderMap) -> String {
    text(headers, &http::header::USER_AGENT).unwrap_or_default()
}
