//! RECALL records that name another conversation than their message's: nobody may take back what is not theirs.

use std::collections::HashMap;

use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::error::ServerError;
use hongyan::id::{ConversationId, MessageId};

use crate::batch::{Batch, Content};

/// Finds the RECALL records of this batch whose message is known to be of another conversation: in MySQL, in Redis, or
/// in the batch itself. Each is broken. If a store is away, none of them is worked on now, and they come again.
///
/// The record's key has no say. A message that nobody knows yet is left to the tombstone, which holds the conversation.
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
            // A stub has its conversation from a recall, which may be such a one.
            Detail::Recalled(recalled) => recalled.message.map(|message| (*id, message.conversation())),
            Detail::Missing => None,
        })),
        Err(error) if error.is_transient() => return Err(error),
        // A key that somebody wrote by hand knows nothing.
        Err(error) => {
            tracing::error!(%error, "consume.recall: Redis cannot tell of which conversations these messages are");
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
