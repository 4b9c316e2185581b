//! Rows as types, and lists of values as SQL.

use sqlx::mysql::MySqlRow;
use sqlx::query_builder::Separated;
use sqlx::{MySql, QueryBuilder, Row as _};

use crate::id::{ConversationId, MessageId, UserId};
use crate::message::{ClientMessageId, Fingerprint, Message, MessageType, PersistStatus, Status};

/// The columns that [`message_of`] reads.
pub(super) const COLUMNS: &str = "id, from_user_id, to_id, content, msg_type, send_time, status, recall_time, \
                                  persist_status, client_msg_id, seq";

/// A row of [`COLUMNS`] as a message.
pub(super) fn message_of(row: &MySqlRow) -> Result<Message, sqlx::Error> {
    let status = status_of(row.try_get("status")?)?;
    let persist_status = match row.try_get::<&str, _>("persist_status")? {
        "PERSISTED" => PersistStatus::Persisted,
        "PENDING" => PersistStatus::Pending,
        other => {
            return Err(sqlx::Error::Decode(format!("persist_status is {other}").into()));
        }
    };
    let client_msg_id = client_message_id(row)?;
    let message = Message {
        id: message_id(row.try_get("id")?)?,
        from: user_id(row.try_get("from_user_id")?)?,
        to: user_id(row.try_get("to_id")?)?,
        // The content of a recalled row is never read, whoever wrote the row.
        content: match status {
            Status::Normal => row.try_get("content")?,
            Status::Recalled => String::new(),
        },
        kind: MessageType::try_from(row.try_get::<u8, _>("msg_type")?).map_err(broken)?,
        send_time: row.try_get("send_time")?,
        status,
        recall_time: row.try_get("recall_time")?,
        persist_status,
        client_msg_id,
        seq: row.try_get("seq")?,
    };
    if message.from == message.to {
        return Err(sqlx::Error::Decode(
            format!("message {} is from and to the same user", message.id).into(),
        ));
    }
    Ok(message)
}

/// The column `client_msg_id`.
pub(super) fn client_message_id(row: &MySqlRow) -> Result<Option<ClientMessageId>, sqlx::Error> {
    let Some(bytes) = row.try_get::<Option<Vec<u8>>, _>("client_msg_id")? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(broken)?;
    ClientMessageId::try_from(text).map(Some).map_err(broken)
}

/// The column `fingerprint`.
pub(super) fn fingerprint(row: &MySqlRow) -> Result<Option<Fingerprint>, sqlx::Error> {
    let bytes = row.try_get::<Option<Vec<u8>>, _>("fingerprint")?;
    Ok(bytes.as_deref().and_then(Fingerprint::from_slice))
}

/// The column `conv_id` of a tombstone; `None` in old tombstones, which have no conversation.
pub(super) fn tombstone_conversation(row: &MySqlRow) -> Result<Option<ConversationId>, sqlx::Error> {
    let text: &str = row.try_get("conv_id")?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(broken) }
}

pub(super) fn status_of(value: u8) -> Result<Status, sqlx::Error> {
    Status::try_from(value).map_err(broken)
}

pub(super) fn message_id(value: i64) -> Result<MessageId, sqlx::Error> {
    MessageId::new(value).map_err(broken)
}

pub(super) fn message_ids(values: Vec<i64>) -> Result<Vec<MessageId>, sqlx::Error> {
    values.into_iter().map(message_id).collect()
}

pub(super) fn user_id(value: i64) -> Result<UserId, sqlx::Error> {
    UserId::new(value).map_err(broken)
}

pub(super) fn broken(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// The most values in one list.
pub(super) const LONGEST_LIST: usize = 100;

/// The lengths of lists. The server keeps a prepared statement for each length and has a limit for all its clients
/// (`max_prepared_stmt_count`), so only a few lengths occur.
const LENGTHS: [usize; 7] = [1, 2, 5, 10, 20, 50, LONGEST_LIST];

/// The next of [`LENGTHS`] for a list of `len` values.
pub(super) fn filled_up(len: usize) -> usize {
    LENGTHS.into_iter().find(|&length| len <= length).unwrap_or(len)
}

/// `items`, with the last one repeated until the list has one of [`LENGTHS`]. A repeated value changes nothing in `IN`,
/// nor in an upsert that keeps the row.
pub(super) fn filled<T>(items: &[T]) -> impl Iterator<Item = &T> {
    let more = filled_up(items.len()) - items.len();
    items.iter().chain(items.last().into_iter().cycle().take(more))
}

/// Writes `(?, ?, …)` with ids, at most [`LONGEST_LIST`].
pub(super) fn push_ids(query: &mut QueryBuilder<MySql>, ids: &[MessageId]) {
    push_list(query, ids, |id| id.get());
}

/// Writes `(?, ?, …)` with the values of `items`, at most [`LONGEST_LIST`], filled up.
pub(super) fn push_list<T, V: for<'q> sqlx::Encode<'q, MySql> + sqlx::Type<MySql> + Send + 'static>(
    query: &mut QueryBuilder<MySql>,
    items: &[T],
    value: impl Fn(&T) -> V,
) {
    query.push("(");
    let mut list = query.separated(", ");
    for item in filled(items) {
        list.push_bind(value(item));
    }
    query.push(")");
}

/// Writes `(…), (…), …` with rows, at most [`LONGEST_LIST`], filled up; `VALUES` is the caller's. Only for an upsert,
/// since a row may be repeated.
pub(super) fn push_rows<T>(
    query: &mut QueryBuilder<MySql>,
    rows: &[T],
    push: impl FnMut(&mut Separated<'_, MySql, &'static str>, &T),
) {
    push_each(query, filled(rows), push);
}

/// As [`push_rows`], with each row once.
pub(super) fn push_exactly<T>(
    query: &mut QueryBuilder<MySql>,
    rows: &[T],
    push: impl FnMut(&mut Separated<'_, MySql, &'static str>, &T),
) {
    push_each(query, rows.iter(), push);
}

fn push_each<'r, T: 'r>(
    query: &mut QueryBuilder<MySql>,
    rows: impl Iterator<Item = &'r T>,
    mut push: impl FnMut(&mut Separated<'_, MySql, &'static str>, &T),
) {
    for (index, row) in rows.enumerate() {
        query.push(if index == 0 { "(" } else { ", (" });
        push(&mut query.separated(", "), row);
        query.push(")");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_few_lengths_and_only_repeat_their_last_value() {
        let lengths: std::collections::BTreeSet<_> = (1..=LONGEST_LIST).map(filled_up).collect();
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [1, 2, 5, 10, 20, 50, 100]);
        assert_eq!(filled(&[1, 2, 3]).copied().collect::<Vec<_>>(), [1, 2, 3, 3, 3]);
        assert_eq!(filled::<u8>(&[]).count(), 0);
    }
}
