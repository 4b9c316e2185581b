//! `GET /conversations/{peerId}/messages`: a page of history, by cursor; `GET /conversations/{peerId}/changes`: the changes of a
//! conversation in order ([`changes`]); `GET /messages/{id}`: one message ([`message`]); and `GET /conversations`,
//! `GET /conversations/{peerId}`: the list of conversations, and one of them ([`conversations`]).
//!
//! Redis' recent list answers for recent messages, MySQL for older ones (`docs/protocol.md`, R18 to R21). Pages neither
//! skip nor repeat. They leave out recalled messages and those that the caller deleted or cleared.

mod changes;
mod conversations;
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
use hongyan::store;
use hongyan::telemetry::metric;
use hongyan::telemetry::responses::NO_ROUTE;
use serde::Serialize;

use self::page::{Cursor, Found, PageRequest};
pub use self::page::{DEFAULT_LIMIT, MAX_LIMIT, MAX_PAGE_BYTES};
pub use changes::{DEFAULT_CHANGES, MAX_CHANGES};

const HISTORY: &str = "GET /conversations/{peerId}/messages";
const LIST: &str = "GET /conversations";
const SHOW: &str = "GET /conversations/{peerId}";
const MESSAGE: &str = "GET /messages/{id}";
const CHANGES: &str = "GET /conversations/{peerId}/changes";

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
        HISTORY => http::respond_to("query", HISTORY, history(app, &event).await),
        MESSAGE => http::respond_to("query", MESSAGE, message::show(app, &event).await),
        LIST => http::respond_to("query", LIST, conversations::list(app, &event).await),
        SHOW => http::respond_to("query", SHOW, conversations::show(app, &event).await),
        CHANGES => http::respond_to("query", CHANGES, changes::list(app, &event).await),
        _ => http::respond_to("query", NO_ROUTE, http::no_such_route::<Reply<()>>()),
    })
}

/// Reads a page of history, and measures the time by the stores that were asked.
async fn history(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<PageView>, ApiError> {
    let began = Instant::now();
    let (page, asks_mysql) = store::noting_use(Box::pin(page(app, event))).await;
    let (page, by_list) = page?;
    let source = match (by_list, asks_mysql) {
        (true, false) => "redis",
        (true, true) => "both",
        (false, _) => "mysql",
    };
    metrics::histogram!(metric::HISTORY_SECONDS, "source" => source).record(began.elapsed().as_secs_f64());
    Ok(Reply::Ok(page))
}

/// The page, and whether Redis' recent list led to its messages.
async fn page(app: &App, event: &ApiGatewayV2httpRequest) -> Result<(PageView, bool), ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let conversation = http::path_conversation(event, caller)?;
    let request = PageRequest::parse(event)?;
    // One message more than asked for shows whether there is a next page.
    let wanted = request.limit + 1;
    let Found { mut messages, by_list } = match request.cursor {
        Cursor::Before(before) => older::page(app, caller, conversation, before, wanted).await?,
        Cursor::After(after) => newer::page(app, caller, conversation, after, wanted).await?,
    };
    let found = messages.len();
    messages.truncate(request.limit);
    messages.truncate(page::fitting(messages.iter().map(Some)));
    let next = messages.last().filter(|_| messages.len() < found).map(|last| last.id.to_string());
    let messages = messages.into_iter().map(|message| MessageView::of(message, caller)).collect();
    Ok((PageView { messages, next }, by_list))
}
