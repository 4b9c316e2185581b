//! `GET /conversations/{peerId}/messages`: a page of history, by cursor; and `GET /conversations/{peerId}/changes`: the changes
//! of a conversation in order ([`changes`]).
//!
//! Redis' recent list answers what is recent, MySQL the rest (`docs/protocol.md`, R18 to R21). A page neither skips nor repeats;
//! recalled messages and those the caller deleted are not in it.

mod changes;
mod newer;
mod older;
mod page;
mod refill;
mod visible;

use std::time::Instant;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, MessageView, Reply};
use hongyan::message::Message;
use hongyan::telemetry::metric;
use lambda_runtime::Error;
use serde::Serialize;

pub use changes::{DEFAULT_CHANGES, MAX_CHANGES};
use page::{Cursor, PageRequest};
pub use page::{DEFAULT_LIMIT, MAX_LIMIT, MAX_PAGE_BYTES};

/// One page.
#[derive(Serialize)]
struct PageView {
    messages: Vec<MessageView>,
    /// The cursor of the following page in the same direction; `null` on the last one.
    next: Option<String>,
}

/// Answers one request; every failure is an answer too.
#[tracing::instrument(name = "query", skip_all)]
pub async fn handle(app: &App, event: ApiGatewayV2httpRequest) -> Result<ApiGatewayV2httpResponse, Error> {
    if event.request_context.route_key.as_deref() == Some(changes::ROUTE) {
        return Ok(http::respond(changes::list(app, &event).await));
    }
    let began = Instant::now();
    let page = Box::pin(query(app, &event)).await;
    metrics::histogram!(metric::HISTORY_SECONDS).record(began.elapsed().as_secs_f64());
    Ok(http::respond(page))
}

async fn query(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<PageView>, ApiError> {
    let caller = http::caller(event)?;
    let conversation = http::path_conversation(event, caller)?;
    let request = PageRequest::parse(event)?;
    // One more than asked for: whether there is one tells whether there is a following page.
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

/// Keeps as many of the messages as fit into so many bytes of JSON, and one at least.
fn keep_within(most: usize, messages: &mut Vec<Message>) {
    let mut bytes = 0;
    let fitting = messages.iter().take_while(|message| {
        bytes += serde_json::to_vec(message).map_or(most, |json| json.len());
        bytes <= most
    });
    let fitting = fitting.count().max(1);
    messages.truncate(fitting);
}
