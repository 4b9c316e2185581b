//! The event of an HTTP API (payload format 2.0), as AWS sends it.

use std::collections::HashMap;
use std::net::SocketAddr;

use aws_lambda_events::apigw::{
    ApiGatewayRequestAuthorizer, ApiGatewayRequestAuthorizerJwtDescription, ApiGatewayV2httpRequest,
    ApiGatewayV2httpRequestContext, ApiGatewayV2httpRequestContextHttpDescription,
};
use aws_lambda_events::query_map::QueryMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hongyan::auth::Verified;
use hongyan::clock::TimestampMs;
use hongyan::trace;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use rand::Rng as _;

use super::routes::Matched;

/// The account and API that local events are of.
pub(super) const ACCOUNT: &str = "000000000000";
const API: &str = "local";
const STAGE: &str = "$default";

/// Builds the event of a request that was routed and whose token was checked.
pub(super) fn build(
    parts: &Parts,
    matched: Matched,
    caller: &Verified,
    body: &Bytes,
    peer: SocketAddr,
    now: TimestampMs,
) -> ApiGatewayV2httpRequest {
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default();
    let route_key = matched.route.key.to_owned();
    let host = text(&parts.headers, &header::HOST);

    let mut http = ApiGatewayV2httpRequestContextHttpDescription::default();
    // Functions know GET only: a HEAD is handed on as its route's GET, and the server leaves the body out.
    http.method = matched.route.method.clone();
    http.path = Some(path.clone());
    http.protocol = Some(format!("{:?}", parts.version));
    http.source_ip = Some(peer.ip().to_string());
    http.user_agent = Some(text(&parts.headers, &header::USER_AGENT).unwrap_or_default());

    let mut jwt = ApiGatewayRequestAuthorizerJwtDescription::default();
    jwt.claims = caller.claims.clone().into_iter().collect();
    let mut authorizer = ApiGatewayRequestAuthorizer::default();
    authorizer.jwt = Some(jwt);

    let mut context = ApiGatewayV2httpRequestContext::default();
    context.route_key = Some(route_key.clone());
    context.account_id = Some(ACCOUNT.to_owned());
    context.stage = Some(STAGE.to_owned());
    context.request_id = Some(request_id());
    context.authorizer = Some(authorizer);
    context.apiid = Some(API.to_owned());
    context.domain_prefix = host.as_ref().map(|host| host.split('.').next().unwrap_or_default().to_owned());
    context.domain_name = host;
    context.time = Some(request_time(now));
    context.time_epoch = now;
    context.http = http;

    let mut event = ApiGatewayV2httpRequest::default();
    event.version = Some("2.0".to_owned());
    event.route_key = Some(route_key);
    event.raw_path = Some(path);
    event.raw_query_string = Some(query.to_owned());
    event.cookies = cookies(&parts.headers);
    event.headers = headers(&parts.headers, peer);
    event.query_string_parameters = query_parameters(query);
    event.path_parameters = matched.parameters;
    event.request_context = context;
    if !body.is_empty() {
        let text = std::str::from_utf8(body).ok();
        event.is_base64_encoded = text.is_none();
        event.body = Some(text.map_or_else(|| STANDARD.encode(body), str::to_owned));
    }
    event
}

/// A header as text, if it is there and is text.
pub(super) fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Names in lower case, several of one name joined by commas, cookies apart; and what API Gateway adds.
fn headers(received: &HeaderMap, peer: SocketAddr) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(received.len() + 3);
    for name in received.keys().filter(|name| **name != header::COOKIE) {
        let values: Vec<&[u8]> = received.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b','))
            && joined.to_str().is_ok()
        {
            headers.insert(name.clone(), joined);
        }
    }
    let added = [
        ("x-forwarded-for", peer.ip().to_string()),
        ("x-forwarded-proto", "http".to_owned()),
        (trace::XRAY, trace::current().unwrap_or_default().xray()),
    ];
    for (name, value) in added {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

fn cookies(received: &HeaderMap) -> Option<Vec<String>> {
    let cookies: Vec<String> = received
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split("; ").map(str::to_owned))
        .collect();
    (!cookies.is_empty()).then_some(cookies)
}

/// Percent-decoded. API Gateway joins several values of one name by commas, and what reads its event parts them
/// again: so a comma within a value also parts it.
pub(super) fn query_parameters(query: &str) -> QueryMap {
    let mut parameters: HashMap<String, Vec<String>> = HashMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let values = parameters.entry(name.into_owned()).or_default();
        values.extend(value.split(',').map(str::to_owned));
    }
    parameters.into()
}

/// An id as API Gateway makes them: letters, digits, `-` and `=`.
pub(super) fn request_id() -> String {
    format!("{}=", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 11]>()))
}

/// `12/Mar/2020:19:03:58 +0000`.
pub(super) fn request_time(now: TimestampMs) -> String {
    let time = chrono::DateTime::from_timestamp_millis(now).unwrap_or_default();
    time.format("%d/%b/%Y:%H:%M:%S %z").to_string()
}
