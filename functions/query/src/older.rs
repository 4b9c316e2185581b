//! A page newest first: the recent list and the pending ids, then MySQL behind the end of the list.

use std::collections::BTreeMap;

use hongyan::app::App;
use hongyan::cache::epoch::Epoch;
use hongyan::cache::page::{Part, Recent};
use hongyan::error::{ApiError, ServerError};
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::Message;
use hongyan::store::Cleared;

use crate::page::Found;
use crate::{refill, visible};

/// The newest `wanted` messages older than `before` that the caller may see, newest first.
pub(crate) async fn page(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    before: Option<MessageId>,
    wanted: usize,
) -> Result<Found, ApiError> {
    match Box::pin(from_both(app, caller, conversation, before, wanted)).await {
        Err(error) if error.is_redis_away() => {
            tracing::warn!(%error, "query.older: Redis is away; answered by MySQL alone");
            let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
            let messages = app.store.visible_before(conversation, caller, before, limit).await?;
            visible::count_unlisted(messages.len());
            Ok(Found { messages, by_list: false })
        }
        page => Ok(page?),
    }
}

async fn from_both(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    before: Option<MessageId>,
    wanted: usize,
) -> Result<Found, ServerError> {
    let mut page =
        Page { app, caller, conversation, wanted, messages: Vec::new(), by_list: true, cleared: None };
    let mut below = before;
    // The newest page seldom needs more than the head of the list.
    let mut limit = if before.is_none() { 2 * wanted } else { usize::MAX };
    loop {
        match page.extend(below, limit).await? {
            Reached::End => return Ok(Found { messages: page.messages, by_list: page.by_list }),
            Reached::Here(id) => (below, limit) = (Some(id), usize::MAX),
        }
    }
}

/// The id below which pending messages are unknown, because more ids are pending than were read. Cleared ones need not
/// be known.
fn floor_of(recent: &Recent) -> Option<MessageId> {
    let hidden = recent.cleared.at_least();
    recent.pending.last().copied().filter(|floor| recent.has_more_pending() && !hidden.hides(*floor))
}

/// How far a page has been read.
enum Reached {
    /// The page is full, or no older messages are left.
    End,
    /// The page has every visible message down to this id, and needs more from below.
    Here(MessageId),
}

struct Page<'a> {
    app: &'a App,
    caller: UserId,
    conversation: ConversationId,
    wanted: usize,
    /// The messages so far, newest first.
    messages: Vec<Message>,
    /// The recent list was believed so far.
    by_list: bool,
    /// How far the caller has cleared, once it is known.
    cleared: Option<Cleared>,
}

