//! `DELETE /messages/{id}`: hides a message from the caller's own history. The other side still sees it.

use std::convert::Infallible;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, Reply};
use hongyan::lookup;

/// Answers one request; every failure is an answer too.
#[tracing::instrument(name = "delete", skip_all)]
pub async fn handle(
    app: &App,
    event: ApiGatewayV2httpRequest,
) -> Result<ApiGatewayV2httpResponse, Infallible> {
    Ok(http::respond(delete(app, &event).await))
}

/// MySQL decides, and Redis only follows; but it is told first that a deletion was begun. So whatever fails, or dies, on the
/// way, no set of Redis goes on saying what MySQL no longer says.
async fn delete(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<()>, ApiError> {
    let caller = http::caller(event)?;
    let id = http::path_message_id(event)?;
    let message = lookup::message_of(app, caller, id).await?;
    app.cache.begin_deletion(caller, id).await?;
    app.store.delete_for(caller, message.conversation(), id).await?;
    app.cache.note_deleted(caller, id).await?;
    Ok(Reply::NoContent)
}
