//! `DELETE /messages/{id}`: hides a message from the caller's own history. The other user still sees it.

use std::convert::Infallible;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, Reply};
use hongyan::lookup;
use hongyan::push::PushEvent;

/// Answers one request. Every failure is an answer too.
#[tracing::instrument(name = "delete", skip_all)]
pub async fn handle(
    app: &App,
    event: ApiGatewayV2httpRequest,
) -> Result<ApiGatewayV2httpResponse, Infallible> {
    Ok(http::respond_to("delete", "DELETE /messages/{id}", delete(app, &event).await))
}

/// MySQL decides; Redis learns first that a deletion is begun, and last that it is done. So whatever fails in between,
/// no set of Redis denies a deletion that MySQL has (`docs/protocol.md`, R24).
async fn delete(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<()>, ApiError> {
    let caller = http::caller(event)?;
    let id = http::path_message_id(event)?;
    let message = lookup::message_of(app, caller, id).await?;
    app.cache.begin_deletion(caller, id).await?;
    app.store.delete_for(caller, message.conversation(), id).await?;
    app.cache.note_deleted(caller, id).await?;
    let pushed = PushEvent::MessageDeleted { message_id: id, conversation_id: message.conversation() };
    app.push.to_users(&[caller], &pushed).await;
    Ok(Reply::NoContent)
}
