//! The routes `$connect`, `$default` and `$disconnect` of the WebSocket API (`docs/contract.md`, "WebSocket").
//!
//! Every event gets an answer. A client learns of its faults by an object of type `ERROR` and stays connected.

use std::convert::Infallible;
use std::time::Duration;

use aws_lambda_events::apigw::{
    ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest, ApiGatewayWebsocketProxyRequestContext,
};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use hongyan::app::App;
use hongyan::auth::Handshake;
use hongyan::blocks;
use hongyan::error::{ApiError, ServerError};
use hongyan::id::{ConversationId, UserId};
use hongyan::push::{PushEvent, Standing};
use hongyan::telemetry::responses::{self, NO_ROUTE};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

/// Handles one event of a WebSocket connection.
///
/// The answer to `$default` reaches the client as a message only if the route has a *route response*: `template.yaml`
/// sets one, and the local gateway acts as if it had one. The status of `$connect` decides the handshake. `$disconnect`
/// is best effort on AWS's side, so nothing may depend on it.
pub async fn handle(
    app: &App,
    event: ApiGatewayWebsocketProxyRequest,
) -> Result<ApiGatewayProxyResponse, Infallible> {
    let context = &event.request_context;
    let (route, outcome) = match (context.route_key.as_deref(), context.connection_id.as_deref()) {
        (_, None) => (NO_ROUTE, Err(ApiError::InvalidRequest("the event names no connection".to_owned()))),
        (Some("$connect"), Some(connection)) => ("$connect", connect(app, &event, connection).await),
        (Some("$disconnect"), Some(connection)) => ("$disconnect", disconnect(app, connection).await),
        (Some("$default"), Some(connection)) => ("$default", message(app, &event, connection).await),
        _ => {
            let reason = "the event is none of $connect, $disconnect and $default of a WebSocket API";
            (NO_ROUTE, Err(ApiError::InvalidRequest(reason.to_owned())))
        }
    };
    let answer = outcome.unwrap_or_else(|error| failure(&error));
    responses::count("websocket", route, answer.status_code);
    Ok(answer)
}

/// Registers the connection of a caller with a valid token.
async fn connect(
    app: &App,
    event: &ApiGatewayWebsocketProxyRequest,
    connection: &str,
) -> Result<ApiGatewayProxyResponse, ApiError> {
    // Of several headers of one name, `headers` has only the last.
    let all = &event.multi_value_headers;
    let headers = if all.contains_key(SEC_WEBSOCKET_PROTOCOL) { all } else { &event.headers };
    let handshake = Handshake::read(headers, event.query_string_parameters.first("token"));
    let caller = app.auth.check(handshake.token.ok_or(ApiError::Unauthorized)?).await?;
    app.push.connected(caller.user, connection, caller.ends_at).await?;
    tracing::debug!(user = %caller.user, %connection, "websocket.connect: connected");
    let mut connected = answer(200, None);
    if let Some(subprotocol) = handshake.subprotocol {
        connected.headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    Ok(connected)
}

async fn disconnect(app: &App, connection: &str) -> Result<ApiGatewayProxyResponse, ApiError> {
    // While Redis is away the connection stays registered, until the next push to it is answered 410.
    app.push.disconnected(connection).await.inspect_err(|error| {
        tracing::warn!(%connection, %error, "websocket.disconnect: the connection is still registered; the next push removes it");
    })?;
    Ok(answer(200, None))
}

/// The least time between two TYPING pushes of one user to one peer.
const TYPING_EVERY: Duration = Duration::from_secs(3);

/// The messages of clients.
#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Said {
    /// Asks whether the connection is alive, and renews its registration.
    Ping,
    /// Tells `to_id` that the user of the connection is typing.
    #[serde(rename_all = "camelCase")]
    Typing { to_id: UserId },
}

