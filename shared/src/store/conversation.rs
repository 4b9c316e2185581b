//! The row of a conversation: its lock orders the conversation's changes, its columns hold both users' read positions,
//! clearings and unread counts (`docs/decisions/0031-changes-in-order.md`).
//!
//! Every transaction that changes a conversation goes through [`begin`]. It locks the row first, takes its numbers
//! under the lock, and calls [`Conversations::save`] right before its commit.

use std::collections::BTreeMap;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Connection as _, MySql, MySqlConnection, QueryBuilder, Row as _, Transaction};

use super::pool::{has_time_for_a_lock, server_start};
use super::row::{LONGEST_LIST, broken, push_list, push_rows};
use crate::id::{ConversationId, MessageId, UserId};
use crate::trace;

/// How many numbers are skipped after a new start of MySQL. Far above the numbers that the transactions took whose commits could
/// be seen and were not on the disk yet.
pub(super) const NUMBERS_SKIPPED: i64 = 1_000_000;

/// The reading state of one of the two users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reader {
    /// The read position: every message up to this id is read; 0 at first.
    pub(super) up_to: i64,
    /// The number of the change that set the position.
    pub(super) seq: Option<i64>,
    /// The number of the user's unread rows.
    pub(super) unread: i64,
    /// The clearing: every message up to this id is hidden from the user; 0 at first.
    pub(super) cleared: i64,
    /// The number of the change that set the clearing.
    pub(super) cleared_seq: Option<i64>,
}

impl Reader {
    /// The id above which the user's visible messages are unread.
    pub(super) fn counted_above(&self) -> i64 {
        self.up_to.max(self.cleared)
    }
}

/// The row of a conversation, locked until the transaction ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conversation {
    id: ConversationId,
    last_seq: i64,
    /// `last_seq` before the newest gap that a new start of MySQL left; `None` before the first.
    resumed_after: Option<i64>,
    /// An earlier process of MySQL gave `last_seq`. That process may have shown higher numbers, whose commits were lost with it
    /// (`docs/decisions/0051-numbers-after-a-crash.md`).
    is_of_earlier_process: bool,
    /// The highest message id among the conversation's rows; 0 without one.
    pub(super) newest: i64,
    /// The reading states of the lower and of the higher user.
    readers: [Reader; 2],
    /// The number of early deletions: messages that were hidden and are not rows yet.
    pub(super) early_deletions: i64,
}

impl Conversation {
    /// Takes the next number for a change. The first one after a new start of MySQL is above all that were ever shown.
    pub(super) fn next_seq(&mut self) -> i64 {
        if std::mem::take(&mut self.is_of_earlier_process) {
            self.resumed_after = Some(self.last_seq);
            self.last_seq += NUMBERS_SKIPPED;
        }
        self.last_seq += 1;
        self.last_seq
    }

    /// The reading state of `user`, one of the two.
    pub(super) fn reader(&self, user: UserId) -> &Reader {
        &self.readers[place(self.id, user)]
    }

    /// As [`Self::reader`], to change it.
    pub(super) fn reader_mut(&mut self, user: UserId) -> &mut Reader {
        &mut self.readers[place(self.id, user)]
    }
}

/// The index of `user` in a conversation: 0 for the lower user, 1 for the higher.
pub(super) fn place(conversation: ConversationId, user: UserId) -> usize {
    usize::from(conversation.users()[0] != user)
}

/// The bit of `hidden_for` that hides a message from `user`.
pub(super) fn hidden_bit(conversation: ConversationId, user: UserId) -> u8 {
    1 << place(conversation, user)
}

/// The locked rows of a transaction, with their values at its beginning.
pub(super) struct Conversations {
    rows: BTreeMap<ConversationId, Conversation>,
    before: BTreeMap<ConversationId, Conversation>,
}

impl Conversations {
    /// The row of `id`, which must be one of the locked ones.
    pub(super) fn get_mut(&mut self, id: ConversationId) -> Result<&mut Conversation, sqlx::Error> {
        self.rows.get_mut(&id).ok_or(sqlx::Error::RowNotFound)
    }

