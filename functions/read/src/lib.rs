//! `POST /conversations/{peerId}/read` and `GET /unread`: a user's read positions and unread messages.
//!
//! MySQL counts the unread rows of both users in the conversation's row; Redis knows the unread messages that are not
//! rows yet (`docs/protocol.md`, R27).

mod count;
mod position;

use std::convert::Infallible;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, Reply};
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::lookup;
use hongyan::push::PushEvent;
use hongyan::telemetry::responses::NO_ROUTE;
use serde::{Deserialize, Serialize};

const READ: &str = "POST /conversations/{peerId}/read";
const UNREAD: &str = "GET /unread";

/// The most ids that `GET /unread` lists.
pub const MAX_LISTED: usize = 1_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadBody {
    up_to: MessageId,
}

#[derive(Serialize)]
#[serde(untagged)]
enum View {
    /// How many messages are left unread in all conversations.
    Left { unread: u64 },
    /// The newest unread ids, newest first.
    #[serde(rename_all = "camelCase")]
    List { total: u64, message_ids: Vec<String> },
}

/// Answers one request to either route. Every failure is an answer too.
#[tracing::instrument(name = "read", skip_all)]
pub async fn handle(
    app: &App,
    event: ApiGatewayV2httpRequest,
) -> Result<ApiGatewayV2httpResponse, Infallible> {
    let (route, result) = match http::route_key(&event) {
        READ => (READ, mark_read(app, &event).await),
        UNREAD => (UNREAD, list_unread(app, &event).await),
        _ => (NO_ROUTE, http::no_such_route()),
    };
    Ok(http::respond_to("read", route, result))
}

/// Marks the conversation as read up to and including the message `upTo`.
async fn mark_read(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<View>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let conversation = http::path_conversation(event, caller)?;
    let body: ReadBody = http::json_body(event)?;
    // The position must be a message of this conversation: an id above all of them would mark future messages as read.
    let message = lookup::message_of(app, caller, body.up_to).await?;
    if message.conversation() != conversation {
        return Err(ApiError::no_such_message());
    }
    let moved = position::advance(app, caller, conversation, body.up_to).await?;
    let (unread, ()) = tokio::join!(count::total(app, caller), async {
        if moved {
            push(app, caller, conversation, body.up_to).await;
        }
    });
    Ok(Reply::Ok(View::Left { unread: unread? }))
}

/// Pushes the new position to the reader's connections and, unless receipts are turned off, to the other user's.
async fn push(app: &App, reader: UserId, conversation: ConversationId, up_to: MessageId) {
    let pushed = PushEvent::Read { conversation_id: conversation, user_id: reader, up_to };
    if app.rules.read_receipts {
        app.push.to_users(&conversation.users(), &pushed).await;
    } else {
        app.push.to_users(&[reader], &pushed).await;
    }
}

async fn list_unread(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<View>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let (total, ids) = count::list(app, caller, MAX_LISTED).await?;
    Ok(Reply::Ok(View::List { total, message_ids: ids.iter().map(ToString::to_string).collect() }))
}
