//! Persisting: a batch of messages becomes rows, in one transaction.
//!
//! The transaction holds the rows of the batch's conversations ([`super::conversation`]), so no other transaction
//! changes these meanwhile. It reads the present state, decides the outcome of each message, and writes only new rows.

use std::collections::{HashMap, HashSet};

use sqlx::{MySql, MySqlConnection, QueryBuilder};

use super::Store;
use super::conversation::{self, Conversations, hidden_bit};
use super::fault::Fault;
use super::pool::scoped;
use super::row::{LONGEST_LIST, push_exactly, push_rows};
use super::sends::{self, Kept, KnownSends};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId};
use crate::message::{CHAT_TYPE_PRIVATE, ClientMessageId, Message, PersistStatus};
use crate::redact;

/// The outcome of one message of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persisted {
    /// The message is a row with `status` 1; it may have been one before.
    Written,
    /// The message was recalled: its row has `status` 0 and no content.
    Recalled {
        /// The time of the first recall, ms since 1970 UTC.
        recall_time: TimestampMs,
    },
    /// A double: the sender's `clientMsgId` stands for another message with the same receiver, type and content. This
    /// message is a retry that was taken for a new message, and is not written.
    Doubles {
        /// The message that is kept, or was recalled.
        first: MessageId,
    },
    /// A clash: another message has the id. This message is not written.
    Clash,
    /// MySQL will never take the message. The other messages of the batch are written.
    Refused {
        /// MySQL's reason, for people.
        reason: String,
    },
}

/// The outcome of one message of a batch, and its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The outcome.
    pub persisted: Persisted,
    /// The number of the change that made the row; `None` without a row.
    pub seq: Option<i64>,
    /// True if this call made the row.
    pub is_new: bool,
}

/// The size of the column `content`, a TEXT.
const MAX_CONTENT_BYTES: usize = 65_535;
/// The most bytes of a statement, so that it fits into one TLS record (16 KiB) and one write to the socket. sqlx leaves
/// Nagle's algorithm on: a second write would wait for the server's acknowledgement of the first, which the server
/// delays by 40 ms. `docs/decisions/0025-mysql-connections.md` has the measurement.
const STATEMENT_BYTES: usize = 15 * 1024;
/// The most bytes of a statement that holds a larger row and has to wait anyway. Every server's `max_allowed_packet`
/// takes this much; a server that gets more closes the connection without an answer.
const LARGE_STATEMENT_BYTES: usize = 1 << 20;
/// The most bytes of a row in a statement, without its content and its `clientMsgId`.
const ROW_BYTES: usize = 170;

/// A message of the batch.
#[derive(Clone)]
struct Entry<'a> {
    message: &'a Message,
    conversation: ConversationId,
    /// The name that is written, which is not always the message's own.
    client_msg_id: Option<&'a ClientMessageId>,
    /// True if Redis had the message before, so that pages could show it.
    was_shown: bool,
    /// The message's index in the batch.
    place: usize,
    /// The time of the recall, from a tombstone or from the record itself.
    recall_time: Option<TimestampMs>,
    hidden_for: u8,
    seq: i64,
}

impl Store {
    /// Writes a batch and returns the outcome of each message, in order. One transaction: after an error nothing is
    /// written. Safe to repeat; a batch may hold a message twice. Rows say PERSISTED.
    ///
    /// The end is the same in either order with [`Store::recall`]: both lock the conversation first, so the later one
    /// sees the work of the earlier one (`docs/decisions/0031-changes-in-order.md`).
    ///
    /// A refused or clashing message is an outcome and not an error. Every error is transient.
    pub async fn persist(&self, messages: &[Message]) -> Result<Vec<Persisted>, ServerError> {
        let outcomes = self.persist_arrivals(messages, &HashSet::new()).await?;
        Ok(outcomes.into_iter().map(|outcome| outcome.persisted).collect())
    }

    /// As [`Self::persist`]. Redis did not have the messages `unshown`, so nobody could see them before: they count as
    /// unread even if the receiver's read position has passed their ids.
    #[tracing::instrument(name = "store.persist", skip_all, fields(rows = messages.len()))]
    pub async fn persist_arrivals(
        &self,
        messages: &[Message],
        unshown: &HashSet<MessageId>,
    ) -> Result<Vec<Outcome>, ServerError> {
        self.run_batch("store.persist", messages, unshown, true).await
    }

