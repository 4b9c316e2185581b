//! `PUT /blocks/{userId}`, `DELETE /blocks/{userId}` and `GET /blocks`: whose sends a user refuses.
//!
//! MySQL keeps the blocks. A send asks Redis ([`hongyan::blocks`], `docs/decisions/0053-blocks.md`).

use std::convert::Infallible;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, Reply};
use hongyan::store::MOST_BLOCKS;
use hongyan::telemetry::responses::NO_ROUTE;
use serde::Serialize;

const BLOCK: &str = "PUT /blocks/{userId}";
const UNBLOCK: &str = "DELETE /blocks/{userId}";
const LIST: &str = "GET /blocks";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlocksView {
    /// The blocked users, the lowest id first.
    user_ids: Vec<String>,
}

/// Answers one request to any of the routes. Every failure is an answer too.
#[tracing::instrument(name = "block", skip_all)]
pub async fn handle(
    app: &App,
    event: ApiGatewayV2httpRequest,
) -> Result<ApiGatewayV2httpResponse, Infallible> {
    Ok(match http::route_key(&event) {
        BLOCK => http::respond_to("block", BLOCK, block(app, &event).await),
        UNBLOCK => http::respond_to("block", UNBLOCK, unblock(app, &event).await),
        LIST => http::respond_to("block", LIST, list(app, &event).await),
        _ => http::respond_to("block", NO_ROUTE, http::no_such_route::<Reply<()>>()),
    })
}

/// Blocks a user. The block holds in every process from the answer on; if Redis did not take the block, after a minute.
async fn block(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<()>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let blocked = http::path_other_user(event, caller)?;
    if !app.store.block(caller, blocked, app.clock.now_ms()).await? {
        return Err(ApiError::TooManyBlocks(MOST_BLOCKS));
    }
    if let Err(error) = app.cache.note_block(caller, blocked).await {
        tracing::warn!(user = %caller, %error, "block: Redis does not take the block; sends are refused after a minute at most");
    }
    Ok(Reply::NoContent)
}

/// Ends a block. A send that still finds the block in Redis asks MySQL, so the end holds at once.
async fn unblock(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<()>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let blocked = http::path_other_user(event, caller)?;
    app.store.unblock(caller, blocked).await?;
    Ok(Reply::NoContent)
}

async fn list(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<BlocksView>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let blocked = app.store.blocked_by(caller).await?;
    Ok(Reply::Ok(BlocksView { user_ids: blocked.iter().map(ToString::to_string).collect() }))
}
