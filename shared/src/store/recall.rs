//! Recalls in MySQL: the tombstone, and the emptied row.

use std::collections::HashMap;

use sqlx::{MySql, MySqlConnection, QueryBuilder, Row as _};

use super::Store;
use super::conversation::{self, hidden_bit, uncount};
use super::pool::scoped;
use super::row::{LONGEST_LIST, broken, message_id, push_ids, push_rows, tombstone_conversation, user_id};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::event::Recall;
use crate::id::{ConversationId, MessageId, UserId};
use crate::message::Message;

/// A recall, with the message if it is known. The tombstone keeps the message's sender, name and fingerprint, so that a
/// retry of a send that never became a row is recognised for good.
#[derive(Debug, Clone)]
pub struct TakeBack {
    /// The message's id, its conversation and the time.
    pub recall: Recall,
    /// The message before the recall, or as Redis still has it without content.
    pub message: Option<Message>,
}

impl From<Recall> for TakeBack {
    fn from(recall: Recall) -> Self {
        Self { recall, message: None }
    }
}

/// The outcome of one recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenBack {
    /// The message is recalled since the time of its first recall, ms since 1970 UTC.
    Since(TimestampMs),
    /// The message is a row of another conversation than the recall names. Nothing was written.
    OtherConversation,
}

/// The columns of a row that a recall needs.
struct Row {
    conversation: ConversationId,
    to: UserId,
    is_live: bool,
    hidden_for: u8,
}

impl Store {
    /// As [`Self::take_back`], for recalls whose conversation is known to be right.
    pub async fn recall(&self, recalls: &[Recall]) -> Result<(), ServerError> {
        let recalls: Vec<TakeBack> = recalls.iter().copied().map(TakeBack::from).collect();
        self.take_back(&recalls).await.map(drop)
    }

    /// Recalls messages, whether they are rows or not. One transaction writes a tombstone for each; a row gets `status`
    /// 0, no content and the time of the recall. The first recall decides the time. Safe to repeat: an existing
    /// tombstone keeps its number. The row keeps its `persist_status`.
    ///
    /// Nothing else writes tombstones. [`Store::persist`] applies them to new rows
    /// (`docs/decisions/0003-tombstones.md`).
    #[tracing::instrument(name = "store.recall", skip_all, fields(rows = recalls.len()))]
    pub async fn take_back(&self, recalls: &[TakeBack]) -> Result<Vec<TakenBack>, ServerError> {
        if recalls.is_empty() {
            return Ok(Vec::new());
        }
        self.writer
            .run("store.recall", self.limit_for(recalls.len()), |connection| {
                scoped(async move { take_back(connection, recalls).await })
            })
            .await
    }
}

