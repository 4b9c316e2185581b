//! `cache_generation`: facts about Redis that processes share through MySQL because Redis cannot hold them
//! (`docs/decisions/0033-epochs.md`); and the tombstones of a conversation.

use std::collections::HashMap;

use sqlx::{MySql, QueryBuilder};

use super::Store;
use super::pool::scoped;
use super::row::{LONGEST_LIST, message_id, push_ids};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId};

/// The only row of `cache_generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheGeneration {
    /// The generation. Data of Redis from a lower generation may show recalled words.
    pub generation: u64,
    /// Messages sent up to this time (ms since 1970 UTC) may exist although Redis does not know them.
    pub unremembered_until: TimestampMs,
}

impl Store {
    /// The row, as the writer has it; zeros if it was never written.
    #[tracing::instrument(name = "store.cache_generation", skip_all)]
    pub async fn cache_generation(&self) -> Result<CacheGeneration, ServerError> {
        let row: Option<(i64, TimestampMs)> = self
            .writer
            .run("store.cache_generation", self.timeout, |connection| {
                scoped(async move {
                    sqlx::query_as(
                        "/* store.cache_generation */ SELECT generation, unremembered_until \
                         FROM cache_generation WHERE one = 1",
                    )
                    .fetch_optional(connection)
                    .await
                })
            })
            .await?;
        Ok(row.map_or_else(CacheGeneration::default, |(generation, unremembered_until)| CacheGeneration {
            generation: generation.try_into().unwrap_or_default(),
            unremembered_until,
        }))
    }

    /// Raises the generation by one.
    #[tracing::instrument(name = "store.raise_cache_generation", skip_all)]
    pub async fn raise_cache_generation(&self) -> Result<(), ServerError> {
        self.writer
            .run("store.raise_cache_generation", self.timeout, |connection| {
                scoped(async move {
                    sqlx::query(
                        "/* store.raise_cache_generation */ INSERT INTO cache_generation (one, generation) \
                         VALUES (1, 1) ON DUPLICATE KEY UPDATE generation = generation + 1",
                    )
                    .execute(connection)
                    .await
                    .map(drop)
                })
            })
            .await
    }

    /// Notes that Redis may not know messages sent up to `until`. The noted time never decreases.
    #[tracing::instrument(name = "store.note_unremembered", skip_all)]
    pub async fn note_unremembered(&self, until: TimestampMs) -> Result<(), ServerError> {
        self.writer
            .run("store.note_unremembered", self.timeout, |connection| {
                scoped(async move {
                    sqlx::query(
                        "/* store.note_unremembered */ INSERT INTO cache_generation (one, unremembered_until) \
                         VALUES (1, ?) ON DUPLICATE KEY UPDATE \
                         unremembered_until = GREATEST(unremembered_until, VALUES(unremembered_until))",
                    )
                    .bind(until)
                    .execute(connection)
                    .await
                    .map(drop)
                })
            })
            .await
    }

    /// The recalled messages among `ids` of `conversation`, with the time of each recall (ms since 1970 UTC), as the
    /// writer has them; also messages that are not rows. A tombstone of another conversation does not count.
    #[tracing::instrument(name = "store.tombstones_among", skip_all, fields(ids = ids.len()))]
    pub async fn tombstones_among(
        &self,
        conversation: ConversationId,
        ids: &[MessageId],
    ) -> Result<HashMap<MessageId, TimestampMs>, ServerError> {
        let conversation = &conversation.to_string();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        self.writer
            .run("store.tombstones_among", self.timeout, |connection| {
                scoped(async move {
                    let mut found = HashMap::new();
                    for ids in ids.chunks(LONGEST_LIST) {
                        let mut query = QueryBuilder::<MySql>::new(
                            "/* store.tombstones_among */ SELECT message_id, recall_time \
                             FROM message_recall WHERE message_id IN ",
                        );
                        push_ids(&mut query, ids);
                        // Old tombstones have no conversation and count for any.
                        query.push(" AND conv_id IN ('', ").push_bind(conversation.as_str()).push(")");
                        let rows: Vec<(i64, TimestampMs)> =
                            query.build_query_as().fetch_all(&mut *connection).await?;
                        for (id, recall_time) in rows {
                            found.insert(message_id(id)?, recall_time);
                        }
                    }
                    Ok(found)
                })
            })
            .await
    }
}
