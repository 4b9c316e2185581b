//! A user's conversations: the order of lists, and the state of each as the user sees it.

use std::collections::{HashMap, HashSet};

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, QueryBuilder, Row as _};

use super::Store;
use super::clearing::Cleared;
use super::conversation::{hidden_bit, place};
use super::pool::scoped;
use super::row::{COLUMNS, LONGEST_LIST, broken, message_id, message_ids, message_of, push_ids, push_list};
use super::visible::{push_excluded, visible_to};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};
use crate::message::Message;

/// The most conversations whose newest visible message one statement looks for.
const CONVERSATIONS: usize = 10;

/// The place of a conversation in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its newest row, visible or not.
    pub newest: MessageId,
    /// The time of its last change by MySQL's clock, ms since 1970 UTC.
    pub changed_at: TimestampMs,
}

/// Places, and MySQL's time before they were read, ms since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// In the order of the list.
    pub places: Vec<Place>,
    /// MySQL's time.
    pub now: TimestampMs,
}

/// A conversation as one of its two users sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Talk {
    /// The conversation.
    pub conversation: ConversationId,
    /// The highest number of its changes.
    pub last_seq: i64,
    /// Its newest row, visible or not; `None` without a row.
    pub newest: Option<MessageId>,
    /// The user's read position.
    pub read_up_to: Option<MessageId>,
    /// The other user's read position.
    pub peer_read_up_to: Option<MessageId>,
    /// How far the user has cleared it.
    pub cleared: Cleared,
    /// The number of the user's unread rows.
    pub unread: u64,
}

/// The states of conversations, and the pending messages that count beside their rows.
#[derive(Debug, Default)]
pub struct Talks {
    /// By conversation. A conversation without a change is not in it.
    pub talks: HashMap<ConversationId, Talk>,
    /// The pending messages asked for that are rows, recalled or hidden by the user.
    pub excluded: HashSet<MessageId>,
}

impl Store {
    /// The places of the user's conversations with the newest `limit` messages below `before` (or of all), newest first,
    /// and behind them the places of the conversations `also`, wherever these are.
    #[tracing::instrument(name = "store.places_before", skip_all, fields(user_id = %user, limit))]
    pub async fn places_before(
        &self,
        user: UserId,
        before: Option<MessageId>,
        limit: u32,
        also: &[ConversationId],
    ) -> Result<Places, ServerError> {
        let before = before.map_or(i64::MAX, |id| id.get() - 1);
        let range = |side: &str| {
            format!(
                "(SELECT conv_id, newest_id, changed_at FROM conversation FORCE INDEX (idx_newest_{side}) \
                 WHERE user_{side} = ? AND newest_id > 0 AND newest_id <= ? ORDER BY newest_id DESC LIMIT ?)"
            )
        };
        let sql = &format!(
            "/* store.places_before */ {} UNION ALL {} ORDER BY newest_id DESC LIMIT ?",
            range("low"),
            range("high")
        );
        self.writer
            .run("store.places_before", self.timeout, |connection| {
                scoped(async move {
                    let now = now(connection).await?;
                    let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
                    for _ in 0..2 {
                        query = query.bind(user.get()).bind(before).bind(limit);
                    }
                    let rows = query.bind(limit).fetch_all(&mut *connection).await?;
                    let mut places = rows.iter().map(place_of).collect::<Result<Vec<_>, _>>()?;
                    for also in also.chunks(LONGEST_LIST) {
                        let mut query = QueryBuilder::<MySql>::new(
                            "/* store.places_before: also */ SELECT conv_id, newest_id, changed_at FROM conversation \
                             WHERE newest_id > 0 AND conv_id IN ",
                        );
                        push_list(&mut query, also, ToString::to_string);
                        for row in query.build().fetch_all(&mut *connection).await? {
                            places.push(place_of(&row)?);
                        }
                    }
                    Ok(Places { places, now })
                })
            })
            .await
    }

