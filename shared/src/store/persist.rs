//! Persistence: a batch of messages becomes rows, in one transaction.

use std::collections::HashMap;

use sqlx::{Connection as _, MySql, MySqlConnection, QueryBuilder, Row as _};

use super::Store;
use super::fault::Fault;
use super::pool::scoped;
use super::recall::apply_tombstones;
use super::row::{
    COLUMNS, LONGEST_LIST, filled_up, full_length, message_id, message_of, push_ids, push_rows,
};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::{MessageId, UserId};
use crate::message::{CHAT_TYPE_PRIVATE, ClientMessageId, Message, PersistStatus};

/// What became of one message of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persisted {
    /// It is a row with `status` 1; perhaps it was one before.
    Written,
    /// It was recalled: its row has `status` 0 and no content.
    Recalled {
        /// When, ms since 1970 UTC: that of the first recall.
        recall_time: TimestampMs,
    },
    /// Its sender's `clientMsgId` is on another row that holds the same message: this one is a retry that was taken
    /// for a new message, and is not written.
    Doubles {
        /// The message that is kept.
        first: MessageId,
    },
    /// Its id is held by a different message. It is not written.
    Clash,
    /// MySQL will never take it. It is not written; the others of the batch are.
    Refused {
        /// What MySQL said, for people.
        reason: String,
    },
}

/// The column `content` is TEXT.
const MAX_CONTENT_BYTES: usize = 65_535;
/// The most bytes of one statement, so that it is one TLS record (16 KiB) and one write to the socket. sqlx leaves Nagle's
/// algorithm on: the end of a second write would wait until the server acknowledges the first, which it puts off for 40 ms.
/// `docs/decisions/0025-mysql-connections.md` has the measurement.
const STATEMENT_BYTES: usize = 15 * 1024;
/// The same where one row is larger than that, so that it has to wait anyway: as much as no server's
/// `max_allowed_packet` refuses, which is met by a closed connection and not by an answer.
const LARGE_STATEMENT_BYTES: usize = 1 << 20;
/// What a row needs in a statement beside its content and its `clientMsgId`, at most.
const ROW_BYTES: usize = 140;

/// A message of the batch.
#[derive(Clone)]
struct Entry<'a> {
    message: &'a Message,
    /// `conv_id`.
    conversation: String,
    /// As it is to be written, which is not always the message's own.
    client_msg_id: Option<&'a ClientMessageId>,
    /// Its place in the batch.
    place: usize,
}

impl Store {
    /// Writes a batch, and says for each message, in order, what became of it. One transaction: after an error none of
    /// it is written. Safe to repeat; one batch may hold the same message twice. Rows say PERSISTED.
    ///
    /// In either order with [`Store::recall`] the end is the same: the rows are inserted first and the tombstones are
    /// then read with a lock, so that of two transactions at the same time one waits for the other and sees what it
    /// did (`protocol.md`, "Recall leaves a tombstone").
    ///
    /// A message that the server refuses, or that clashes, is an outcome and not an error; an error is transient.
    #[tracing::instrument(name = "store.persist", skip_all, fields(rows = messages.len()))]
    pub async fn persist(&self, messages: &[Message]) -> Result<Vec<Persisted>, ServerError> {
        self.run_batch("store.persist", messages, true).await
    }

    /// What [`Self::persist`] would say of each message, found out by doing it and taking it back: nothing is written.
    #[tracing::instrument(name = "store.try_persist", skip_all, fields(rows = messages.len()))]
    pub async fn try_persist(&self, messages: &[Message]) -> Result<Vec<Persisted>, ServerError> {
        self.run_batch("store.try_persist", messages, false).await
    }

