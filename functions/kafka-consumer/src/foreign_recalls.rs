//! RECALL records with the wrong conversation. A user must not be able to recall a message of another conversation.

use std::collections::HashMap;

use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::error::ServerError;
use hongyan::id::{ConversationId, MessageId};

use crate::batch::{Batch, Content};

/// Marks the RECALL records as broken whose message is known to be of another conversation: from MySQL, from Redis, or
/// from the batch itself. If a store is away, none of the RECALL records is handled now, and all come again.
///
/// The record's key does not count. If nobody knows the message yet, the tombstone keeps the conversation that the
/// RECALL named, and decides later.
pub(crate) async fn reject(app: &App, batch: &mut Batch) {
    let recalls = batch.recalls();
    if recalls.is_empty() {
        return;
    }
    let ids: Vec<MessageId> = recalls.iter().map(|(_, recall)| recall.message_id).collect();
    let known = match known(app, &ids).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(recalls = ids.len(), %error, "consume.recall: a store is away; these records come again");
            for (position, _) in recalls {
                batch.records[position].content = Content::HeldUp;
            }
            return;
        }
    };
    let in_batch: HashMap<MessageId, ConversationId> = batch.records.iter().filter_map(persisted).collect();
    for (position, recall) in recalls {
        let (id, named) = (recall.message_id, recall.conversation_id);
        let own = known.get(&id).or_else(|| in_batch.get(&id)).copied();
        if let Some(own) = own.filter(|own| *own != named) {
            let reason = format!("the message {id} is of the conversation {own}, and not of {named}");
            batch.records[position].content = Content::Broken(reason);
        }
    }
}

/// The conversations of these messages, as far as MySQL or Redis know the messages.
async fn known(app: &App, ids: &[MessageId]) -> Result<HashMap<MessageId, ConversationId>, ServerError> {
    let mut known = HashMap::new();
    match app.cache.details(ids).await {
        Ok(details) => known.extend(ids.iter().zip(details).filter_map(|(id, detail)| match detail {
            Detail::Message(message) => Some((*id, message.conversation())),
            // The conversation of a stub comes from a recall, which may have been a wrong one.
            Detail::Recalled(recalled) => recalled.message.map(|message| (*id, message.conversation())),
            Detail::Missing => None,
        })),
        Err(error) if error.is_transient() => return Err(error),
        // An odd key knows no message.
        Err(error) => {
            tracing::error!(%error, "consume.recall: Redis cannot tell the conversations of these messages; MySQL alone is asked");
        }
    }
    let rows = app.store.messages(ids).await?;
    known.extend(rows.into_iter().map(|row| (row.id, row.conversation())));
    Ok(known)
}

fn persisted(record: &crate::batch::Record) -> Option<(MessageId, ConversationId)> {
    match &record.content {
        Content::Persist(message) => Some((message.id, message.conversation())),
        _ => None,
    }
}
