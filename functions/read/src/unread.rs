//! The unread set: cleared as a user reads, made anew from MySQL after Redis lost its memory.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::error::{ApiError, ServerError};
use hongyan::id::{ConversationId, MessageId, UserId};

/// The most unread messages that are brought back from MySQL for one user. Whoever has more has stopped counting.
const MAX_REBUILT: u32 = 10_000;

/// How many ids one command to Redis carries.
const CHUNK: usize = 1_000;

/// Reads the conversation up to `up_to`, in MySQL and in the set. The set does not vouch for being complete in between: if
/// the second fails, it is made anew.
pub(crate) async fn read(
    app: &App,
    user: UserId,
    conversation: ConversationId,
    up_to: MessageId,
) -> Result<(), ApiError> {
    let doubt = app.cache.doubt_unread(user).await?;
    app.store.advance_read_position(user, conversation, up_to).await?;
    clear(app, user, conversation, up_to).await?;
    if doubt.was_complete {
        app.cache.note_unread_complete(user, doubt).await?;
    }
    Ok(())
}

/// Takes what was read off the set: of the ids it holds, those of this conversation up to `up_to`. It looks at the set
/// and not at the old position, so that a try that failed half-way is mended by the next one.
async fn clear(
    app: &App,
    user: UserId,
    conversation: ConversationId,
    up_to: MessageId,
) -> Result<(), ApiError> {
    let mut unread = app.cache.unread_ids(user, MAX_REBUILT as usize).await?;
    unread.retain(|&id| id <= up_to);
    let Some(oldest) = unread.iter().min() else { return Ok(()) };
    let below_oldest = MessageId::new(oldest.get() - 1).ok();
    // Before MySQL is asked: what is on its way now is found here or there.
    let mut read = on_its_way(app, conversation, &unread).await?;
    read.extend(app.store.received_between(user, conversation, below_oldest, up_to).await?);
    for chunk in read.chunks(CHUNK) {
        app.cache.remove_unread(user, chunk).await?;
    }
    Ok(())
}

/// Those of `unread` that belong to the conversation and are not confirmed by MySQL. The recent list need not have them:
/// it may have been dropped, and begun anew by a later message.
async fn on_its_way(
    app: &App,
    conversation: ConversationId,
    unread: &[MessageId],
) -> Result<Vec<MessageId>, ServerError> {
    let unread: HashSet<&MessageId> = unread.iter().collect();
    let mut pending = app.cache.pending_beside(conversation, MAX_REBUILT as usize).await?;
    pending.retain(|id| unread.contains(id));
    let details = app.cache.details(&pending).await?;
    let ours = pending.into_iter().zip(details).filter(|(_, detail)| match detail {
        Detail::Message(message) => message.conversation() == conversation,
        Detail::Recalled(_) | Detail::Missing => false,
    });
    Ok(ours.map(|(id, _)| id).collect())
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
    let doubt = app.cache.doubt_unread(user).await?;
    let listed = app.cache.unread_ids(user, MAX_REBUILT as usize).await?;
    let unread = app.store.unread(user, MAX_REBUILT).await?;
    for chunk in unread.chunks(CHUNK) {
        app.cache.add_unread(user, chunk).await?;
        drop_what_was_recalled(app, user, chunk).await?;
    }
    let unread: HashSet<MessageId> = unread.into_iter().collect();
    let odd: Vec<MessageId> = listed.into_iter().filter(|id| !unread.contains(id)).collect();
    let over = over(app, user, &odd).await?;
    // A second look takes off what was read or deleted between the first and the adding, and leaves what became a row.
    let still = app.store.unread(user, MAX_REBUILT).await?;
    // Beyond the limit it is not known.
    let oldest = if still.len() < MAX_REBUILT as usize { None } else { still.last().copied() };
    let still: HashSet<MessageId> = still.into_iter().collect();
    let gone =
        unread.into_iter().chain(over).filter(|id| !still.contains(id) && oldest.is_none_or(|it| *id > it));
    for chunk in gone.collect::<Vec<_>>().chunks(CHUNK) {
        app.cache.remove_unread(user, chunk).await?;
    }
    app.cache.note_unread_complete(user, doubt).await?;
    Ok(app.cache.unread(user).await?.total)
}

/// Of ids that the set holds and MySQL does not count: those that were read, deleted or recalled. The others are on their
/// way to MySQL.
async fn over(app: &App, user: UserId, odd: &[MessageId]) -> Result<Vec<MessageId>, ServerError> {
    let (mut over, mut positions) = (Vec::new(), HashMap::new());
    for chunk in odd.chunks(CHUNK) {
        // What is a row would be counted.
        let mut gone: HashSet<MessageId> =
            app.store.messages(chunk).await?.into_iter().map(|row| row.id).collect();
        gone.extend(app.store.deleted_among(user, chunk).await?);
        for (id, detail) in chunk.iter().zip(app.cache.details(chunk).await?) {
            let Detail::Message(message) = detail else {
                gone.extend(detail.is_recalled().then_some(*id));
                continue;
            };
            let conversation = message.conversation();
            if let Entry::Vacant(unknown) = positions.entry(conversation) {
                unknown.insert(app.store.read_position(user, conversation).await?);
            }
            gone.extend((Some(*id) <= positions[&conversation]).then_some(*id));
        }
        over.extend(gone);
    }
    Ok(over)
}

/// A recall takes its id off the set after it has changed the detail; so whoever adds looks at the detail afterwards.
async fn drop_what_was_recalled(app: &App, user: UserId, added: &[MessageId]) -> Result<(), ServerError> {
    let details = app.cache.details(added).await?;
    let recalled = added.iter().zip(details).filter(|(_, detail)| detail.is_recalled()).map(|(&id, _)| id);
    app.cache.remove_unread(user, &recalled.collect::<Vec<_>>()).await
}