    /// The places of the user's conversations that changed after `changed_at`, or then with a newest message above
    /// `newest`; at most `limit`, in the order of their last changes.
    #[tracing::instrument(name = "store.places_changed", skip_all, fields(user_id = %user, limit))]
    pub async fn places_changed(
        &self,
        user: UserId,
        changed_at: TimestampMs,
        newest: i64,
        limit: u32,
    ) -> Result<Places, ServerError> {
        let range = |side: &str| {
            format!(
                "(SELECT conv_id, newest_id, changed_at FROM conversation FORCE INDEX (idx_changed_{side}) \
                 WHERE user_{side} = ? AND changed_at >= ? AND (changed_at > ? OR newest_id > ?) AND newest_id > 0 \
                 ORDER BY changed_at, newest_id LIMIT ?)"
            )
        };
        let sql = &format!(
            "/* store.places_changed */ {} UNION ALL {} ORDER BY changed_at, newest_id LIMIT ?",
            range("low"),
            range("high")
        );
        self.writer
            .run("store.places_changed", self.timeout, |connection| {
                scoped(async move {
                    let now = now(connection).await?;
                    let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
                    for _ in 0..2 {
                        query =
                            query.bind(user.get()).bind(changed_at).bind(changed_at).bind(newest).bind(limit);
                    }
                    let rows = query.bind(limit).fetch_all(connection).await?;
                    let places = rows.iter().map(place_of).collect::<Result<_, _>>()?;
                    Ok(Places { places, now })
                })
            })
            .await
    }

    /// The states of these conversations for `user`, one of the two users of each, and which of the messages `pending` are
    /// not pending for the user any more. Up to 100 of `pending` take one statement, so a message that becomes a row in
    /// between counts once.
    #[tracing::instrument(name = "store.talks", skip_all, fields(user_id = %user, conversations = conversations.len()))]
    pub async fn talks(
        &self,
        user: UserId,
        conversations: &[ConversationId],
        pending: &[MessageId],
    ) -> Result<Talks, ServerError> {
        if conversations.is_empty() {
            return Ok(Talks::default());
        }
        self.writer
            .run("store.talks", self.timeout, |connection| {
                scoped(async move { talks(connection, user, conversations, pending).await })
            })
            .await
    }

    /// The newest row of each conversation that `user` may see, recalled ones without content. A conversation without such
    /// a row is left out.
    #[tracing::instrument(name = "store.last_messages", skip_all, fields(user_id = %user, conversations = talks.len()))]
    pub async fn last_messages(
        &self,
        user: UserId,
        talks: &[&Talk],
    ) -> Result<HashMap<ConversationId, Message>, ServerError> {
        self.writer
            .run("store.last_messages", self.timeout, |connection| {
                scoped(async move { last_messages(connection, user, talks).await })
            })
            .await
    }
}

async fn now(connection: &mut MySqlConnection) -> Result<TimestampMs, sqlx::Error> {
    sqlx::query_scalar("/* store.places: now */ SELECT CAST(FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED)")
        .fetch_one(connection)
        .await
}

fn place_of(row: &MySqlRow) -> Result<Place, sqlx::Error> {
    Ok(Place {
        conversation: row.try_get::<&str, _>("conv_id")?.parse().map_err(broken)?,
        newest: message_id(row.try_get("newest_id")?)?,
        changed_at: row.try_get("changed_at")?,
    })
}

async fn talks(
    connection: &mut MySqlConnection,
    user: UserId,
    conversations: &[ConversationId],
    pending: &[MessageId],
) -> Result<Talks, sqlx::Error> {
    let mut found = Talks::default();
    for conversations in conversations.chunks(LONGEST_LIST) {
        // Without pending messages the rows are still wanted.
        let chunks = pending.chunks(LONGEST_LIST).chain(pending.is_empty().then_some(pending));
        for chunk in chunks {
            let mut query = QueryBuilder::<MySql>::new(
                "/* store.talks */ SELECT 'talk' AS what, conv_id, last_seq AS value, newest_id, read_low, read_high, clear_low, \
                 clear_high, unread_low, unread_high FROM conversation WHERE conv_id IN ",
            );
            push_list(&mut query, conversations, ToString::to_string);
            if !chunk.is_empty() {
                push_excluded(&mut query, user, chunk, ", 0, 0, 0, 0, 0, 0, 0");
            }
            for row in query.build().fetch_all(&mut *connection).await? {
                if row.try_get::<&str, _>("what")? == "talk" {
                    let talk = talk_of(&row, user)?;
                    found.talks.insert(talk.conversation, talk);
                } else {
                    found.excluded.insert(message_id(row.try_get("value")?)?);
                }
            }
        }
    }
    Ok(found)
}