    /// Writes the rows that have changed.
    pub(super) async fn save(&self, connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        let changed: Vec<&Conversation> = self
            .rows
            .iter()
            .filter(|(id, row)| self.before.get(id) != Some(*row))
            .map(|(_, row)| row)
            .collect();
        for rows in changed.chunks(LONGEST_LIST) {
            let mut query = QueryBuilder::<MySql>::new(
                "/* store.conversation: save */ INSERT INTO conversation (conv_id, user_low, user_high, last_seq, newest_id, \
                 read_low, read_high, read_low_seq, read_high_seq, unread_low, unread_high, clear_low, clear_high, \
                 clear_low_seq, clear_high_seq, early_deletions, resumed_after, changed_at, server_start) VALUES ",
            );
            push_rows(&mut query, rows, |list, row| {
                let ([low, high], [lower, higher]) = (&row.readers, row.id.users());
                list.push_bind(row.id.to_string())
                    .push_bind(lower.get())
                    .push_bind(higher.get())
                    .push_bind(row.last_seq)
                    .push_bind(row.newest)
                    .push_bind(low.up_to)
                    .push_bind(high.up_to)
                    .push_bind(low.seq)
                    .push_bind(high.seq)
                    .push_bind(low.unread.max(0))
                    .push_bind(high.unread.max(0))
                    .push_bind(low.cleared)
                    .push_bind(high.cleared)
                    .push_bind(low.cleared_seq)
                    .push_bind(high.cleared_seq)
                    .push_bind(row.early_deletions.max(0))
                    .push_bind(row.resumed_after)
                    .push("FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000)")
                    .push_bind(server_start());
            });
            // The row exists, so this always updates. Both servers know `VALUES`; only MySQL knows the newer alias.
            query.push(
                " ON DUPLICATE KEY UPDATE last_seq = VALUES(last_seq), newest_id = VALUES(newest_id), \
                 read_low = VALUES(read_low), read_high = VALUES(read_high), read_low_seq = VALUES(read_low_seq), \
                 read_high_seq = VALUES(read_high_seq), unread_low = VALUES(unread_low), unread_high = VALUES(unread_high), \
                 clear_low = VALUES(clear_low), clear_high = VALUES(clear_high), clear_low_seq = VALUES(clear_low_seq), \
                 clear_high_seq = VALUES(clear_high_seq), early_deletions = VALUES(early_deletions), \
                 resumed_after = VALUES(resumed_after), changed_at = VALUES(changed_at), server_start = VALUES(server_start)",
            );
            query.build().execute(&mut *connection).await?;
        }
        Ok(())
    }
}

/// Begins a transaction that holds the rows of these conversations. All transactions lock in the order of `conv_id`, so
/// two of them wait for each other and do not deadlock. Fails if the wait for the rows left no time to wait for another
/// lock.
pub(super) async fn begin(
    connection: &mut MySqlConnection,
    ids: impl IntoIterator<Item = ConversationId>,
) -> Result<(Transaction<'_, MySql>, Conversations), sqlx::Error> {
    let mut ids: Vec<(String, ConversationId)> = ids.into_iter().map(|id| (id.to_string(), id)).collect();
    // Sorted like the column, byte by byte, and not by the users' numbers.
    ids.sort_unstable();
    ids.dedup();
    let mut transaction = begin_traced(connection).await?;
    let mut rows = lock(&mut transaction, &ids).await?;
    let missing: Vec<_> = ids.into_iter().filter(|(_, id)| !rows.contains_key(id)).collect();
    if !missing.is_empty() {
        create(&mut transaction, &missing).await?;
        rows.extend(lock(&mut transaction, &missing).await?);
    }
    has_time_for_a_lock()?;
    let before = rows.clone();
    Ok((transaction, Conversations { rows, before }))
}

/// Begins a transaction. If the work belongs to recorded traces, a comment in the `BEGIN` names them. `BEGIN` is no prepared
/// statement, so the comment costs neither a round trip nor a place among the prepared ones
/// (`docs/decisions/0055-traces.md`).
async fn begin_traced(connection: &mut MySqlConnection) -> Result<Transaction<'_, MySql>, sqlx::Error> {
    match trace::for_comment() {
        None => connection.begin().await,
        // The comment is of hex digits, hyphens and commas.
        Some(traces) => {
            connection.begin_with(AssertSqlSafe(format!("BEGIN /* traceparent='{traces}' */"))).await
        }
    }
}

