//! Blocks: whose sends a user refuses (`docs/decisions/0053-blocks.md`).

use sqlx::MySqlConnection;

use super::Store;
use super::pool::scoped;
use super::row::broken;
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::UserId;

/// The most users that one user may block.
pub const MOST_BLOCKS: u32 = 1_000;

impl Store {
    /// Blocks `blocked` for `user`, at the time `now`. Safe to repeat. False if the user has [`MOST_BLOCKS`] blocks already.
    #[tracing::instrument(name = "store.block", skip_all, fields(user_id = %user))]
    pub async fn block(&self, user: UserId, blocked: UserId, now: TimestampMs) -> Result<bool, ServerError> {
        self.writer
            .run("store.block", self.timeout, |connection| {
                scoped(async move { block(connection, user, blocked, now).await })
            })
            .await
    }

    /// Ends a block. Safe to repeat.
    #[tracing::instrument(name = "store.unblock", skip_all, fields(user_id = %user))]
    pub async fn unblock(&self, user: UserId, blocked: UserId) -> Result<(), ServerError> {
        self.writer
            .run("store.unblock", self.timeout, |connection| {
                scoped(async move {
                    sqlx::query(
                        "/* store.unblock */ DELETE FROM user_block WHERE user_id = ? AND blocked_id = ?",
                    )
                    .bind(user.get())
                    .bind(blocked.get())
                    .execute(connection)
                    .await
                    .map(drop)
                })
            })
            .await
    }

    /// All users that `user` has blocked, the lowest id first.
    #[tracing::instrument(name = "store.blocked_by", skip_all, fields(user_id = %user))]
    pub async fn blocked_by(&self, user: UserId) -> Result<Vec<UserId>, ServerError> {
        self.writer
            .run("store.blocked_by", self.timeout, |connection| {
                scoped(async move {
                    let ids: Vec<i64> = sqlx::query_scalar(
                        "/* store.blocked_by */ SELECT blocked_id FROM user_block WHERE user_id = ? ORDER BY blocked_id",
                    )
                    .bind(user.get())
                    .fetch_all(connection)
                    .await?;
                    ids.into_iter().map(|id| UserId::new(id).map_err(broken)).collect()
                })
            })
            .await
    }

    /// True if `user` has blocked `other`.
    #[tracing::instrument(name = "store.has_blocked", skip_all, fields(user_id = %user))]
    pub async fn has_blocked(&self, user: UserId, other: UserId) -> Result<bool, ServerError> {
        self.writer
            .run("store.has_blocked", self.timeout, |connection| {
                scoped(async move { has_blocked(connection, user, other).await })
            })
            .await
    }
}

async fn has_blocked(
    connection: &mut MySqlConnection,
    user: UserId,
    other: UserId,
) -> Result<bool, sqlx::Error> {
    let found: Option<i64> = sqlx::query_scalar(
        "/* store.has_blocked */ SELECT blocked_id FROM user_block WHERE user_id = ? AND blocked_id = ?",
    )
    .bind(user.get())
    .bind(other.get())
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

async fn block(
    connection: &mut MySqlConnection,
    user: UserId,
    blocked: UserId,
    now: TimestampMs,
) -> Result<bool, sqlx::Error> {
    // Counted without a lock: blocks that are made at the same moment may exceed the limit by a few.
    let blocks: i64 =
        sqlx::query_scalar("/* store.block: count */ SELECT COUNT(*) FROM user_block WHERE user_id = ?")
            .bind(user.get())
            .fetch_one(&mut *connection)
            .await?;
    if blocks >= i64::from(MOST_BLOCKS) {
        return has_blocked(connection, user, blocked).await;
    }
    sqlx::query(
        "/* store.block */ INSERT INTO user_block (user_id, blocked_id, created_at) VALUES (?, ?, ?) \
         ON DUPLICATE KEY UPDATE blocked_id = VALUES(blocked_id)",
    )
    .bind(user.get())
    .bind(blocked.get())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(true)
}
