//! `GET /conversations/{peerId}/messages`: a page of history, by cursor.
//!
//! Redis' recent list answers what is recent, MySQL the rest (`protocol.md`, "Reads"). A page neither skips nor repeats;
//! recalled messages and those the caller deleted are not in it.

mod newer;
mod older;
mod page;
mod visible;

use std::time::Instant;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, MessageView, Reply};
use hongyan::telemetry::metric;
use lambda_runtime::Error;
use serde::Serialize;

use page::{Cursor, PageRequest};
pub use page::{DEFAULT_LIMIT, MAX_LIMIT};

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
    let began = Instant::now();
    let page = query(app, &event).await;
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
    let more = messages.len() > request.limit;
    messages.truncate(request.limit);
    let next = messages.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Reply::Ok(PageView { messages: messages.into_iter().map(Into::into).collect(), next }))
}
