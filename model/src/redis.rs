//! Redis: its scripts on a message and on the list, and the loss of all its data.

use crate::rules::{Bounds, Rules};
use crate::state::{Blind, Detail, Must, Recaller, Sender, State, Unconfirmed};

/// *Mark recalled* by a process that knows that MySQL has the recall.
pub(crate) fn confirm(s: &mut State, m: usize, rules: &Rules) {
    let msg = &mut s.msgs[m];
    if msg.detail != Detail::Missing || rules.recall_stub {
        msg.detail = Detail::Confirmed;
    }
    msg.indexed = false;
    msg.pending_unread = false;
    if msg.blind == Blind::UntilConfirmed {
        msg.blind = Blind::No;
    }
}

/// Writes a detail from a row that was read earlier.
pub(crate) fn put_back(s: &mut State, m: usize, rules: &Rules) {
    let present = s.generation;
    let msg = &mut s.msgs[m];
    if msg.detail == Detail::Missing || !rules.put_back_nx {
        msg.detail = Detail::Persisted;
        if !rules.epoch_of_the_send {
            msg.sent_in = present;
        }
    }
}

/// A send puts its id into the list, or begins one. An id older than the whole list stays out.
pub(crate) fn push_to_list(s: &mut State, m: usize, rules: &Rules) {
    s.msgs[m].listed |= match s.tail() {
        Some(tail) => m >= tail,
        None => !s.msgs[m].old || !rules.young_begins_list,
    };
}

/// MySQL has the row: its id goes into the list, if there is one, and then off the index of what is pending.
pub(crate) fn heal_list(s: &mut State, m: usize, rules: &Rules) {
    // From the id to its row, and on to a list that is gone again, takes longer than 2 s.
    for older in &mut s.msgs[..m] {
        older.old |= older.sender == Sender::New;
    }
    // An id that is older than the list's end is MySQL's to show; behind the end it could tear a hole.
    if rules.heal && s.tail().is_some_and(|tail| m > tail) {
        s.msgs[m].listed = true;
    }
    s.msgs[m].indexed = false;
}

/// Redis loses all its data.
pub(crate) fn loses_all(s: &mut State, bounds: &Bounds) {
    s.budget.redis_losses -= 1;
    for m in 0..2 {
        let held = s.held(m) && !bounds.holders_outlive_stubs;
        let msg = &mut s.msgs[m];
        let recalling = !matches!(
            msg.recaller,
            Recaller::Idle | Recaller::Flagged | Recaller::Unavailable | Recaller::Dead
        );
        if recalling {
            msg.blind = match msg.blind {
                _ if held => Blind::Always,
                Blind::No if !msg.tombstone => Blind::UntilConfirmed,
                blind => blind,
            };
        }
        msg.lost_by_redis |= msg.only_redis;
        if msg.deferred && msg.recaller == Recaller::Ok && !msg.tombstone {
            msg.recaller = Recaller::Dead;
            s.query.after_recall[m] = false;
        }
        msg.detail = Detail::Missing;
        msg.flag = false;
        msg.lock = None;
        msg.unconfirmed = Unconfirmed::No;
        msg.listed = false;
        msg.indexed = false;
        msg.pending_unread = false;
        msg.by_redis = false;
    }
    s.believed_in = None;
    s.query.must = [Must::No; 2];
}

/// The list is gone: evicted, expired or dropped.
pub(crate) fn drop_list(s: &mut State) {
    for msg in &mut s.msgs {
        msg.listed = false;
    }
}
