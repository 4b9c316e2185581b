//! `DELETE /messages/{id}` and `DELETE /conversations/{peerId}/messages`: hide one message, or every message up to one, from
//! the caller's own history. The other user still sees them.

use std::convert::Infallible;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, Reply};
use hongyan::id::MessageId;
use hongyan::lookup;
use hongyan::push::PushEvent;
use hongyan::telemetry::responses::NO_ROUTE;

const DELETE: &str = "DELETE /messages/{id}";
const CLEAR: &str = "DELETE /conversations/{peerId}/messages";

/// Answers one request to either route. Every failure is an answer too.
#[tracing::instrument(name = "delete", skip_all)]
pub async fn handle(
    app: &App,
    event: ApiGatewayV2httpRequest,
) -> Result<ApiGatewayV2httpResponse, Infallible> {
    Ok(match http::route_key(&event) {
        DELETE => http::respond_to("delete", DELETE, delete(app, &event).await),
        CLEAR => http::respond_to("delete", CLEAR, clear(app, &event).await),
        _ => http::respond_to("delete", NO_ROUTE, http::no_such_route::<Reply<()>>()),
    })
}

/// MySQL decides; Redis learns first that a deletion is begun, and last that it is done. So whatever fails in between,
/// no set of Redis denies a deletion that MySQL has (`docs/protocol.md`, R24).
async fn delete(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<()>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let id = http::path_message_id(event)?;
    let message = lookup::message_of(app, caller, id).await?;
    app.cache.begin_deletion(caller, id).await?;
    app.store.delete_for(caller, message.conversation(), id).await?;
    app.cache.note_deleted(caller, id).await?;
    let pushed = PushEvent::MessageDeleted { message_id: id, conversation_id: message.conversation() };
    app.push.to_users(&[caller], &pushed).await;
    Ok(Reply::NoContent)
}

/// Hides every message up to `upTo`. The order of the steps is that of a deletion.
async fn clear(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<()>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let conversation = http::path_conversation(event, caller)?;
    let up_to = http::query_parameter(event, "upTo")?
        .ok_or_else(|| ApiError::InvalidRequest("give upTo, the last message to hide".to_owned()))?;
    let up_to: MessageId = up_to.parse()?;
    // The position must be a message of this conversation: an id above all of them would hide future messages.
    let message = lookup::message_of(app, caller, up_to).await?;
    if message.conversation() != conversation {
        return Err(ApiError::no_such_message());
    }
    app.cache.begin_clearing(caller, conversation, up_to).await?;
    app.store.clear_for(caller, conversation, up_to).await?;
    app.cache.note_cleared(caller, conversation, up_to).await?;
    let pushed = PushEvent::ConversationCleared { conversation_id: conversation, up_to };
    app.push.to_users(&[caller], &pushed).await;
    Ok(Reply::NoContent)
}
