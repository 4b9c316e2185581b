//! `DELETE /messages/{id}`: hides a message from the caller's own history. The other side still sees it.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, Reply};
use hongyan::lookup;
use lambda_runtime::Error;

/// Answers one request; every failure is an answer too.
#[tracing::instrument(name = "delete", skip_all)]
pub async fn handle(app: &App, event: ApiGatewayV2httpRequest) -> Result<ApiGatewayV2httpResponse, Error> {
    Ok(http::respond(delete(app, &event).await))
}

/// MySQL first, for good; Redis then only follows. If Redis fails, the caller is told to try again, since a set that
/// lacks the id would show the message for up to half an hour.
async fn delete(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<()>, ApiError> {
    let caller = http::caller(event)?;
    let id = http::path_message_id(event)?;
    lookup::message_of(app, caller, id).await?;
    app.store.delete_for(caller, id).await?;
    app.cache.note_deleted(caller, id).await?;
    Ok(Reply::NoContent)
}