async fn message(
    app: &App,
    event: &ApiGatewayWebsocketProxyRequest,
    connection: &str,
) -> Result<ApiGatewayProxyResponse, ApiError> {
    let close = async || app.push.close(own_endpoint(&event.request_context).as_ref(), connection).await;
    let user = match app.push.renew(connection).await? {
        Standing::Registered(user) => user,
        // The registration was evicted, or Redis lost its data, so no push would find this connection. Closing it is
        // better than silently skipping it: the client connects again and catches up.
        Standing::Unknown => {
            tracing::warn!(%connection, "websocket.message: the connection is not registered; closing it");
            close().await;
            return Ok(answer(410, None));
        }
        // On AWS nothing happens when a token ends, so its connection ends with the next message.
        Standing::Ended => {
            tracing::debug!(%connection, "websocket.message: the token has ended; closing the connection");
            disconnect(app, connection).await?;
            close().await;
            return Err(ApiError::Unauthorized);
        }
    };
    let said = event.body.as_deref().unwrap_or_default();
    match hongyan::json::object_from_slice(said.as_bytes()) {
        Ok(Said::Ping) => Ok(answer(200, Some(&json!({ "type": "PONG" })))),
        Ok(Said::Typing { to_id }) => {
            tell_typing(app, user, to_id).await?;
            Ok(answer(200, None))
        }
        Err(error) => Err(ApiError::InvalidRequest(format!(
            "the message is neither {{\"action\":\"ping\"}} nor {{\"action\":\"typing\",\"toId\":\"2\"}}: {error}"
        ))),
    }
}

/// Pushes TYPING to the peer's connections: at most once in 3 s, and not to a peer who has blocked the user. Nothing is stored, and
/// no fault of a server is worth an answer.
async fn tell_typing(app: &App, user: UserId, peer: UserId) -> Result<(), ApiError> {
    let conversation = ConversationId::between(user, peer)?;
    match app.cache.may_tell_typing(user, peer, TYPING_EVERY).await {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(error) => {
            tracing::debug!(%error, "websocket.typing: Redis does not answer; the peer is not told");
            return Ok(());
        }
    }
    if !blocks::has_blocked(app, peer, user).await {
        let event = PushEvent::Typing { conversation_id: conversation, from_user_id: user };
        app.push.to_users(&[peer], &event).await;
    }
    Ok(())
}

/// The `@connections` address of the API that sent the event.
fn own_endpoint(context: &ApiGatewayWebsocketProxyRequestContext) -> Option<Url> {
    let (domain, stage) = (context.domain_name.as_deref()?, context.stage.as_deref()?);
    Url::parse(&format!("https://{domain}/{stage}")).ok()
}

/// An error as the client of the WebSocket gets it. A fault that the client cannot correct is logged.
fn failure(error: &ApiError) -> ApiGatewayProxyResponse {
    match error {
        ApiError::Unavailable(cause) => {
            let cause = cause.as_ref().map(ServerError::to_string).unwrap_or_default();
            tracing::warn!(%cause, "websocket.unavailable: the client may try again");
        }
        ApiError::Internal(cause) => tracing::error!(%cause, "websocket.internal: this is a fault of ours"),
        _ => {}
    }
    let body = json!({ "type": "ERROR", "code": error.code(), "detail": error.to_string() });
    answer(error.status(), Some(&body))
}

fn answer(status: u16, body: Option<&Value>) -> ApiGatewayProxyResponse {
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = i64::from(status);
    response.body = body.map(|body| Body::Text(body.to_string()));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_ping_or_typing_and_nothing_else() {
        let read = |text: &str| hongyan::json::object_from_slice::<Said>(text.as_bytes());
        assert!(read(r#"{"action":"ping","more":1}"#).is_ok());
        assert!(
            read(r#"{"action":"typing","toId":"2"}"#).is_ok()
                && read(r#"{"action":"typing","toId":2}"#).is_ok()
        );
        for wrong in [
            "",
            "ping",
            "[]",
            r#"["ping"]"#,
            "null",
            "{}",
            r#"{"action":"send"}"#,
            r#"{"action":1}"#,
            r#"{"action":"typing"}"#,
            r#"{"action":"typing","toId":"0"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_client_is_told_of_its_fault_but_not_of_ours() {
        let response = failure(&ApiError::Internal("secret".into()));
        let Some(Body::Text(body)) = response.body else { panic!("no body") };
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((body["type"].as_str(), body["code"].as_str()), (Some("ERROR"), Some("internal")));
        assert!(!body.to_string().contains("secret"));
    }
}
