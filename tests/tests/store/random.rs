//! Random changes of a few conversations, compared with a simple model: pages, unread counts and changes.

use std::collections::{BTreeMap, BTreeSet};

use hongyan::event::Recall;
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::Message;
use hongyan::store::{Change, ChangeKind, Store};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::{between, database, user};

/// A simple model of the store.
#[derive(Default)]
struct Account {
    messages: BTreeMap<MessageId, Message>,
    rows: BTreeSet<MessageId>,
    recalled: BTreeSet<MessageId>,
    hidden: BTreeSet<(UserId, MessageId)>,
    cleared: BTreeMap<(UserId, ConversationId), MessageId>,
    positions: BTreeMap<(UserId, ConversationId), MessageId>,
    /// Rows that came below the receiver's position without having been shown before.
    unshown: BTreeSet<MessageId>,
}

impl Account {
    fn is_visible(&self, viewer: UserId, id: MessageId) -> bool {
        let cleared = self.cleared.get(&(viewer, self.messages[&id].conversation()));
        let is_cleared = cleared.is_some_and(|cleared| id <= *cleared);
        self.rows.contains(&id)
            && !self.recalled.contains(&id)
            && !self.hidden.contains(&(viewer, id))
            && !is_cleared
    }

    fn unread(&self, user: UserId) -> Vec<MessageId> {
        let is_unread = |message: &&Message| {
            let position = self.positions.get(&(user, message.conversation()));
            let is_above = position.is_none_or(|position| message.id > *position);
            message.to == user
                && self.is_visible(user, message.id)
                && (is_above || self.unshown.contains(&message.id))
        };
        self.messages.values().rev().filter(is_unread).map(|message| message.id).collect()
    }

    fn history(&self, viewer: UserId, conversation: ConversationId) -> Vec<MessageId> {
        let ids = self.messages.values().rev().filter(|message| message.conversation() == conversation);
        ids.map(|message| message.id).filter(|id| self.is_visible(viewer, *id)).collect()
    }
}

/// Makes one random change to the store and to the model.
async fn step(store: &Store, account: &mut Account, random: &mut StdRng) {
    let ids: Vec<MessageId> = account.messages.keys().copied().collect();
    let Some(&id) = ids.choose(random) else { return };
    let message = account.messages[&id].clone();
    let conversation = message.conversation();
    match random.random_range(0..20) {
        0..8 => {
            // A batch in any order, with some messages known before. Half of the messages were never in Redis.
            let batch: Vec<Message> =
                ids.choose_multiple(random, 8).map(|id| account.messages[id].clone()).collect();
            let unshown = batch.iter().map(|message| message.id).filter(|id| id.get() % 2 == 0).collect();
            store.persist_arrivals(&batch, &unshown).await.unwrap();
            for message in &batch {
                let position = account.positions.get(&(message.to, message.conversation()));
                let is_passed = position.is_some_and(|position| message.id <= *position);
                if account.rows.insert(message.id) && is_passed && unshown.contains(&message.id) {
                    account.unshown.insert(message.id);
                }
            }
        }
        8..12 => {
            let recalls: Vec<Recall> =
                ids.choose_multiple(random, 3).map(|id| Recall::of(&account.messages[id], 7)).collect();
            store.recall(&recalls).await.unwrap();
            account.recalled.extend(recalls.iter().map(|recall| recall.message_id));
        }
        12..16 => {
            let viewer = *conversation.users().choose(random).unwrap();
            store.delete_for(viewer, conversation, id).await.unwrap();
            account.hidden.insert((viewer, id));
        }
        16 => {
            let viewer = *conversation.users().choose(random).unwrap();
            store.clear_for(viewer, conversation, id).await.unwrap();
            let cleared = account.cleared.entry((viewer, conversation)).or_insert(id);
            *cleared = (*cleared).max(id);
            assert_eq!(store.cleared(viewer, conversation).await.unwrap().last(), Some(*cleared));
        }
        _ => {
            let reader = *conversation.users().choose(random).unwrap();
            store.advance_read_position(reader, conversation, id).await.unwrap();
            let position = account.positions.entry((reader, conversation)).or_insert(id);
            *position = (*position).max(id);
            let messages = &account.messages;
            account.unshown.retain(|unshown| {
                let message = &messages[unshown];
                message.to != reader || message.conversation() != conversation || *unshown > id
            });
        }
    }
}

/// All changes of a conversation, by pages of random sizes.
async fn changes(
    store: &Store,
    conversation: ConversationId,
    viewer: UserId,
    random: &mut StdRng,
) -> Vec<Change> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = store.changes(conversation, viewer, after, random.random_range(1..9)).await.unwrap();
        all.extend(page.changes);
        match page.next {
            Some(next) => after = next,
            None => return all,
        }
    }
}

/// The contents that a client shows after applying these changes, newest first.
fn shown(changes: &[Change]) -> Vec<MessageId> {
    let (mut shown, mut cleared) = (BTreeSet::new(), None);
    for change in changes {
        match &change.kind {
            ChangeKind::Message(message) if !message.is_recalled() => {
                shown.insert(message.id);
            }
            ChangeKind::Recalled { message_id, .. } | ChangeKind::Deleted { message_id } => {
                shown.remove(message_id);
            }
            ChangeKind::Cleared { up_to } => cleared = cleared.max(Some(*up_to)),
            ChangeKind::Message(_) | ChangeKind::Read { .. } => {}
        }
    }
    shown.retain(|id| Some(*id) > cleared);
    shown.into_iter().rev().collect()
}

#[tokio::test]
async fn pages_counts_and_changes_agree_with_a_plain_account() {
    let (_, store) = database().await;
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        // Each seed has its own users, so that one database serves all.
        let base = i64::try_from(seed).unwrap() * 10;
        let pairs = [(1, 2), (2, 1), (1, 3), (3, 2)].map(|(from, to)| (base + from, base + to));
        let mut account = Account::default();
        for number in 0..40 {
            let &(from, to) = pairs.choose(&mut random).unwrap();
            let message = between(from, to, base * 1_000 + number, "x");
            account.messages.insert(message.id, message);
        }
        for round in 0..160 {
            step(&store, &mut account, &mut random).await;
            if round % 10 != 9 {
                continue;
            }
            for reader in 1..=3 {
                let reader = user(base + reader);
                let what = format!("seed {seed}, round {round}, {reader:?}");
                let unread = account.unread(reader);
                assert_eq!(store.unread(reader, 1_000).await.unwrap(), unread, "{what}");
                assert_eq!(
                    store.unread_rows(reader, &[]).await.unwrap().total,
                    unread.len() as u64,
                    "{what}"
                );
                for (a, b) in [(1, 2), (1, 3), (2, 3)] {
                    let conversation = ConversationId::between(user(base + a), user(base + b)).unwrap();
                    if !conversation.has(reader) {
                        continue;
                    }
                    let history = account.history(reader, conversation);
                    let page = store.visible_before(conversation, reader, None, 100).await.unwrap();
                    assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), history, "{what}");
                    let changes = changes(&store, conversation, reader, &mut random).await;
                    assert_eq!(shown(&changes), history, "{what}");
                    assert!(changes.is_sorted_by(|a, b| a.seq < b.seq), "{what}: {changes:?}");
                }
            }
        }
    }
}
