//! The unread set: cleared as a user reads, made anew from MySQL after Redis lost its memory.

use hongyan::app::App;
use hongyan::error::{ApiError, ServerError};
use hongyan::id::{ConversationId, MessageId, UserId};

/// The most unread messages that are brought back from MySQL for one user. Whoever has more has stopped counting.
const MAX_REBUILT: u32 = 10_000;

/// How many ids one command to Redis carries.
const CHUNK: usize = 1_000;

/// Takes what was read off the set: of the ids it holds, those of this conversation up to `up_to`. It looks at the set
/// and not at the old position, so that a try that failed half-way is mended by the next one.
pub(crate) async fn clear(
    app: &App,
    user: UserId,
    conversation: ConversationId,
    up_to: MessageId,
) -> Result<(), ApiError> {
    let unread = app.cache.unread_ids(user, MAX_REBUILT as usize).await?;
    let Some(oldest) = unread.into_iter().filter(|&id| id <= up_to).min() else { return Ok(()) };
    let below_oldest = MessageId::new(oldest.get() - 1).ok();
    let mut read = app.store.received_between(user, conversation, below_oldest, up_to).await?;
    // What is on its way to MySQL is in the recent list.
    let recent = app.cache.recent(conversation, app.cache.conversation_size()).await?;
    read.extend(recent.into_iter().filter(|&id| id <= up_to));
    for chunk in read.chunks(CHUNK) {
        app.cache.remove_unread(user, chunk).await?;
    }
    Ok(())
}

/// How many messages the user has not read.
pub(crate) async fn total(app: &App, user: UserId) -> Result<u64, ApiError> {
    match complete(app, user).await {
        Ok(total) => Ok(total),
        Err(error) if error.is_transient() => Ok(from_mysql(app, user, &error).await?.len() as u64),
        Err(error) => Err(error.into()),
    }
}

/// How many messages the user has not read, and the newest of them.
pub(crate) async fn list(app: &App, user: UserId, limit: usize) -> Result<(u64, Vec<MessageId>), ApiError> {
    let listed = async {
        let total = complete(app, user).await?;
        Ok::<_, ServerError>((total, app.cache.unread_ids(user, limit).await?))
    };
    match listed.await {
        Ok(listed) => Ok(listed),
        Err(error) if error.is_transient() => {
            let mut ids = from_mysql(app, user, &error).await?;
            let total = ids.len() as u64;
            ids.truncate(limit);
            Ok((total, ids))
        }
        Err(error) => Err(error.into()),
    }
}

async fn from_mysql(app: &App, user: UserId, cause: &ServerError) -> Result<Vec<MessageId>, ServerError> {
    tracing::warn!(error = %cause, "read.unread: answered by MySQL alone");
    app.store.unread(user, MAX_REBUILT).await
}

/// The size of the set, after making it complete if Redis may have lost some of it.
async fn complete(app: &App, user: UserId) -> Result<u64, ServerError> {
    let known = app.cache.unread(user).await?;
    if known.complete {
        return Ok(known.total);
    }
    let unread = app.store.unread(user, MAX_REBUILT).await?;
    for chunk in unread.chunks(CHUNK) {
        app.cache.add_unread(user, chunk).await?;
        drop_what_was_recalled(app, user, chunk).await?;
    }
    // What was read or deleted between the look and the adding is taken off again by a second look.
    let still: std::collections::HashSet<MessageId> =
        app.store.unread(user, MAX_REBUILT).await?.into_iter().collect();
    let gone: Vec<MessageId> = unread.into_iter().filter(|id| !still.contains(id)).collect();
    for chunk in gone.chunks(CHUNK) {
        app.cache.remove_unread(user, chunk).await?;
    }
    app.cache.note_unread_complete(user).await?;
    Ok(app.cache.unread(user).await?.total)
}

/// A recall takes its id off the set after it has changed the detail; so whoever adds looks at the detail afterwards.
async fn drop_what_was_recalled(app: &App, user: UserId, added: &[MessageId]) -> Result<(), ServerError> {
    let details = app.cache.details(added).await?;
    let recalled = added.iter().zip(details).filter(|(_, detail)| detail.is_recalled()).map(|(&id, _)| id);
    app.cache.remove_unread(user, &recalled.collect::<Vec<_>>()).await
}