impl Page<'_> {
    /// Adds visible messages below `below`, reading at most `limit` ids of the list.
    async fn extend(&mut self, below: Option<MessageId>, limit: usize) -> Result<Reached, ServerError> {
        let cache = &self.app.cache;
        let had = self.messages.len();
        let limit = limit.min(cache.conversation_size());
        let recent = cache.recent(self.caller, self.conversation, Part::Before(below), limit).await?;
        let is_below = |id: &MessageId| below.is_none_or(|below| *id < below);
        let end_of_list = recent.listed.last().copied();
        let floor = floor_of(&recent);

        // Walk the list to its end, together with the pending ids above its end.
        let listed = recent.listed.iter().copied().filter(is_below);
        let (near, far): (Vec<MessageId>, Vec<MessageId>) =
            recent.pending.iter().partition(|id| end_of_list.is_some_and(|end| **id >= end));
        let mut candidates: Vec<MessageId> = listed.chain(near).collect();
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        candidates.dedup();
        let hidden = recent.cleared.at_least();
        candidates.retain(|id| floor.is_none_or(|floor| *id >= floor) && !hidden.hides(*id));
        let mut epoch = None;
        for chunk in candidates.chunks(self.wanted) {
            let lookup = cache.look_up(self.caller, chunk).await?;
            if !recent.is_believed_in(&lookup.epoch) {
                self.messages.truncate(had);
                return Box::pin(self.extend_unbelieved(below, &recent, lookup.epoch)).await;
            }
            epoch = Some(lookup.epoch.clone());
            let cleared = self.cleared(&recent, &lookup.epoch).await?;
            let seen = visible::of_redis(self.app, self.caller, self.conversation, chunk, lookup).await?;
            self.messages.extend(seen.into_iter().filter(|message| !cleared.hides(message.id)));
            self.messages.truncate(self.wanted);
            // All that is older than a cleared message is cleared.
            if self.is_full() || chunk.iter().any(|id| cleared.hides(*id)) {
                return Ok(Reached::End);
            }
        }
        if let Some(end) = end_of_list.filter(|_| recent.has_more()) {
            return Ok(Reached::Here(end));
        }
        if let Some(floor) = floor.filter(|floor| end_of_list.is_some_and(|end| *floor > end)) {
            return Ok(Reached::Here(floor));
        }

        // Read MySQL behind the end of the list, and merge the pending ids there.
        let epoch = match epoch {
            Some(epoch) => epoch,
            None => cache.epoch().await?,
        };
        if !recent.is_believed_in(&epoch) {
            self.messages.truncate(had);
            return Box::pin(self.extend_unbelieved(below, &recent, epoch)).await;
        }
        let cleared = self.cleared(&recent, &epoch).await?;
        let behind = [end_of_list, below].into_iter().flatten().min();
        if behind.is_some_and(|behind| cleared.hides(behind)) {
            return Ok(Reached::End);
        }
        let rows = self.rows_behind(behind, floor, cleared).await?;
        let has_rows = !rows.is_empty();
        if behind == end_of_list && recent.listed.len() < cache.conversation_size() {
            // The list has room for these rows.
            visible::count_lookups(0, rows.len());
        }
        let far: Vec<MessageId> = far.into_iter().filter(|id| !cleared.hides(*id)).collect();
        self.merge(rows, &far, Some(&recent)).await?;
        if behind == end_of_list && has_rows {
            refill::append(self.app, self.conversation, &recent, &epoch, self.wanted).await;
        }
        Ok(self.reached(floor))
    }

    /// How far the caller has cleared, as `recent` says in this epoch, or MySQL.
    async fn cleared(&mut self, recent: &Recent, epoch: &Epoch) -> Result<Cleared, ServerError> {
        if let Some(cleared) = self.cleared {
            return Ok(cleared);
        }
        let (app, caller) = (self.app, self.caller);
        let cleared = visible::cleared_of(app, caller, self.conversation, &recent.cleared, epoch).await?;
        self.cleared = Some(cleared);
        Ok(cleared)
    }

    /// Adds messages if the list is not believed. MySQL answers, together with the pending messages that have no
    /// tombstone in MySQL.
    async fn extend_unbelieved(
        &mut self,
        below: Option<MessageId>,
        recent: &Recent,
        epoch: Epoch,
    ) -> Result<Reached, ServerError> {
        self.by_list = false;
        let floor = floor_of(recent);
        let cleared = self.cleared(recent, &epoch).await?;
        let mut pending = visible::not_recalled(self.app, self.conversation, &recent.pending).await?;
        pending.retain(|id| !cleared.hides(*id));
        let rows = self.rows_behind(below, floor, cleared).await?;
        visible::count_unlisted(rows.len());
        self.merge(rows, &pending, None).await?;
        if below.is_none() {
            refill::replace(self.app, self.caller, self.conversation, &epoch, self.wanted).await;
        }
        Ok(self.reached(floor))
    }

    /// The rows older than `behind`, as many as the page needs, and none below `floor`.
    async fn rows_behind(
        &self,
        behind: Option<MessageId>,
        floor: Option<MessageId>,
        cleared: Cleared,
    ) -> Result<Vec<Message>, ServerError> {
        let lacking = self.wanted - self.messages.len();
        let mut rows =
            visible::rows_before(self.app, self.caller, self.conversation, cleared, behind, lacking).await?;
        rows.retain(|row| floor.is_none_or(|floor| row.id >= floor));
        Ok(rows)
    }

    /// Adds rows and pending messages, newest first, as many as the page needs. A message that is both is shown as the
    /// row. With `believed` the pending messages count only in the epoch of that list; without it MySQL has checked
    /// them.
    async fn merge(
        &mut self,
        rows: Vec<Message>,
        pending: &[MessageId],
        believed: Option<&Recent>,
    ) -> Result<(), ServerError> {
        let lacking = self.wanted - self.messages.len();
        let mut merged: BTreeMap<MessageId, Message> = BTreeMap::new();
        for chunk in pending.chunks(self.wanted) {
            if merged.len() >= lacking {
                break;
            }
            let lookup = self.app.cache.look_up(self.caller, chunk).await?;
            if believed.is_some_and(|recent| !recent.is_believed_in(&lookup.epoch)) {
                return Err(visible::epoch_has_ended());
            }
            let seen = visible::of_redis(self.app, self.caller, self.conversation, chunk, lookup).await?;
            merged.extend(seen.into_iter().map(|message| (message.id, message)));
        }
        merged.extend(rows.into_iter().map(|row| (row.id, row)));
        self.messages.extend(merged.into_values().rev().take(lacking));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.messages.len() == self.wanted
    }

    fn reached(&self, floor: Option<MessageId>) -> Reached {
        match floor {
            Some(floor) if !self.is_full() => Reached::Here(floor),
            _ => Reached::End,
        }
    }
}