    /// The outcomes that [`Self::persist`] would have. It does the same and rolls the transaction back.
    #[tracing::instrument(name = "store.try_persist", skip_all, fields(rows = messages.len()))]
    pub async fn try_persist(&self, messages: &[Message]) -> Result<Vec<Persisted>, ServerError> {
        let outcomes = self.run_batch("store.try_persist", messages, &HashSet::new(), false).await?;
        Ok(outcomes.into_iter().map(|outcome| outcome.persisted).collect())
    }

    async fn run_batch(
        &self,
        action: &'static str,
        messages: &[Message],
        unshown: &HashSet<MessageId>,
        keep: bool,
    ) -> Result<Vec<Outcome>, ServerError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let mut entries: Vec<Entry<'_>> = messages
            .iter()
            .enumerate()
            .map(|(place, message)| Entry {
                message,
                conversation: message.conversation(),
                client_msg_id: message.client_msg_id.as_ref(),
                was_shown: !unshown.contains(&message.id),
                place,
                recall_time: None,
                hidden_for: 0,
                seq: 0,
            })
            .collect();
        // Rows are written and numbered in the order of their ids. The sort is stable: of two messages with one id, the
        // first of the batch is written.
        entries.sort_by_key(|entry| (entry.conversation, entry.message.id));
        let entries = entries.as_slice();
        self.writer
            .run(action, self.limit_for(entries.len()), |connection| {
                scoped(async move {
                    let ids = entries.iter().map(|entry| entry.conversation);
                    let (mut transaction, mut conversations) = conversation::begin(connection, ids).await?;
                    let outcomes = write(&mut transaction, &mut conversations, entries.to_vec()).await?;
                    if keep {
                        conversations.save(&mut transaction).await?;
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

/// Decides the outcome of each message and writes the new rows.
async fn write(
    connection: &mut MySqlConnection,
    conversations: &mut Conversations,
    entries: Vec<Entry<'_>>,
) -> Result<Vec<Outcome>, sqlx::Error> {
    let mut outcomes = vec![None; entries.len()];

    // Read the present state.
    let known = sends::known(connection, entries.iter().map(|entry| entry.message)).await?;

    // Sort out messages that need no row, or must not have one.
    let (mut new, repeats) = decide(entries, known, &mut outcomes);

    // Number the new rows, and apply the deletions that came before them.
    apply_early_deletions(connection, conversations, &mut new).await?;
    for entry in &mut new {
        entry.seq = conversations.get_mut(entry.conversation)?.next_seq();
    }

    // Write the new rows.
    let mut refused = insert(connection, &new).await?;

    // Count the new rows.
    let mut unshown = Vec::new();
    for entry in &new {
        if let Some(reason) = refused.remove(&entry.place) {
            // If the dead letter is written later, it must still be hidden from the users who deleted the message.
            conversations.get_mut(entry.conversation)?.early_deletions +=
                i64::from(entry.hidden_for.count_ones());
            outcomes[entry.place] =
                Some(Outcome { persisted: Persisted::Refused { reason }, seq: None, is_new: false });
            continue;
        }
        count(conversations, entry, &mut unshown)?;
        let persisted =
            entry.recall_time.map_or(Persisted::Written, |recall_time| Persisted::Recalled { recall_time });
        outcomes[entry.place] = Some(Outcome { persisted, seq: Some(entry.seq), is_new: true });
    }
    insert_unshown(connection, &unshown).await?;

    // A message that is in the batch twice has one outcome.
    for (place, first) in repeats {
        outcomes[place] = outcomes[first].clone().map(|outcome| Outcome { is_new: false, ..outcome });
    }
    outcomes.into_iter().collect::<Option<_>>().ok_or(sqlx::Error::RowNotFound)
}

/// Sorts out the messages that are known already. Returns the entries that become rows, and the repeated ones: the
/// index of each, with the index of the first.
fn decide<'a>(
    entries: Vec<Entry<'a>>,
    mut known: KnownSends,
    outcomes: &mut [Option<Outcome>],
) -> (Vec<Entry<'a>>, Vec<(usize, usize)>) {
    let (mut new, mut repeats) = (Vec::with_capacity(entries.len()), Vec::new());
    let mut places: HashMap<MessageId, usize> = HashMap::new();
    for mut entry in entries {
        let message = entry.message;
        let mut settle =
            |persisted, seq| outcomes[entry.place] = Some(Outcome { persisted, seq, is_new: false });
        if let Some(row) = known.row(message.id) {
            if !row.is_same_message(message) {
                settle(Persisted::Clash, None);
            } else if let Some(&first) = places.get(&message.id) {
                repeats.push((entry.place, first));
            } else if row.is_recalled() {
                settle(
                    Persisted::Recalled { recall_time: row.recall_time.unwrap_or(row.send_time) },
                    row.seq,
                );
            } else {
                settle(Persisted::Written, row.seq);
            }
            continue;
        }
        // The record itself says that its message is recalled, so no content is written.
        let stated = message.is_recalled().then(|| message.recall_time.unwrap_or(message.send_time));
        entry.recall_time = known.recall_time(message.id, entry.conversation).or(stated);
        if let Some(name) = entry.client_msg_id {
            match known.named(message, name) {
                Some(Kept::Same(first)) => {
                    settle(Persisted::Doubles { first }, None);
                    continue;
                }
                // The client used one name for two messages. The second was accepted, so it is written, but without the
                // name.
                Some(Kept::Other) => entry.client_msg_id = None,
                None => {}
            }
        }
        known.add(message, entry.client_msg_id);
        places.insert(message.id, entry.place);
        new.push(entry);
    }
    (new, repeats)
}

/// Hides messages from the users who deleted them before they became rows.
async fn apply_early_deletions(
    connection: &mut MySqlConnection,
    conversations: &mut Conversations,
    entries: &mut [Entry<'_>],
) -> Result<(), sqlx::Error> {
    let mut asked: Vec<MessageId> = Vec::new();
    for entry in entries.iter() {
        if conversations.get_mut(entry.conversation)?.early_deletions > 0 {
            asked.push(entry.message.id);
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    for entry in entries.iter_mut().filter(|entry| asked.contains(&entry.message.id)) {
        for user in entry.conversation.users() {
            let hidden: Option<i64> = sqlx::query_scalar(
                "/* store.persist: deletions */ SELECT message_id FROM message_delete WHERE user_id = ? AND message_id = ?",
            )
            .bind(user.get())
            .bind(entry.message.id.get())
            .fetch_optional(&mut *connection)
            .await?;
            if hidden.is_some() {
                entry.hidden_for |= hidden_bit(entry.conversation, user);
                conversations.get_mut(entry.conversation)?.early_deletions -= 1;
            }
        }
    }
    Ok(())
}

/// Counts a new row in its conversation: the newest id, and the receiver's unread rows.
fn count<'e, 'a>(
    conversations: &mut Conversations,
    entry: &'e Entry<'a>,
    unshown: &mut Vec<&'e Entry<'a>>,
) -> Result<(), sqlx::Error> {
    let (message, receiver) = (entry.message, entry.message.to);
    let conversation = conversations.get_mut(entry.conversation)?;
    conversation.newest = conversation.newest.max(message.id.get());
    let is_hidden = entry.hidden_for & hidden_bit(entry.conversation, receiver) != 0;
    if entry.recall_time.is_some() || is_hidden {
        return Ok(());
    }
    let reader = conversation.reader_mut(receiver);
    if message.id.get() <= reader.cleared {
        return Ok(());
    }
    if message.id.get() > reader.up_to {
        reader.unread += 1;
    } else if !entry.was_shown {
        reader.unread += 1;
        unshown.push(entry);
    }
    Ok(())
}

async fn insert_unshown(connection: &mut MySqlConnection, entries: &[&Entry<'_>]) -> Result<(), sqlx::Error> {
    for entries in entries.chunks(LONGEST_LIST) {
        let mut query = QueryBuilder::<MySql>::new(
            "/* store.persist: unshown */ INSERT INTO message_unshown (user_id, conv_id, message_id) VALUES ",
        );
        push_rows(&mut query, entries, |row, entry| {
            row.push_bind(entry.message.to.get())
                .push_bind(entry.conversation.to_string())
                .push_bind(entry.message.id.get());
        });
        query.push(" ON DUPLICATE KEY UPDATE message_id = message_id");
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Inserts new rows. Returns index and reason of each row that the server will never take: a statement with such a row
/// fails as a whole, so it is halved until the row is alone.
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
    // The loop takes the last part first; rows are written in the order of the primary key.
    left.reverse();
    while let Some(part) = left.pop() {
        match insert_statement(connection, part).await {
            Err(error) if Fault::of(&error) == Fault::Value => {
                if let [entry] = part {
                    refused.insert(entry.place, redact::mysql(&error.to_string()));
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

/// Cuts `entries` into statements.
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
        let len = statement_length(fitting);
        let (statement, rest) = entries.split_at(len);
        statements.push(statement);
        entries = rest;
    }
    statements
}

/// The number of rows of a statement: at most `len`, at least 1. The server keeps a prepared statement for each number,
/// so only a few numbers occur.
fn statement_length(len: usize) -> usize {
    [LONGEST_LIST, 50, 20].into_iter().find(|&length| length <= len).unwrap_or(len.clamp(1, 10))
}

/// The most bytes that a row takes in a statement.
fn size_of(entry: &Entry<'_>) -> usize {
    ROW_BYTES + entry.message.content.len() + entry.client_msg_id.map_or(0, |id| id.as_str().len())
}

async fn insert_statement(
    connection: &mut MySqlConnection,
    entries: &[Entry<'_>],
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<MySql>::new(
        "/* store.persist: insert */ INSERT INTO message (id, conv_id, from_user_id, to_id, content, msg_type, \
         chat_type, send_time, status, recall_time, persist_status, client_msg_id, fingerprint, hidden_for, seq) VALUES ",
    );
    push_exactly(&mut query, entries, |row, entry| {
        let message = entry.message;
        let name = entry.client_msg_id.map(|id| id.as_str().as_bytes());
        let fingerprint = message.fingerprint().filter(|_| name.is_some());
        row.push_bind(message.id.get())
            .push_bind(entry.conversation.to_string())
            .push_bind(message.from.get())
            .push_bind(message.to.get())
            .push_bind(if entry.recall_time.is_some() { "" } else { message.content.as_str() })
            .push_bind(u8::from(message.kind))
            .push_bind(CHAT_TYPE_PRIVATE)
            .push_bind(message.send_time)
            .push_bind(u8::from(entry.recall_time.is_none()))
            .push_bind(entry.recall_time)
            .push_bind(PersistStatus::Persisted.as_str())
            .push_bind(name)
            .push_bind(fingerprint.map(|fingerprint| fingerprint.as_bytes().to_vec()))
            .push_bind(entry.hidden_for)
            .push_bind(entry.seq);
    });
    // No duplicate is expected here, since the state was read under the lock. Only a message of another conversation,
    // whose lock this transaction does not hold, can have taken the id or the name since. That is contention: the
    // transaction runs again and then sees the other message.
    query.build().execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UserId;
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
            .map(|(place, message)| Entry {
                message,
                conversation: message.conversation(),
                client_msg_id: None,
                was_shown: true,
                place,
                recall_time: None,
                hidden_for: 0,
                seq: 0,
            })
            .collect();
        let statements = statements(&entries);
        assert!(statements.concat().iter().map(|entry| entry.place).eq(0..contents.len()));
        statements.iter().map(|statement| statement.len()).collect()
    }

    #[test]
    fn statements_are_small_and_few() {
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[10; 100]), [50, 50]);
        assert_eq!(lengths(&[10; 237]), [50, 50, 50, 50, 20, 10, 7]);
        assert_eq!(lengths(&[100; 130]), [50, 50, 20, 10]);
        assert_eq!(lengths(&[8_192; 3]), [1, 1, 1]);
        assert_eq!(lengths(&[10, 65_535, 10, 65_535]), [1, 3], "what has to wait anyway waits together");
        assert_eq!(lengths(&[65_535; 100]), [10; 10]);
    }
}
