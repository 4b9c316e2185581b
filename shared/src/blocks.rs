//! Blocks: whether a user refuses another user's sends (`docs/decisions/0053-blocks.md`).

use tokio::time::timeout;

use crate::app::App;
use crate::error::ServerError;
use crate::id::UserId;

/// True if `user` has blocked `other`. Redis answers as a rule, in one round trip; MySQL is asked once a minute for each user, and
/// before a block counts. If neither store answers in time, nobody is blocked: a send is not lost for the sake of a block.
pub async fn has_blocked(app: &App, user: UserId, other: UserId) -> bool {
    match app.cache.has_blocked(user, other).await {
        Ok(Some(false)) => false,
        // The block may have ended since. If MySQL does not say so, the block counts.
        Ok(Some(true)) => in_time(app, Box::pin(app.store.has_blocked(user, other))).await.unwrap_or(true),
        Ok(None) => load(app, user).await.is_some_and(|blocked| blocked.contains(&other)),
        Err(error) => {
            tracing::debug!(%error, "blocks: Redis does not answer; MySQL is asked");
            in_time(app, Box::pin(app.store.has_blocked(user, other))).await.unwrap_or(false)
        }
    }
}

/// Reads the user's blocks from MySQL, and keeps them in Redis for a minute. `None` if MySQL does not answer.
async fn load(app: &App, user: UserId) -> Option<Vec<UserId>> {
    let blocked = in_time(app, Box::pin(app.store.blocked_by(user))).await?;
    if let Err(error) = app.cache.fill_blocks(user, &blocked).await {
        tracing::debug!(%error, "blocks: Redis does not take the blocks; the next send asks MySQL again");
    }
    Some(blocked)
}

/// Waits for MySQL as long as a send may wait, and not at all right after MySQL has let a send wait.
async fn in_time<T>(app: &App, asked: impl Future<Output = Result<T, ServerError>>) -> Option<T> {
    if app.mysql_silence.is_recent() {
        return None;
    }
    match timeout(app.kafka_wait, asked).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            app.mysql_silence.begin();
            tracing::warn!(%error, "blocks: MySQL does not answer; sends are not checked against blocks");
            None
        }
        Err(_) => {
            app.mysql_silence.begin();
            tracing::warn!("blocks: MySQL does not answer in time; sends are not checked against blocks");
            None
        }
    }
}
