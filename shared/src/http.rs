//! The edge of the HTTP functions: reads an API Gateway event into types, and writes a handler's result as the answer.
//!
//! Ids are JSON strings in answers. Every error becomes RFC 9457 `application/problem+json` here and nowhere else
//! (`docs/contract.md`, "HTTP").

use std::borrow::Cow;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::Auth;
use crate::clock::TimestampMs;
use crate::error::ApiError;
use crate::id::{ConversationId, MessageId, UserId};
use crate::json;
use crate::message::{CHAT_TYPE_PRIVATE, ClientMessageId, Message, MessageType, PersistStatus, Status};
use crate::telemetry::responses;
use crate::trace::{self, TraceId};

/// The value of `Retry-After` in a 503, seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// The caller: the claim `JWT_USER_CLAIM` of the token that the authorizer checked. No function takes the caller's id from
/// a body or a query.
pub fn caller(request: &ApiGatewayV2httpRequest, auth: &Auth) -> Result<UserId, ApiError> {
    let claims = request.request_context.authorizer.as_ref().and_then(|authorizer| authorizer.jwt.as_ref());
    let user = claims.and_then(|jwt| jwt.claims.get(auth.user_claim())).ok_or(ApiError::Unauthorized)?;
    user.parse().map_err(|_| ApiError::Unauthorized)
}

/// The key of the route of the request, e.g. `GET /unread`; empty if the event names none.
pub fn route_key(request: &ApiGatewayV2httpRequest) -> &str {
    request.request_context.route_key.as_deref().unwrap_or_default()
}

/// 404 for a request whose route the function does not serve.
pub fn no_such_route<T>() -> Result<T, ApiError> {
    Err(ApiError::NotFound("there is no such route"))
}

/// The JSON body as `T`. An error is a 400.
pub fn json_body<T: DeserializeOwned>(request: &ApiGatewayV2httpRequest) -> Result<T, ApiError> {
    let body = request.body.as_deref().unwrap_or_default();
    let bytes = if request.is_base64_encoded {
        let decoded = base64::engine::general_purpose::STANDARD.decode(body);
        Cow::Owned(decoded.map_err(|_| ApiError::InvalidRequest("the body is not valid base64".to_owned()))?)
    } else {
        Cow::Borrowed(body.as_bytes())
    };
    json::object_from_slice(&bytes)
        .map_err(|error| ApiError::InvalidRequest(format!("the body is not what it must be: {error}")))
}

/// The message id in the path (`{id}`).
pub fn path_message_id(request: &ApiGatewayV2httpRequest) -> Result<MessageId, ApiError> {
    Ok(path_parameter(request, "id")?.parse()?)
}

/// The conversation of the caller and the other user in the path (`{peerId}`).
pub fn path_conversation(
    request: &ApiGatewayV2httpRequest,
    caller: UserId,
) -> Result<ConversationId, ApiError> {
    let peer: UserId = path_parameter(request, "peerId")?.parse()?;
    Ok(ConversationId::between(caller, peer)?)
}

/// The user that the path parameter `userId` names, who is not the caller.
pub fn path_other_user(request: &ApiGatewayV2httpRequest, caller: UserId) -> Result<UserId, ApiError> {
    let other: UserId = path_parameter(request, "userId")?.parse()?;
    if other == caller {
        return Err(ApiError::InvalidRequest("userId must be another user".to_owned()));
    }
    Ok(other)
}

fn path_parameter<'a>(request: &'a ApiGatewayV2httpRequest, name: &str) -> Result<&'a str, ApiError> {
    let value = request.path_parameters.get(name).map(String::as_str);
    value.ok_or_else(|| ApiError::InvalidRequest(format!("the path has no {name}")))
}

/// The value of `name` in the query, if there is one. API Gateway joins several values of one name with commas, so a
/// value with a comma counts as several; no value of ours has one.
pub fn query_parameter<'a>(
    request: &'a ApiGatewayV2httpRequest,
    name: &str,
) -> Result<Option<&'a str>, ApiError> {
    match request.query_string_parameters.all(name).as_deref() {
        None => Ok(None),
        Some([value]) => Ok(Some(value)),
        Some(_) => Err(ApiError::InvalidRequest(format!("give {name} once, with one value"))),
    }
}

/// A message in an answer: ids as strings, times in ms since 1970 UTC.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    id: String,
    conversation_id: ConversationId,
    from_user_id: String,
    to_id: String,
    content: String,
    msg_type: MessageType,
    chat_type: u8,
    send_time: TimestampMs,
    status: Status,
    recall_time: Option<TimestampMs>,
    persist_status: PersistStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_msg_id: Option<ClientMessageId>,
    seq: Option<i64>,
}

impl MessageView {
    /// The message for `viewer`. Only the sender sees the `clientMsgId`.
    pub fn of(message: Message, viewer: UserId) -> Self {
        Self {
            id: message.id.to_string(),
            conversation_id: message.conversation(),
            from_user_id: message.from.to_string(),
            to_id: message.to.to_string(),
            content: message.content,
            msg_type: message.kind,
            chat_type: CHAT_TYPE_PRIVATE,
            send_time: message.send_time,
            status: message.status,
            recall_time: message.recall_time,
            persist_status: message.persist_status,
            client_msg_id: message.client_msg_id.filter(|_| message.from == viewer),
            seq: message.seq,
        }
    }
}

