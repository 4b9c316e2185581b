//! A client that catches up by changes and gets pushes, and a receiver who reads.

use crate::conversation::open_beside;
use crate::rules::Rules;
use crate::state::{Asking, Recaller, Row, State, View, small};

/// The request's next step: `last_seq`, then the numbered rows, then the numbered tombstones.
pub(crate) fn step(s: &mut State, rules: &Rules) {
    let cursor = s.client.cursor;
    match s.client.asking {
        Asking::Idle => s.client.asking = Asking::LastSeq(s.last_seq),
        Asking::LastSeq(last_seq) => {
            for m in 0..2 {
                let msg = &s.msgs[m];
                if asked_for(msg.seq, cursor, last_seq, rules) {
                    s.client.page[m] = if msg.row == Row::Recalled { View::Recalled } else { View::Live };
                    s.client.highest = s.client.highest.max(msg.seq);
                }
            }
            s.client.asking = Asking::Rows(last_seq);
        }
        Asking::Rows(last_seq) => {
            for m in 0..2 {
                let recall_seq = s.msgs[m].recall_seq;
                if asked_for(recall_seq, cursor, last_seq, rules) {
                    s.client.page[m] = View::Recalled;
                    s.client.highest = s.client.highest.max(recall_seq);
                }
                s.msgs[m].view = s.msgs[m].view.max(s.client.page[m]);
            }
            s.client.cursor = s.client.highest.max(last_seq);
            s.client.highest = 0;
            s.client.page = [View::Unknown; 2];
            s.client.asking = Asking::Idle;
        }
    }
}

fn asked_for(seq: u8, cursor: u8, last_seq: u8, rules: &Rules) -> bool {
    seq > cursor && (seq <= last_seq || !rules.changes_bounded)
}

/// MESSAGE may be pushed to the client, perhaps late and once more.
pub(crate) fn message_push(s: &State, m: usize) -> bool {
    s.msgs[m].by_redis && s.msgs[m].view == View::Unknown
}

/// MESSAGE_RECALLED may be pushed to the client.
pub(crate) fn recall_push(s: &State, m: usize, rules: &Rules) -> bool {
    let msg = &s.msgs[m];
    let kept = msg.marked || msg.event || msg.tombstone;
    let begun = !matches!(msg.recaller, Recaller::Idle | Recaller::Flagged);
    begun && (kept || !rules.push_when_kept) && msg.view != View::Recalled
}

/// The newest message that the receiver can read up to now, if no transaction holds the conversation's lock.
pub(crate) fn newest_to_read(s: &State) -> Option<usize> {
    if open_beside(s, None) {
        return None;
    }
    s.msgs.iter().rposition(|msg| msg.detail.live() || msg.row == Row::Live)
}

/// The receiver reads up to the newest visible message: the position in MySQL, and the pending unread set in Redis.
pub(crate) fn receiver_reads(s: &mut State, newest: usize) {
    s.budget.reads -= 1;
    s.position = s.position.max(small(newest) + 1);
    let refuses = s.refuses;
    for msg in &mut s.msgs[..=newest] {
        msg.read_seen |= msg.visible();
        msg.unshown = false;
        msg.pending_unread &= refuses;
    }
}