    async fn run_batch(
        &self,
        action: &'static str,
        messages: &[Message],
        keep: bool,
    ) -> Result<Vec<Persisted>, ServerError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let mut entries: Vec<Entry<'_>> = messages
            .iter()
            .enumerate()
            .map(|(place, message)| Entry {
                message,
                conversation: message.conversation().to_string(),
                client_msg_id: message.client_msg_id.as_ref(),
                place,
            })
            .collect();
        // In the order of the primary key: neighbours are written together, and two batches lock in one order. Stable,
        // so that of two messages under one id the first of the batch is the one that is written.
        entries.sort_by(|a, b| (&a.conversation, a.message.id).cmp(&(&b.conversation, b.message.id)));
        let entries = entries.as_slice();
        self.writer
            .run(action, self.limit_for(entries.len()), |connection| {
                scoped(async move {
                    let mut transaction = connection.begin().await?;
                    let outcomes = write(&mut transaction, entries).await?;
                    if keep {
                        transaction.commit().await?;
                    } else {
                        transaction.rollback().await?;
                    }
                    Ok(outcomes)
                })
            })
            .await
    }
}

async fn write(
    connection: &mut MySqlConnection,
    entries: &[Entry<'_>],
) -> Result<Vec<Persisted>, sqlx::Error> {
    let mut refused = insert(connection, entries).await?;
    let mut ids: Vec<MessageId> = entries.iter().map(|entry| entry.message.id).collect();
    ids.dedup();
    let mut rows = rows_of(connection, &ids).await?;

    // Without a row of its id, though the server took it: its clientMsgId was there before.
    let absent: Vec<Entry<'_>> = entries
        .iter()
        .filter(|entry| !rows.contains_key(&entry.message.id) && !refused.contains_key(&entry.place))
        .cloned()
        .collect();
    let doubled = if absent.is_empty() {
        HashMap::new()
    } else {
        resolve_absent(connection, absent, &mut rows, &mut refused).await?
    };

    let tombstones = tombstones_of(connection, &ids).await?;
    if !tombstones.is_empty() {
        let recalled: Vec<MessageId> =
            ids.iter().filter(|&id| tombstones.contains_key(id)).copied().collect();
        apply_tombstones(connection, &recalled).await?;
    }

    let mut outcomes = vec![None; entries.len()];
    for entry in entries {
        outcomes[entry.place] = Some(if let Some(reason) = refused.remove(&entry.place) {
            Persisted::Refused { reason }
        } else if let Some(&first) = doubled.get(&entry.place) {
            Persisted::Doubles { first }
        } else {
            let row = rows.get(&entry.message.id).ok_or(sqlx::Error::RowNotFound)?;
            let tombstone = tombstones.get(&entry.message.id).copied();
            if !row.is_same_message(entry.message) {
                Persisted::Clash
            } else if let Some(recall_time) = tombstone {
                Persisted::Recalled { recall_time }
            } else if row.is_recalled() {
                // Without a tombstone: recalled by another writer, or before it was accepted here.
                Persisted::Recalled { recall_time: row.recall_time.unwrap_or(row.send_time) }
            } else {
                Persisted::Written
            }
        });
    }
    outcomes.into_iter().collect::<Option<_>>().ok_or(sqlx::Error::RowNotFound)
}

/// Messages that met the row of another one with their `clientMsgId`. Where that row is the same message, this is a
/// retry, and it stays out: answers place → the row's id. Otherwise the client has used one name for two messages, which
/// is refused at the edge while Redis remembers; once accepted it is a message, and is written without the name.
async fn resolve_absent(
    connection: &mut MySqlConnection,
    absent: Vec<Entry<'_>>,
    rows: &mut HashMap<MessageId, Message>,
    refused: &mut HashMap<usize, String>,
) -> Result<HashMap<usize, MessageId>, sqlx::Error> {
    let firsts = firsts_of(connection, &absent).await?;
    let mut doubled = HashMap::new();
    let mut nameless = Vec::new();
    for mut entry in absent {
        let first = entry.client_msg_id.and_then(|name| firsts.get(&(entry.message.from, name.as_str())));
        match first {
            Some(first) if is_same_send(first, entry.message) => {
                doubled.insert(entry.place, first.id);
            }
            _ => {
                entry.client_msg_id = None;
                nameless.push(entry);
            }
        }
    }
    if !nameless.is_empty() {
        refused.extend(insert(connection, &nameless).await?);
        let ids: Vec<MessageId> = nameless.iter().map(|entry| entry.message.id).collect();
        rows.extend(rows_of(connection, &ids).await?);
    }
    Ok(doubled)
}

/// Whether `retry`, of the same sender and under the same `clientMsgId`, says what `first` says. Of a recalled message
/// the words are gone, so they are not compared.
fn is_same_send(first: &Message, retry: &Message) -> bool {
    first.to == retry.to
        && first.kind == retry.kind
        && (first.is_recalled() || retry.is_recalled() || first.content == retry.content)
}

/// Inserts what is not there and changes nothing that is. Answers place → reason for what the server will never take:
/// a statement with such a value fails whole, so it is halved until the value stands alone.
async fn insert(
    connection: &mut MySqlConnection,
    entries: &[Entry<'_>],
) -> Result<HashMap<usize, String>, sqlx::Error> {
    let mut refused = HashMap::new();
    let mut fitting = Vec::with_capacity(entries.len());
    for entry in entries {
        let bytes = entry.message.content.len();
        if bytes > MAX_CONTENT_BYTES {
            refused.insert(
                entry.place,
                format!("content has {bytes} bytes; the column takes {MAX_CONTENT_BYTES}"),
            );
        } else {
            fitting.push(entry.clone());
        }
    }
    let mut left: Vec<&[Entry<'_>]> = statements(&fitting);
    // The last is taken first, so turn them round: rows are written in the order of the primary key.
    left.reverse();
    while let Some(part) = left.pop() {
        match insert_statement(connection, part).await {
            Err(error) if Fault::of(&error) == Fault::Value => {
                if let [entry] = part {
                    refused.insert(entry.place, error.to_string());
                } else {
                    let (first, second) = part.split_at(part.len() / 2);
                    left.extend([second, first]);
                }
            }
            result => result?,
        }
    }
    Ok(refused)
}

/// `entries` cut into what goes into one statement each.
fn statements<'s, 'a>(mut entries: &'s [Entry<'a>]) -> Vec<&'s [Entry<'a>]> {
    let mut statements = Vec::with_capacity(entries.len().div_ceil(LONGEST_LIST));
    while let Some(first) = entries.first() {
        let limit = if size_of(first) > STATEMENT_BYTES { LARGE_STATEMENT_BYTES } else { STATEMENT_BYTES };
        let mut bytes = 0;
        let fitting = entries
            .iter()
            .take(LONGEST_LIST)
            .take_while(|entry| {
                bytes += size_of(entry);
                bytes <= limit
            })
            .count();
        // A list is filled up to one of the few lengths by repeating its last row: all that is left goes into one
        // statement if there is room for that as well.
        let repeated = (filled_up(fitting) - fitting) * size_of(&entries[fitting - 1]);
        let len = if fitting == entries.len() && bytes + repeated <= limit {
            fitting
        } else {
            full_length(fitting)
        };
        let (statement, rest) = entries.split_at(len);
        statements.push(statement);
        entries = rest;
    }
    statements
}

/// What a row needs in a statement, in bytes, at most.
fn size_of(entry: &Entry<'_>) -> usize {
    ROW_BYTES + entry.message.content.len() + entry.client_msg_id.map_or(0, |id| id.as_str().len())
}

async fn insert_statement(
    connection: &mut MySqlConnection,
    entries: &[Entry<'_>],
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<MySql>::new(
        "/* store.persist: insert */ INSERT INTO message (id, conv_id, from_user_id, to_id, content, msg_type, \
         chat_type, send_time, status, recall_time, persist_status, client_msg_id) VALUES ",
    );
    push_rows(&mut query, entries, |row, entry| {
        let message = entry.message;
        row.push_bind(message.id.get())
            .push_bind(entry.conversation.as_str())
            .push_bind(message.from.get())
            .push_bind(message.to.get())
            .push_bind(if message.is_recalled() { "" } else { message.content.as_str() })
            .push_bind(u8::from(message.kind))
            .push_bind(CHAT_TYPE_PRIVATE)
            .push_bind(message.send_time)
            .push_bind(u8::from(message.status))
            .push_bind(message.recall_time)
            .push_bind(PersistStatus::Persisted.as_str())
            .push_bind(entry.client_msg_id.map(|id| id.as_str().as_bytes()));
    });
    query.push(" ON DUPLICATE KEY UPDATE id = id");
    query.build().execute(connection).await.map(drop)
}

/// The rows of `ids`. Not locked: the insert has locked what it met and what it wrote, and at READ COMMITTED each
/// statement sees what is committed as it begins, and what this transaction did.
async fn rows_of(
    connection: &mut MySqlConnection,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, Message>, sqlx::Error> {
    let mut rows = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(LONGEST_LIST) {
        let mut query = QueryBuilder::<MySql>::new(format!(
            "/* store.persist: compare */ SELECT {COLUMNS} FROM message FORCE INDEX (uk_message_id) WHERE id IN "
        ));
        push_ids(&mut query, ids);
        for row in query.build().fetch_all(&mut *connection).await? {
            let message = message_of(&row)?;
            rows.insert(message.id, message);
        }
    }
    Ok(rows)
}

/// The rows that hold the `clientMsgId`s of `entries`.
async fn firsts_of<'a>(
    connection: &mut MySqlConnection,
    entries: &[Entry<'a>],
) -> Result<HashMap<(UserId, &'a str), Message>, sqlx::Error> {
    let mut firsts = HashMap::new();
    // Rare, so one at a time: a list of pairs is not looked up by the index on every server.
    for entry in entries {
        let Some(name) = entry.client_msg_id.map(ClientMessageId::as_str) else {
            continue;
        };
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "/* store.persist: first */ SELECT {COLUMNS} FROM message WHERE from_user_id = ? AND client_msg_id = ?"
        )))
        .bind(entry.message.from.get())
        .bind(name.as_bytes())
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(row) = row {
            firsts.insert((entry.message.from, name), message_of(&row)?);
        }
    }
    Ok(firsts)
}

