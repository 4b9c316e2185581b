//! The data of one round in the stores.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use redis::AsyncCommands as _;

use crate::site::Site;
use crate::user::in_short;

/// A row of `message`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) from_user_id: i64,
    pub(crate) to_id: i64,
    pub(crate) content: String,
    pub(crate) status: u8,
    pub(crate) recall_time: Option<i64>,
}

impl Row {
    pub(crate) fn is_shown(&self) -> bool {
        self.status == 1
    }

    pub(crate) fn is_between(&self, one: i64, other: i64) -> bool {
        (self.from_user_id, self.to_id) == (one, other) || (self.from_user_id, self.to_id) == (other, one)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, from_user_id: from, to_id: to, content, status, recall_time } = self;
        let content = in_short(content);
        write!(f, "row {id} from {from} to {to}, {content:?}, status {status}, recalled {recall_time:?}")
    }
}

/// Rows, deletions, read positions and tombstones.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) rows: BTreeMap<i64, Row>,
    pub(crate) deleted: BTreeSet<(i64, i64)>,
    /// The read positions, by user and conversation.
    pub(crate) positions: BTreeMap<(i64, String), i64>,
    /// How far a user has cleared a conversation, by user and conversation.
    pub(crate) clearings: BTreeMap<(i64, String), i64>,
    /// Messages that are unread although they lie below the read position, by user and message.
    pub(crate) unshown: BTreeSet<(i64, i64)>,
    pub(crate) tombstones: BTreeSet<i64>,
}

impl Kept {
    /// Reads the data of these users from MySQL.
    pub(crate) async fn read(site: &Site, users: &Range<i64>) -> anyhow::Result<Self> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, from_user_id, to_id, content, status, recall_time FROM message \
             WHERE from_user_id >= ? AND from_user_id < ?",
        )
        .bind(users.start)
        .bind(users.end)
        .fetch_all(&site.mysql)
        .await?;
        let deleted: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT user_id, message_id FROM message_delete WHERE user_id >= ? AND user_id < ?",
        )
        .bind(users.start)
        .bind(users.end)
        .fetch_all(&site.mysql)
        .await?;
        let (positions, unshown) = read_positions(site, users).await?;
        let tombstones: Vec<(i64,)> =
            sqlx::query_as("SELECT message_id FROM message_recall").fetch_all(&site.mysql).await?;
        Ok(Self {
            rows: rows.into_iter().map(|row| (row.id, row)).collect(),
            deleted: deleted.into_iter().collect(),
            positions: positions
                .iter()
                .map(|(user, conversation, up_to, _)| ((*user, conversation.clone()), *up_to))
                .collect(),
            clearings: positions
                .into_iter()
                .map(|(user, conversation, _, up_to)| ((user, conversation), up_to))
                .collect(),
            unshown: unshown.into_iter().collect(),
            tombstones: tombstones.into_iter().map(|(id,)| id).collect(),
        })
    }

    /// The messages that a user sees in a conversation, oldest first.
    pub(crate) fn history(&self, user: i64, peer: i64) -> Vec<&Row> {
        let shown = self.rows.values().filter(|row| row.is_shown() && row.is_between(user, peer));
        shown.filter(|row| !self.is_hidden(user, row)).collect()
    }

    /// True if a user of the conversation has deleted the message, or cleared the conversation up to it.
    pub(crate) fn is_hidden(&self, user: i64, row: &Row) -> bool {
        let peer = if row.from_user_id == user { row.to_id } else { row.from_user_id };
        self.deleted.contains(&(user, row.id)) || row.id <= self.cleared(user, peer)
    }

    /// How far a user has cleared a conversation; 0 if not at all.
    pub(crate) fn cleared(&self, user: i64, peer: i64) -> i64 {
        let conversation = format!("{}_{}", user.min(peer), user.max(peer));
        self.clearings.get(&(user, conversation)).copied().unwrap_or_default()
    }

    /// The read position of a user in a conversation; 0 if there is none.
    pub(crate) fn position(&self, user: i64, peer: i64) -> i64 {
        let conversation = format!("{}_{}", user.min(peer), user.max(peer));
        self.positions.get(&(user, conversation)).copied().unwrap_or_default()
    }

    /// The unread messages of a user, oldest first.
    pub(crate) fn unread(&self, user: i64) -> BTreeSet<i64> {
        let received = self.rows.values().filter(|row| row.is_shown() && row.to_id == user);
        received
            .filter(|row| {
                let above = row.id > self.position(user, row.from_user_id);
                !self.is_hidden(user, row) && (above || self.unshown.contains(&(user, row.id)))
            })
            .map(|row| row.id)
            .collect()
    }
}

/// The read positions and clearings by user and conversation, and the messages that are unread in spite of the position, by user.
type Positions = (Vec<(i64, String, i64, i64)>, Vec<(i64, i64)>);

async fn read_positions(site: &Site, users: &Range<i64>) -> anyhow::Result<Positions> {
    let positions = "SELECT * FROM (SELECT user_low AS user_id, conv_id, read_low, clear_low FROM conversation \
                     UNION ALL SELECT user_high, conv_id, read_high, clear_high FROM conversation) AS positions \
                     WHERE user_id >= ? AND user_id < ?";
    let positions =
        sqlx::query_as(positions).bind(users.start).bind(users.end).fetch_all(&site.mysql).await?;
    let unshown = "SELECT user_id, message_id FROM message_unshown WHERE user_id >= ? AND user_id < ?";
    let unshown = sqlx::query_as(unshown).bind(users.start).bind(users.end).fetch_all(&site.mysql).await?;
    Ok((positions, unshown))
}

/// The messages, of these, whose details in Redis have a TTL.
pub(crate) async fn end_by_themselves(site: &Site, ids: &[String]) -> anyhow::Result<BTreeSet<String>> {
    let mut redis = site.redis().await?;
    let mut ending = BTreeSet::new();
    for id in ids {
        let left_ms: i64 = redis.pttl(format!("msg:detail:{id}")).await?;
        if left_ms > 0 {
            ending.insert(id.clone());
        }
    }
    Ok(ending)
}

/// The details of these messages in Redis.
pub(crate) async fn details(
    site: &Site,
    ids: impl IntoIterator<Item = impl fmt::Display>,
) -> anyhow::Result<Vec<Option<String>>> {
    let keys: Vec<String> = ids.into_iter().map(|id| format!("msg:detail:{id}")).collect();
    let mut redis = site.redis().await?;
    let mut details = Vec::with_capacity(keys.len());
    for keys in keys.chunks(500) {
        details.extend(redis.mget::<_, Vec<Option<String>>>(keys).await?);
    }
    Ok(details)
}