/// The result of a handler: an answer with a body, or without one.
#[derive(Debug)]
pub enum Reply<T> {
    /// 200 with `T` as JSON.
    Ok(T),
    /// 201 with `T` as JSON: something was created.
    Created(T),
    /// 204, no body.
    NoContent,
}

/// Turns a handler's result into the answer for API Gateway. Internal errors are logged here, and only here.
fn respond<T: Serialize>(result: Result<Reply<T>, ApiError>) -> ApiGatewayV2httpResponse {
    let written = match result {
        Ok(Reply::Ok(body)) => json_response(200, "application/json", &body),
        Ok(Reply::Created(body)) => json_response(201, "application/json", &body),
        Ok(Reply::NoContent) => Ok(empty_response(204)),
        Err(error) => return problem(&error),
    };
    written.unwrap_or_else(|error| problem(&ApiError::Internal(Box::new(error))))
}

/// Like [`respond`], and counts the answer of `function` to `route` ([`responses::count`]).
pub fn respond_to<T: Serialize>(
    function: &'static str,
    route: &'static str,
    result: Result<Reply<T>, ApiError>,
) -> ApiGatewayV2httpResponse {
    let response = respond(result);
    responses::count(function, route, response.status_code);
    if trace::is_recorded() {
        tracing::info!(function, route, status = response.status_code, "http.answer: answered");
    }
    response
}

/// The body of an error, by RFC 9457.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'a str,
    trace_id: TraceId,
}

/// The answer for `error`. A fault that the caller cannot correct is logged.
pub fn problem(error: &ApiError) -> ApiGatewayV2httpResponse {
    match error {
        ApiError::Internal(cause) => {
            tracing::error!(cause = %cause, "http.internal: answered 500; this is a fault of ours");
        }
        ApiError::Unavailable(Some(cause)) => {
            tracing::warn!(cause = %cause, "http.unavailable: answered 503; the caller may retry");
        }
        _ => {}
    }
    let body = Problem {
        kind: "about:blank",
        title: error.title(),
        status: error.status(),
        detail: error.to_string(),
        code: error.code(),
        trace_id: trace::current().unwrap_or_default().id(),
    };
    // A struct of numbers and strings always becomes JSON. If it did not, the status alone would answer.
    let mut response = json_response(error.status(), "application/problem+json", &body)
        .unwrap_or_else(|_| empty_response(error.status()));
    match error {
        ApiError::RateLimited { retry_after } => {
            let seconds = retry_after.as_millis().div_ceil(1_000).max(1);
            response
                .headers
                .insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        ApiError::Unavailable(_) => {
            response.headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        ApiError::Unauthorized => {
            response.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        _ => {}
    }
    response
}

fn json_response<T: Serialize>(
    status: u16,
    content_type: &'static str,
    body: &T,
) -> serde_json::Result<ApiGatewayV2httpResponse> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let mut response = empty_response(status);
    response.body = Some(Body::Text(serde_json::to_string(body)?));
    response.headers = headers;
    Ok(response)
}

fn empty_response(status: u16) -> ApiGatewayV2httpResponse {
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = i64::from(status);
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{Retry, Server, ServerError};

    fn server_error() -> ServerError {
        ServerError {
            server: Server::Redis,
            action: "test",
            retry: Retry::Transient,
            source: "secret host name".into(),
        }
    }

    /// The table "Errors" of `docs/contract.md`.
    #[test]
    fn every_error_has_its_status_and_code_and_says_nothing_of_the_inside() {
        let table = [
            (ApiError::InvalidRequest("limit must be 1 to 100".to_owned()), 400, "invalid_request"),
            (ApiError::Unauthorized, 401, "unauthorized"),
            (ApiError::NotSender, 403, "not_sender"),
            (ApiError::no_such_message(), 404, "not_found"),
            (ApiError::MethodNotAllowed, 405, "method_not_allowed"),
            (ApiError::RecallWindowClosed(Duration::from_mins(5)), 409, "recall_window_closed"),
            (ApiError::ClientMsgIdConflict, 409, "client_msg_id_conflict"),
            (ApiError::ContentTooLarge { max_bytes: 8192 }, 413, "content_too_large"),
            (ApiError::Blocked, 403, "blocked"),
            (ApiError::TooManyBlocks(1), 409, "too_many_blocks"),
            (ApiError::RateLimited { retry_after: Duration::from_millis(1) }, 429, "rate_limited"),
            (ApiError::Internal(Box::new(server_error())), 500, "internal"),
            (ApiError::Unavailable(Some(server_error())), 503, "unavailable"),
        ];
        for (error, status, code) in table {
            let response = problem(&error);
            assert_eq!(response.status_code, status);
            assert_eq!(response.headers[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(
                response.headers.contains_key(header::RETRY_AFTER),
                [429, 503].contains(&status),
                "{code}"
            );
            let Some(Body::Text(body)) = response.body else { panic!("{code} has no body") };
            assert!(!body.contains("secret host name"), "{body}");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (&body["status"], &body["code"]),
                (&serde_json::json!(status), &serde_json::json!(code))
            );
            assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
        }
    }
}