fn talk_of(row: &MySqlRow, user: UserId) -> Result<Talk, sqlx::Error> {
    let conversation: ConversationId = row.try_get::<&str, _>("conv_id")?.parse().map_err(broken)?;
    let own = place(conversation, user);
    let number = |columns: [&str; 2], of: usize| row.try_get::<i64, _>(columns[of]);
    let read = |of| number(["read_low", "read_high"], of).map(|position| MessageId::new(position).ok());
    let cleared = MessageId::new(number(["clear_low", "clear_high"], own)?).ok();
    Ok(Talk {
        conversation,
        last_seq: row.try_get("value")?,
        newest: MessageId::new(row.try_get("newest_id")?).ok(),
        read_up_to: read(own)?,
        peer_read_up_to: read(1 - own)?,
        cleared: cleared.map_or_else(Cleared::default, Cleared::up_to),
        unread: u64::try_from(number(["unread_low", "unread_high"], own)?).unwrap_or_default(),
    })
}

async fn last_messages(
    connection: &mut MySqlConnection,
    user: UserId,
    talks: &[&Talk],
) -> Result<HashMap<ConversationId, Message>, sqlx::Error> {
    // As a rule the newest row is visible.
    let newest: Vec<MessageId> =
        talks.iter().filter_map(|talk| talk.newest.filter(|newest| !talk.cleared.hides(*newest))).collect();
    let mut found = messages(connection, user, &newest).await?;

    // Where the user has hidden it, four pairs of ranges of idx_visible have the next one.
    let hidden: Vec<&Talk> = talks
        .iter()
        .copied()
        .filter(|talk| talk.newest.is_some_and(|newest| newest_is_hidden(talk, newest, &found)))
        .collect();
    for talks in hidden.chunks(CONVERSATIONS) {
        let mut query = QueryBuilder::<MySql>::new("/* store.last_messages: visible */ ");
        let mut is_first = true;
        for talk in super::row::filled(talks) {
            for receiver in talk.conversation.users() {
                for hidden_for in visible_to(talk.conversation, user) {
                    for status in [0_u8, 1] {
                        query.push(if is_first { "(" } else { " UNION (" });
                        is_first = false;
                        query
                            .push("SELECT id FROM message FORCE INDEX (idx_visible) WHERE conv_id = ")
                            .push_bind(talk.conversation.to_string())
                            .push(" AND to_id = ")
                            .push_bind(receiver.get())
                            .push(" AND status = ")
                            .push_bind(status)
                            .push(" AND hidden_for = ")
                            .push_bind(hidden_for)
                            .push(" AND id > ")
                            .push_bind(talk.cleared.last().map_or(0, MessageId::get))
                            .push(" ORDER BY id DESC LIMIT 1)");
                    }
                }
            }
        }
        let ids = message_ids(query.build_query_scalar().fetch_all(&mut *connection).await?)?;
        for (conversation, message) in messages(connection, user, &ids).await? {
            found.insert(conversation, message);
        }
    }
    Ok(found)
}

fn newest_is_hidden(talk: &Talk, newest: MessageId, found: &HashMap<ConversationId, Message>) -> bool {
    !talk.cleared.hides(newest) && !found.contains_key(&talk.conversation)
}

/// The newest of these rows of each conversation that the user has not hidden.
async fn messages(
    connection: &mut MySqlConnection,
    user: UserId,
    ids: &[MessageId],
) -> Result<HashMap<ConversationId, Message>, sqlx::Error> {
    let mut found: HashMap<ConversationId, Message> = HashMap::new();
    for ids in ids.chunks(LONGEST_LIST) {
        let mut query = QueryBuilder::<MySql>::new(format!(
            "/* store.last_messages */ SELECT {COLUMNS}, hidden_for FROM message FORCE INDEX (uk_message_id) WHERE id IN "
        ));
        push_ids(&mut query, ids);
        for row in query.build().fetch_all(&mut *connection).await? {
            let message = message_of(&row)?;
            let conversation = message.conversation();
            let is_hidden = row.try_get::<u8, _>("hidden_for")? & hidden_bit(conversation, user) != 0;
            let is_newer = found.get(&conversation).is_none_or(|other| other.id < message.id);
            if !is_hidden && is_newer {
                found.insert(conversation, message);
            }
        }
    }
    Ok(found)
}
