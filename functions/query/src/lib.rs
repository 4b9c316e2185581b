//! `GET /conversations/{peerId}/messages`: a page of history, by cursor; `GET /conversations/{peerId}/changes`: the changes of a
//! conversation in order ([`changes`]); and `GET /messages/{id}`: one message ([`message`]).
//!
//! Redis' recent list answers for recent messages, MySQL for older ones (`docs/protocol.md`, R18 to R21). Pages neither
//! skip nor repeat. They leave out recalled messages and those that the caller deleted.

mod changes;
mod message;
mod newer;
mod older;
mod page;
mod refill;
mod visible;

use std::convert::Infallible;
use std::time::Instant;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, MessageView, Reply};
use hongyan::message::Message;
use hongyan::telemetry::metric;
use serde::Serialize;

use self::page::{Cursor, PageRequest};
pub use self::page::{DEFAULT_LIMIT, MAX_LIMIT, MAX_PAGE_BYTES};
pub use changes::{DEFAULT_CHANGES, MAX_CHANGES};

/// The answer: a page of history.
#[derive(Serialize)]
struct PageView {
    messages: Vec<MessageView>,
    /// The cursor of the next page in the same direction; `null` on the last one.
    next: Option<String>,
}

/// Answers one request. Every failure is an answer too.
#[tracing::instrument(name = "query", skip_all)]
pub async fn handle(
    app: &App,
    event: ApiGatewayV2httpRequest,
) -> Result<ApiGatewayV2httpResponse, Infallible> {
    Ok(match http::route_key(&event) {
        "GET /conversations/{peerId}/messages" => http::respond(history(app, &event).await),
        "GET /messages/{id}" => http::respond(message::show(app, &event).await),
        "GET /conversations/{peerId}/changes" => http::respond(changes::list(app, &event).await),
        _ => http::respond(http::no_such_route::<Reply<()>>()),
    })
}

/// Reads a page of history, and measures the time.
async fn history(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<PageView>, ApiError> {
    let began = Instant::now();
    let page = Box::pin(page(app, event)).await;
    metrics::histogram!(metric::HISTORY_SECONDS).record(began.elapsed().as_secs_f64());
    page
}

async fn page(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<PageView>, ApiError> {
    let caller = http::caller(event)?;
    let conversation = http::path_conversation(event, caller)?;
    let request = PageRequest::parse(event)?;
    // One message more than asked for shows whether there is a next page.
    let wanted = request.limit + 1;
    let mut messages = match request.cursor {
        Cursor::Before(before) => older::page(app, caller, conversation, before, wanted).await?,
        Cursor::After(after) => newer::page(app, caller, conversation, after, wanted).await?,
    };
    let found = messages.len();
    messages.truncate(request.limit);
    keep_within(MAX_PAGE_BYTES, &mut messages);
    let next = messages.last().filter(|_| messages.len() < found).map(|last| last.id.to_string());
    Ok(Reply::Ok(PageView {
        messages: messages.into_iter().map(|message| MessageView::of(message, caller)).collect(),
        next,
    }))
}

/// Keeps as many messages as fit into `most` bytes of JSON, at least one.
fn keep_within(most: usize, messages: &mut Vec<Message>) {
    let mut bytes = 0;
    let fitting = messages.iter().take_while(|message| {
        bytes += serde_json::to_vec(message).map_or(most, |json| json.len());
        bytes <= most
    });
    let fitting = fitting.count().max(1);
    messages.truncate(fitting);
}
