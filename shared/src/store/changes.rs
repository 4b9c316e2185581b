//! The changes of a conversation, in the order of their commits (`docs/decisions/0031-changes-in-order.md`).

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

use super::Store;
use super::conversation::{NUMBERS_SKIPPED, hidden_bit, place};
use super::pool::scoped;
use super::row::{COLUMNS, message_id, message_of};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};
use crate::message::Message;

/// A change, as one of the two users may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The number of the change. A gap between numbers means nothing.
    pub seq: i64,
    /// The kind of the change, with its data.
    pub kind: ChangeKind,
}

/// The kinds of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// A message became a row. The message is shown as it is now: without content once it is recalled.
    Message(Box<Message>),
    /// A message was recalled. It may never have become a row.
    Recalled {
        /// The message.
        message_id: MessageId,
        /// The time of the recall, ms since 1970 UTC.
        recall_time: TimestampMs,
    },
    /// A user's read position moved.
    Read {
        /// The user.
        user: UserId,
        /// The new position: every message up to this one is read.
        up_to: MessageId,
    },
    /// The viewer hid a message from their own history.
    Deleted {
        /// The message.
        message_id: MessageId,
    },
    /// The viewer cleared the conversation.
    Cleared {
        /// The position: every message up to this one is hidden.
        up_to: MessageId,
    },
}

/// A page of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// The changes, in the order of their numbers.
    pub changes: Vec<Change>,
    /// The `after` of the next page; `None` if this page reaches `last_seq`. A page may hold fewer changes than asked
    /// for, or none, and still have a next one: messages that the viewer has hidden or cleared are left out.
    pub next: Option<i64>,
    /// The conversation's highest number when the page was read. All changes up to it are on the pages up to it. Below the
    /// caller's number: MySQL's process died, and lost changes that it had shown and not acknowledged, so the caller starts anew
    /// (`docs/decisions/0051-numbers-after-a-crash.md`).
    pub last_seq: i64,
}

impl Store {
    /// At most `limit` changes with numbers above `after`, for `viewer`, one of the two users. The cost grows with
    /// `limit` alone.
    ///
    /// The highest number is read first, and no change above it is returned: a change that commits in between belongs
    /// to the next call, together with every other change before it.
    #[tracing::instrument(name = "store.changes", skip_all, fields(conversation_id = %conversation, after, limit))]
    pub async fn changes(
        &self,
        conversation: ConversationId,
        viewer: UserId,
        after: i64,
        limit: u32,
    ) -> Result<ChangePage, ServerError> {
        self.writer
            .run("store.changes", self.timeout, |connection| {
                scoped(async move { changes(connection, conversation, viewer, after, limit).await })
            })
            .await
    }
}

/// A number of the sequence: a change, or a message that the viewer has hidden.
struct Slot {
    seq: i64,
    kind: Option<ChangeKind>,
}

async fn changes(
    connection: &mut MySqlConnection,
    conversation: ConversationId,
    viewer: UserId,
    after: i64,
    limit: u32,
) -> Result<ChangePage, sqlx::Error> {
    let row = sqlx::query(
        "/* store.changes: last */ SELECT last_seq, read_low, read_high, read_low_seq, read_high_seq, clear_low, clear_high, \
         clear_low_seq, clear_high_seq, resumed_after FROM conversation WHERE conv_id = ?",
    )
    .bind(conversation.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(ChangePage { changes: Vec::new(), next: None, last_seq: 0 }) };
    let last_seq: i64 = row.try_get("last_seq")?;
    let resumed_after: Option<i64> = row.try_get("resumed_after")?;
    if let Some(resumed_after) =
        resumed_after.filter(|last| (last + 1..=last + NUMBERS_SKIPPED).contains(&after))
    {
        // No change has such a number: MySQL's process died before their commits were on the disk.
        return Ok(ChangePage { changes: Vec::new(), next: None, last_seq: resumed_after });
    }
    if after >= last_seq {
        return Ok(ChangePage { changes: Vec::new(), next: None, last_seq });
    }
    let range = Range { conversation, after, last_seq, limit };

    let mut slots = positions(&row, &range)?;
    let (cleared, clearing) = clearing(&row, &range, viewer)?;
    slots.extend(clearing);
    slots.extend(range.messages(connection, viewer, cleared).await?);
    slots.extend(range.recalls(connection).await?);
    slots.extend(range.deletions(connection, viewer).await?);
    slots.sort_by_key(|slot| slot.seq);

    // Of each kind, `limit` changes and one more were read, so the first `limit` of all are complete.
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let next = if slots.len() > wanted { slots[..wanted].last().map(|slot| slot.seq) } else { None };
    slots.truncate(wanted);
    let changes = slots.into_iter().filter_map(|slot| Some(Change { seq: slot.seq, kind: slot.kind? }));
    Ok(ChangePage { changes: changes.collect(), next, last_seq })
}

