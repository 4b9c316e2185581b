//! `GET /messages/{id}`: one message, as its caller may see it. A client reads it after a push that was too large to have the
//! content.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, MessageView, Reply};
use hongyan::lookup;

use crate::visible;

/// The message; a recalled one with `status` 0 and without content. 404 where the caller is not in its conversation or has
/// deleted or cleared the message.
pub(crate) async fn show(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<MessageView>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let id = http::path_message_id(event)?;
    let message = lookup::message_of(app, caller, id).await?;
    if Box::pin(visible::is_hidden(app, caller, &message)).await? {
        return Err(ApiError::no_such_message());
    }
    Ok(Reply::Ok(MessageView::of(message, caller)))
}
