//! The sends that MySQL knows: rows, and tombstones of sends that were recalled before they became rows
//! (`docs/decisions/0032-names-for-good.md`).

use std::collections::HashMap;

use sqlx::mysql::MySqlRow;
use sqlx::{MySql, MySqlConnection, QueryBuilder, Row as _};

use super::Store;
use super::pool::scoped;
use super::row::{
    COLUMNS, LONGEST_LIST, client_message_id, filled, fingerprint, message_id, message_of, push_ids,
    tombstone_conversation, user_id,
};
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};
use crate::ids::snowflake;
use crate::message::{ClientMessageId, Fingerprint, Message, MessageType, PersistStatus, Status};

/// The other message that a sender's `clientMsgId` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// A message with the same receiver, type and content.
    Same(MessageId),
    /// A different message, which is a row and holds the name.
    Other,
}

/// A send under a name.
#[derive(Debug, Clone)]
struct Named {
    id: MessageId,
    conversation: Option<ConversationId>,
    kind: Option<MessageType>,
    /// `None` if the fingerprint was not recorded: an older version wrote the tombstone.
    fingerprint: Option<Fingerprint>,
    /// True if the send is a row, so that the unique key holds the name.
    is_row: bool,
}

impl Named {
    /// True if `retry` is the same send. Without fingerprints only receiver and type are compared.
    fn is_same_send(&self, retry: &Message) -> bool {
        match (self.fingerprint, retry.fingerprint()) {
            (Some(first), Some(again)) => first == again,
            _ => {
                self.conversation == Some(retry.conversation())
                    && self.kind.is_none_or(|kind| kind == retry.kind)
            }
        }
    }
}

/// The known sends that concern a batch.
#[derive(Default)]
pub(super) struct KnownSends {
    rows: HashMap<MessageId, Message>,
    /// By message. A tombstone without a conversation counts for any.
    tombstones: HashMap<MessageId, Vec<(Option<ConversationId>, TimestampMs)>>,
    names: HashMap<(UserId, ClientMessageId), Vec<Named>>,
}

impl KnownSends {
    /// The row with this id.
    pub(super) fn row(&self, id: MessageId) -> Option<&Message> {
        self.rows.get(&id)
    }

    /// The time of the message's recall, if there is a tombstone of its conversation.
    pub(super) fn recall_time(&self, id: MessageId, conversation: ConversationId) -> Option<TimestampMs> {
        let tombstones = self.tombstones.get(&id)?;
        tombstones
            .iter()
            .find(|(named, _)| named.is_none_or(|named| named == conversation))
            .map(|(_, time)| *time)
    }

    /// The other message that `name` of this sender stands for, if there is one.
    pub(super) fn named(&self, message: &Message, name: &ClientMessageId) -> Option<Kept> {
        let sends = self.names.get(&(message.from, name.clone()))?;
        let others = || sends.iter().filter(|send| send.id != message.id);
        match others().find(|send| send.is_same_send(message)) {
            Some(first) => Some(Kept::Same(first.id)),
            None => others().any(|send| send.is_row).then_some(Kept::Other),
        }
    }

    /// Adds a message that becomes a row now.
    pub(super) fn add(&mut self, message: &Message, name: Option<&ClientMessageId>) {
        self.rows.insert(message.id, message.clone());
        if let Some(name) = name {
            let named = Named {
                id: message.id,
                conversation: Some(message.conversation()),
                kind: Some(message.kind),
                fingerprint: message.fingerprint(),
                is_row: true,
            };
            self.names.entry((message.from, name.clone())).or_default().push(named);
        }
    }

    fn add_row(&mut self, row: &MySqlRow) -> Result<(), sqlx::Error> {
        let message = message_of(row)?;
        if let Some(name) = &message.client_msg_id {
            let named = Named {
                id: message.id,
                conversation: Some(message.conversation()),
                kind: Some(message.kind),
                fingerprint: fingerprint(row)?.or_else(|| message.fingerprint()),
                is_row: true,
            };
            self.names.entry((message.from, name.clone())).or_default().push(named);
        }
        self.rows.insert(message.id, message);
        Ok(())
    }