/// The tombstones of `ids`, with the time of each recall. Locked, so that a recall in progress is waited for.
async fn tombstones_of(
    connection: &mut MySqlConnection,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, TimestampMs>, sqlx::Error> {
    let mut tombstones = HashMap::new();
    for ids in ids.chunks(LONGEST_LIST) {
        // `FOR SHARE` is not known to MariaDB.
        let mut query = QueryBuilder::<MySql>::new(
            "/* store.persist: tombstones */ SELECT message_id, recall_time FROM message_recall FORCE INDEX (PRIMARY) \
             WHERE message_id IN ",
        );
        push_ids(&mut query, ids);
        query.push(" LOCK IN SHARE MODE");
        for row in query.build().fetch_all(&mut *connection).await? {
            tombstones.insert(message_id(row.try_get("message_id")?)?, row.try_get("recall_time")?);
        }
    }
    Ok(tombstones)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageType;

    fn lengths(contents: &[usize]) -> Vec<usize> {
        let messages: Vec<Message> = contents
            .iter()
            .zip(1..)
            .map(|(&bytes, id)| {
                let (id, from, to) = (MessageId::new(id), UserId::new(1), UserId::new(2));
                Message::new(
                    id.unwrap(),
                    from.unwrap(),
                    to.unwrap(),
                    MessageType::TEXT,
                    "x".repeat(bytes),
                    None,
                )
            })
            .collect();
        let entries: Vec<Entry<'_>> = messages
            .iter()
            .enumerate()
            .map(|(place, message)| Entry { message, conversation: "1_2".into(), client_msg_id: None, place })
            .collect();
        let statements = statements(&entries);
        assert!(statements.concat().iter().map(|entry| entry.place).eq(0..contents.len()));
        statements.iter().map(|statement| statement.len()).collect()
    }

    #[test]
    fn statements_are_small_and_few() {
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[10; 100]), [100]);
        assert_eq!(lengths(&[10; 230]), [100, 100, 30], "the last is filled up to 50");
        assert_eq!(lengths(&[100; 130]), [50, 50, 30]);
        assert_eq!(lengths(&[60; 70]), [50, 20], "filled up to 100, it would be too large");
        assert_eq!(lengths(&[8_192; 3]), [1, 1, 1]);
        assert_eq!(lengths(&[10, 65_535, 10, 65_535]), [1, 3], "what has to wait anyway waits together");
        assert_eq!(lengths(&[65_535; 100]), [10; 10]);
    }
}