async fn take_back(
    connection: &mut MySqlConnection,
    recalls: &[TakeBack],
) -> Result<Vec<TakenBack>, sqlx::Error> {
    let named = recalls.iter().map(|taken| taken.recall.conversation_id);
    let (mut transaction, mut conversations) = conversation::begin(connection, named).await?;

    // Read the present state.
    let mut ids: Vec<MessageId> = recalls.iter().map(|taken| taken.recall.message_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = rows_of(&mut transaction, &ids).await?;
    let mut known = tombstones_of(&mut transaction, &ids).await?;

    // Number the new recalls, and take their messages off the receivers' counts.
    let mut outcomes = Vec::with_capacity(recalls.len());
    let mut written: Vec<(&TakeBack, Option<i64>)> = Vec::new();
    let mut emptied = Vec::new();
    for taken in recalls {
        let Recall { message_id, recall_time, conversation_id } = taken.recall;
        let row = rows.get(&message_id);
        if row.is_some_and(|row| row.conversation != conversation_id) {
            outcomes.push(TakenBack::OtherConversation);
            continue;
        }
        let before =
            known.get(&(message_id, Some(conversation_id))).or_else(|| known.get(&(message_id, None)));
        if let Some(&since) = before {
            outcomes.push(TakenBack::Since(since));
            if taken.message.is_some() && known.contains_key(&(message_id, Some(conversation_id))) {
                written.push((taken, None));
            }
            continue;
        }
        known.insert((message_id, Some(conversation_id)), recall_time);
        outcomes.push(TakenBack::Since(recall_time));
        let conversation = conversations.get_mut(conversation_id)?;
        written.push((taken, Some(conversation.next_seq())));
        if let Some(row) = row {
            emptied.push(message_id);
            if row.is_live && row.hidden_for & hidden_bit(conversation_id, row.to) == 0 {
                uncount(&mut transaction, conversation, row.to, message_id).await?;
            }
        }
    }

    // Write the tombstones and empty the rows.
    write_tombstones(&mut transaction, &written).await?;
    apply_tombstones(&mut transaction, &emptied).await?;
    conversations.save(&mut transaction).await?;
    transaction.commit().await?;
    Ok(outcomes)
}

/// Writes new tombstones, and adds sender, name and fingerprint to existing ones that lack them.
async fn write_tombstones(
    connection: &mut MySqlConnection,
    tombstones: &[(&TakeBack, Option<i64>)],
) -> Result<(), sqlx::Error> {
    for tombstones in tombstones.chunks(LONGEST_LIST) {
        let mut query = QueryBuilder::<MySql>::new(
            "/* store.recall: tombstones */ INSERT INTO message_recall (message_id, conv_id, recall_time, seq, from_user_id, \
             msg_type, client_msg_id, fingerprint) VALUES ",
        );
        push_rows(&mut query, tombstones, |list, (taken, seq)| {
            let message = taken.message.as_ref();
            let name = message.and_then(|message| message.client_msg_id.as_ref());
            let fingerprint = message.and_then(Message::fingerprint);
            list.push_bind(taken.recall.message_id.get())
                .push_bind(taken.recall.conversation_id.to_string())
                .push_bind(taken.recall.recall_time)
                .push_bind(*seq)
                .push_bind(message.map(|message| message.from.get()))
                .push_bind(message.map(|message| u8::from(message.kind)))
                .push_bind(name.map(|name| name.as_str().as_bytes().to_vec()))
                .push_bind(fingerprint.map(|fingerprint| fingerprint.as_bytes().to_vec()));
        });
        query.push(
            " ON DUPLICATE KEY UPDATE from_user_id = COALESCE(from_user_id, VALUES(from_user_id)), \
             msg_type = COALESCE(msg_type, VALUES(msg_type)), client_msg_id = COALESCE(client_msg_id, VALUES(client_msg_id)), \
             fingerprint = COALESCE(fingerprint, VALUES(fingerprint))",
        );
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Empties the rows among `ids` that have a tombstone of their conversation.
async fn apply_tombstones(connection: &mut MySqlConnection, ids: &[MessageId]) -> Result<(), sqlx::Error> {
    for ids in ids.chunks(LONGEST_LIST) {
        let mut query = QueryBuilder::<MySql>::new(
            "/* store.recall: rows */ UPDATE message AS m FORCE INDEX (uk_message_id) \
             JOIN message_recall AS r ON r.message_id = m.id AND r.conv_id = m.conv_id \
             SET m.status = 0, m.content = '', m.recall_time = r.recall_time WHERE m.id IN ",
        );
        push_ids(&mut query, ids);
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn rows_of(
    connection: &mut MySqlConnection,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, Row>, sqlx::Error> {
    let mut rows = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(LONGEST_LIST) {
        let mut query = QueryBuilder::<MySql>::new(
            "/* store.recall: look */ SELECT id, conv_id, to_id, status, hidden_for FROM message FORCE INDEX (uk_message_id) \
             WHERE id IN ",
        );
        push_ids(&mut query, ids);
        for row in query.build().fetch_all(&mut *connection).await? {
            let conversation: &str = row.try_get("conv_id")?;
            let found = Row {
                conversation: conversation.parse().map_err(broken)?,
                to: user_id(row.try_get("to_id")?)?,
                is_live: row.try_get::<u8, _>("status")? == 1,
                hidden_for: row.try_get("hidden_for")?,
            };
            rows.insert(message_id(row.try_get("id")?)?, found);
        }
    }
    Ok(rows)
}

/// The tombstones of `ids`, by message and conversation, with the time of each recall.
async fn tombstones_of(
    connection: &mut MySqlConnection,
    ids: &[MessageId],
) -> Result<HashMap<(MessageId, Option<ConversationId>), TimestampMs>, sqlx::Error> {
    let mut tombstones = HashMap::new();
    for ids in ids.chunks(LONGEST_LIST) {
        let mut query = QueryBuilder::<MySql>::new(
            "/* store.recall: known */ SELECT message_id, conv_id, recall_time FROM message_recall FORCE INDEX (PRIMARY) \
             WHERE message_id IN ",
        );
        push_ids(&mut query, ids);
        for row in query.build().fetch_all(&mut *connection).await? {
            let key = (message_id(row.try_get("message_id")?)?, tombstone_conversation(&row)?);
            tombstones.insert(key, row.try_get("recall_time")?);
        }
    }
    Ok(tombstones)
}