    fn add_tombstone(&mut self, row: &MySqlRow) -> Result<(), sqlx::Error> {
        let (id, conversation) = (message_id(row.try_get("message_id")?)?, tombstone_conversation(row)?);
        self.tombstones.entry(id).or_default().push((conversation, row.try_get("recall_time")?));
        let from: Option<i64> = row.try_get("from_user_id")?;
        if let (Some(from), Some(name)) = (from, client_message_id(row)?) {
            let named =
                Named { id, conversation, kind: kind(row)?, fingerprint: fingerprint(row)?, is_row: false };
            self.names.entry((user_id(from)?, name)).or_default().push(named);
        }
        Ok(())
    }
}

/// Reads the known sends that concern these messages: rows and tombstones with their ids or their senders' names.
pub(super) async fn known(
    connection: &mut MySqlConnection,
    messages: impl Iterator<Item = &Message>,
) -> Result<KnownSends, sqlx::Error> {
    let messages: Vec<&Message> = messages.collect();
    let mut known = KnownSends::default();
    for messages in messages.chunks(LONGEST_LIST) {
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
        let names: Vec<Name<'_>> = messages
            .iter()
            .filter_map(|message| Some((message.from, message.client_msg_id.as_ref()?)))
            .collect();
        for row in rows(&ids, &names).build().fetch_all(&mut *connection).await? {
            known.add_row(&row)?;
        }
        for row in tombstones(&ids, &names).build().fetch_all(&mut *connection).await? {
            known.add_tombstone(&row)?;
        }
    }
    Ok(known)
}

/// A sender and their name for a message.
type Name<'n> = (UserId, &'n ClientMessageId);