/// Locks the rows and reads them.
async fn lock(
    connection: &mut MySqlConnection,
    ids: &[(String, ConversationId)],
) -> Result<BTreeMap<ConversationId, Conversation>, sqlx::Error> {
    let mut rows = BTreeMap::new();
    for ids in ids.chunks(LONGEST_LIST) {
        let mut query = QueryBuilder::<MySql>::new(
            "/* store.conversation: lock */ SELECT conv_id, last_seq, newest_id, read_low, read_high, read_low_seq, read_high_seq, \
             unread_low, unread_high, clear_low, clear_high, clear_low_seq, clear_high_seq, early_deletions, resumed_after, \
             last_seq > 0 AND ABS(server_start - ",
        );
        query.push_bind(server_start());
        query
            .push(") > 2 AS is_of_earlier_process FROM conversation FORCE INDEX (PRIMARY) WHERE conv_id IN ");
        push_list(&mut query, ids, |(text, _)| text.clone());
        query.push(" ORDER BY conv_id FOR UPDATE");
        for row in query.build().fetch_all(&mut *connection).await? {
            let row = conversation_of(&row)?;
            rows.insert(row.id, row);
        }
    }
    Ok(rows)
}

/// Creates the rows of new conversations. Two transactions that do this at once may deadlock; the victim runs again.
async fn create(
    connection: &mut MySqlConnection,
    ids: &[(String, ConversationId)],
) -> Result<(), sqlx::Error> {
    for ids in ids.chunks(LONGEST_LIST) {
        let mut query = QueryBuilder::<MySql>::new(
            "/* store.conversation: create */ INSERT INTO conversation (conv_id, user_low, user_high) VALUES ",
        );
        push_rows(&mut query, ids, |list, (text, id)| {
            let [low, high] = id.users();
            list.push_bind(text.clone()).push_bind(low.get()).push_bind(high.get());
        });
        query.push(" ON DUPLICATE KEY UPDATE conv_id = conv_id");
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

fn conversation_of(row: &MySqlRow) -> Result<Conversation, sqlx::Error> {
    let reader = |user: &str| -> Result<Reader, sqlx::Error> {
        let number = |column: &str| row.try_get(format!("{column}_{user}").as_str());
        let seq = |column: &str| row.try_get(format!("{column}_{user}_seq").as_str());
        Ok(Reader {
            up_to: number("read")?,
            seq: seq("read")?,
            unread: number("unread")?,
            cleared: number("clear")?,
            cleared_seq: seq("clear")?,
        })
    };
    let id: ConversationId = row.try_get::<&str, _>("conv_id")?.parse().map_err(broken)?;
    Ok(Conversation {
        id,
        last_seq: row.try_get("last_seq")?,
        newest: row.try_get("newest_id")?,
        readers: [reader("low")?, reader("high")?],
        early_deletions: row.try_get("early_deletions")?,
        resumed_after: row.try_get("resumed_after")?,
        is_of_earlier_process: row.try_get("is_of_earlier_process")?,
    })
}

/// Takes a message off its receiver's unread count, if it is counted. The message must be a live row that is not hidden
/// from the receiver.
pub(super) async fn uncount(
    connection: &mut MySqlConnection,
    conversation: &mut Conversation,
    receiver: UserId,
    id: MessageId,
) -> Result<(), sqlx::Error> {
    let counts = id.get() > conversation.reader(receiver).counted_above()
        || remove_unshown(connection, conversation.id, receiver, id).await?;
    if counts {
        conversation.reader_mut(receiver).unread -= 1;
    }
    Ok(())
}

async fn remove_unshown(
    connection: &mut MySqlConnection,
    conversation: ConversationId,
    user: UserId,
    id: MessageId,
) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query(
        "/* store.conversation: unshown */ DELETE FROM message_unshown WHERE user_id = ? AND conv_id = ? AND message_id = ?",
    )
    .bind(user.get())
    .bind(conversation.to_string())
    .bind(id.get())
    .execute(connection)
    .await?;
    Ok(removed.rows_affected() > 0)
}