/// The changes of the two read positions, which are columns of the conversation's row.
fn positions(row: &MySqlRow, range: &Range) -> Result<Vec<Slot>, sqlx::Error> {
    let mut slots = Vec::new();
    let columns = [("read_low", "read_low_seq"), ("read_high", "read_high_seq")];
    for (user, (up_to, seq)) in range.conversation.users().into_iter().zip(columns) {
        let seq: Option<i64> = row.try_get(seq)?;
        if let Some(seq) = seq.filter(|&seq| seq > range.after && seq <= range.last_seq) {
            let up_to = message_id(row.try_get(up_to)?)?;
            slots.push(Slot { seq, kind: Some(ChangeKind::Read { user, up_to }) });
        }
    }
    Ok(slots)
}

/// The id up to which the viewer has cleared the conversation, and the change that set it. Both are columns of the
/// conversation's row.
fn clearing(row: &MySqlRow, range: &Range, viewer: UserId) -> Result<(i64, Option<Slot>), sqlx::Error> {
    let columns = [("clear_low", "clear_low_seq"), ("clear_high", "clear_high_seq")];
    let (up_to, seq) = columns[place(range.conversation, viewer)];
    let (up_to, seq): (i64, Option<i64>) = (row.try_get(up_to)?, row.try_get(seq)?);
    let Some(seq) = seq.filter(|&seq| seq > range.after && seq <= range.last_seq) else {
        return Ok((up_to, None));
    };
    Ok((up_to, Some(Slot { seq, kind: Some(ChangeKind::Cleared { up_to: message_id(up_to)? }) })))
}

/// The range of numbers that a page is read from.
struct Range {
    conversation: ConversationId,
    after: i64,
    last_seq: i64,
    limit: u32,
}

impl Range {
    /// Runs `select` with the range as its condition. Reads one change more than `limit`, which shows whether there is
    /// a next page.
    async fn fetch(
        &self,
        connection: &mut MySqlConnection,
        select: String,
        user: Option<UserId>,
    ) -> Result<Vec<MySqlRow>, sqlx::Error> {
        let condition = if user.is_some() { "user_id = ? AND " } else { "" };
        let sql = format!(
            "{select} FORCE INDEX (idx_changes) WHERE {condition}conv_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        if let Some(user) = user {
            query = query.bind(user.get());
        }
        query
            .bind(self.conversation.to_string())
            .bind(self.after)
            .bind(self.last_seq)
            .bind(self.limit.saturating_add(1))
            .fetch_all(connection)
            .await
    }

    async fn messages(
        &self,
        connection: &mut MySqlConnection,
        viewer: UserId,
        cleared: i64,
    ) -> Result<Vec<Slot>, sqlx::Error> {
        let select = format!("/* store.changes: messages */ SELECT {COLUMNS}, hidden_for FROM message");
        let hidden_for_viewer = hidden_bit(self.conversation, viewer);
        let rows = self.fetch(connection, select, None).await?;
        let slot = |row: MySqlRow| -> Result<Slot, sqlx::Error> {
            let is_hidden = row.try_get::<u8, _>("hidden_for")? & hidden_for_viewer != 0;
            let message = message_of(&row)?;
            let is_shown = !is_hidden && message.id.get() > cleared;
            Ok(Slot {
                seq: row.try_get("seq")?,
                kind: is_shown.then(|| ChangeKind::Message(Box::new(message))),
            })
        };
        rows.into_iter().map(slot).collect()
    }

    async fn recalls(&self, connection: &mut MySqlConnection) -> Result<Vec<Slot>, sqlx::Error> {
        let select = "/* store.changes: recalls */ SELECT seq, message_id, recall_time FROM message_recall";
        let slot = |row: MySqlRow| -> Result<Slot, sqlx::Error> {
            let message_id = message_id(row.try_get("message_id")?)?;
            let recall_time = row.try_get("recall_time")?;
            Ok(Slot {
                seq: row.try_get("seq")?,
                kind: Some(ChangeKind::Recalled { message_id, recall_time }),
            })
        };
        self.fetch(connection, select.to_owned(), None).await?.into_iter().map(slot).collect()
    }

    async fn deletions(
        &self,
        connection: &mut MySqlConnection,
        viewer: UserId,
    ) -> Result<Vec<Slot>, sqlx::Error> {
        let select = "/* store.changes: deletions */ SELECT seq, message_id FROM message_delete";
        let slot = |row: MySqlRow| -> Result<Slot, sqlx::Error> {
            let message_id = message_id(row.try_get("message_id")?)?;
            Ok(Slot { seq: row.try_get("seq")?, kind: Some(ChangeKind::Deleted { message_id }) })
        };
        self.fetch(connection, select.to_owned(), Some(viewer)).await?.into_iter().map(slot).collect()
    }
}