fn rows(ids: &[MessageId], names: &[Name<'_>]) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new("/* store.sends: rows */ ");
    if !ids.is_empty() {
        query.push(format!(
            "SELECT {COLUMNS}, fingerprint FROM message FORCE INDEX (uk_message_id) WHERE id IN "
        ));
        push_ids(&mut query, ids);
    }
    if !names.is_empty() {
        query.push(if ids.is_empty() { "" } else { " UNION ALL " });
        query.push(format!("SELECT {COLUMNS}, fingerprint FROM message FORCE INDEX (uk_client_msg) WHERE "));
        push_names(&mut query, names);
    }
    query
}

fn tombstones(ids: &[MessageId], names: &[Name<'_>]) -> QueryBuilder<MySql> {
    const TOMBSTONE: &str =
        "message_id, conv_id, recall_time, from_user_id, msg_type, client_msg_id, fingerprint";
    let mut query = QueryBuilder::new("/* store.sends: tombstones */ ");
    if !ids.is_empty() {
        query.push(format!(
            "SELECT {TOMBSTONE} FROM message_recall FORCE INDEX (PRIMARY) WHERE message_id IN "
        ));
        push_ids(&mut query, ids);
    }
    if !names.is_empty() {
        query.push(if ids.is_empty() { "" } else { " UNION ALL " });
        query.push(format!("SELECT {TOMBSTONE} FROM message_recall FORCE INDEX (idx_recalled_name) WHERE "));
        push_names(&mut query, names);
    }
    query
}

/// Writes `(from_user_id = ? AND client_msg_id = ?) OR …`, which every server answers with one look-up in the index for
/// each name.
fn push_names(query: &mut QueryBuilder<MySql>, names: &[Name<'_>]) {
    let mut list = query.separated(" OR ");
    for (from, name) in filled(names) {
        list.push("(from_user_id = ")
            .push_bind_unseparated(from.get())
            .push_unseparated(" AND client_msg_id = ")
            .push_bind_unseparated(name.as_str().as_bytes().to_vec())
            .push_unseparated(")");
    }
}

fn kind(row: &MySqlRow) -> Result<Option<MessageType>, sqlx::Error> {
    Ok(row.try_get::<Option<u8>, _>("msg_type")?.and_then(|kind| MessageType::try_from(kind).ok()))
}

/// The tombstone of a send that never became a row, as a message: no content, `status` 0. `None` if the tombstone does
/// not name the users.
fn recalled_send(row: &MySqlRow) -> Result<Option<Message>, sqlx::Error> {
    let from: Option<i64> = row.try_get("from_user_id")?;
    let (Some(from), Some(conversation)) = (from, tombstone_conversation(row)?) else { return Ok(None) };
    let (id, from) = (message_id(row.try_get("message_id")?)?, user_id(from)?);
    let Some(to) = conversation.peer_of(from) else { return Ok(None) };
    Ok(Some(Message {
        id,
        from,
        to,
        content: String::new(),
        kind: kind(row)?.unwrap_or(MessageType::TEXT),
        send_time: snowflake::time_of(id),
        status: Status::Recalled,
        recall_time: Some(row.try_get("recall_time")?),
        persist_status: PersistStatus::Persisted,
        client_msg_id: client_message_id(row)?,
        seq: None,
    }))
}

/// A send in MySQL under a sender's name.
#[derive(Debug, Clone)]
pub struct NamedSend {
    /// The message as it is now: without content once it is recalled.
    pub message: Message,
    /// The fingerprint of the send, if it was recorded.
    pub fingerprint: Option<Fingerprint>,
}

impl NamedSend {
    /// True if this send has this receiver, type and fingerprint. If its own fingerprint was not recorded, only
    /// receiver and type are compared.
    pub fn is_of(&self, to: UserId, kind: MessageType, fingerprint: &Fingerprint) -> bool {
        match &self.fingerprint {
            Some(own) => own == fingerprint,
            None => self.message.to == to && self.message.kind == kind,
        }
    }
}

impl Store {
    /// The message with this id, as the writer has it. `None` if there is neither a row nor a tombstone that names its
    /// users.
    #[tracing::instrument(name = "store.message", skip_all, fields(message_id = %id))]
    pub async fn message(&self, id: MessageId) -> Result<Option<Message>, ServerError> {
        self.writer
            .run("store.message", self.timeout, |connection| {
                scoped(async move {
                    if let Some(row) = rows(&[id], &[]).build().fetch_optional(&mut *connection).await? {
                        return message_of(&row).map(Some);
                    }
                    for row in tombstones(&[id], &[]).build().fetch_all(&mut *connection).await? {
                        if let Some(message) = recalled_send(&row)? {
                            return Ok(Some(message));
                        }
                    }
                    Ok(None)
                })
            })
            .await
    }

    /// The sends under these names, as the writer has them, by sender and name; several if a name was used for several
    /// messages. One statement for rows and one for tombstones.
    #[tracing::instrument(name = "store.named_sends", skip_all, fields(names = names.len()))]
    pub(super) async fn named_sends(
        &self,
        names: &[(UserId, ClientMessageId)],
    ) -> Result<HashMap<(UserId, ClientMessageId), Vec<NamedSend>>, ServerError> {
        self.writer
            .run("store.named_sends", self.timeout, |connection| {
                scoped(async move {
                    let mut found: HashMap<_, Vec<NamedSend>> = HashMap::new();
                    for names in names.chunks(LONGEST_LIST) {
                        let names: Vec<Name<'_>> = names.iter().map(|(from, name)| (*from, name)).collect();
                        for row in rows(&[], &names).build().fetch_all(&mut *connection).await? {
                            let (message, stored) = (message_of(&row)?, fingerprint(&row)?);
                            let fingerprint = stored.or_else(|| message.fingerprint());
                            let Some(name) = message.client_msg_id.clone() else { continue };
                            found
                                .entry((message.from, name))
                                .or_default()
                                .push(NamedSend { message, fingerprint });
                        }
                        for row in tombstones(&[], &names).build().fetch_all(&mut *connection).await? {
                            let Some(message) = recalled_send(&row)? else { continue };
                            let (Some(name), fingerprint) =
                                (message.client_msg_id.clone(), fingerprint(&row)?)
                            else {
                                continue;
                            };
                            found
                                .entry((message.from, name))
                                .or_default()
                                .push(NamedSend { message, fingerprint });
                        }
                    }
                    Ok(found)
                })
            })
            .await
    }
}
