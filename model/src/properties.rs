//! The promises, as predicates of one state.

use stateright::{Model, Property};

use crate::protocol::Protocol;
use crate::state::{Blind, Detail, LOG, Message, Phase, Recaller, Record, Row, Sender, State, View};

/// A send answered 2xx ends as exactly one status 1 row, unless a recall of it was begun.
pub const NO_LOSS: &str = "no loss";
/// After a recall was answered 200 nothing a query reads shows the content.
pub const RECALL_WINS_NOW: &str = "recall wins at once";
/// After a recall was answered 200 MySQL ends without a status 1 row.
pub const RECALL_WINS_END: &str = "recall wins in the end";
/// Never two rows of one id.
pub const NEVER_TWICE: &str = "never twice";
/// The list, where there is one, misses nothing durable that is newer than its oldest id.
pub const GAPLESS: &str = "list is gapless";
/// Redis and MySQL end with the same opinion on whether a message is recalled.
pub const STORES_AGREE: &str = "stores agree";
/// The compensator adds at most one unread record a message.
pub const NO_BACKLOG: &str = "compensator feeds no backlog";
/// Nothing appears at or below a number that a client of changes was answered.
pub const COMPLETE: &str = "a seq once answered stays complete";
/// A row or a tombstone keeps the number it was given.
pub const ONE_NUMBER: &str = "a change has one number";
/// A client of changes that has caught up sees visible messages as visible and recalled ones as recalled.
pub const TRUE_VIEW: &str = "a client of changes ends with the true view";
/// From its 201 on a message is on each page that it belongs to, as long as Redis or MySQL has it.
pub const ON_EVERY_PAGE: &str = "an accepted message is on every page";
/// A message that was not visible whenever the read position passed its id counts as unread.
pub const UNREAD: &str = "what was never shown is unread";
/// Every unfinished actor has a next step.
pub const NEVER_STUCK: &str = "never stuck";

pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(NO_LOSS, no_loss),
        Property::always(RECALL_WINS_NOW, recall_wins_now),
        Property::always(RECALL_WINS_END, recall_wins_end),
        Property::always(NEVER_TWICE, never_twice),
        Property::always(GAPLESS, gapless),
        Property::always(STORES_AGREE, stores_agree),
        Property::always(NO_BACKLOG, no_backlog),
        Property::always(COMPLETE, complete),
        Property::always(ONE_NUMBER, one_number),
        Property::always(TRUE_VIEW, true_view),
        Property::always(ON_EVERY_PAGE, on_every_page),
        Property::always(UNREAD, unread),
        Property::always(NEVER_STUCK, never_stuck),
    ]
}

fn no_loss(_: &Protocol, s: &State) -> bool {
    !Protocol::at_rest(s)
        || s.msgs.iter().all(|m| {
            m.sender != Sender::Accepted
                || m.lost_by_redis
                || m.recaller != Recaller::Idle
                || m.row == Row::Live
        })
}

fn recall_wins_now(p: &Protocol, s: &State) -> bool {
    !s.shown
        && s.msgs.iter().all(|m| {
            // By a look-up, or by a page.
            let in_epoch =
                m.sent_in == s.generation || ((m.listed || m.indexed) && s.believed_in == Some(s.generation));
            let believed = m.detail.live() && in_epoch;
            let shows = believed || (m.listed && !p.rules.list_of_ids);
            m.recaller != Recaller::Ok || m.blind != Blind::No || !shows
        })
}

fn recall_wins_end(_: &Protocol, s: &State) -> bool {
    !Protocol::at_rest(s)
        || s.msgs.iter().all(|m| m.recaller != Recaller::Ok || !matches!(m.row, Row::Live | Row::Twice))
}

fn never_twice(_: &Protocol, s: &State) -> bool {
    s.msgs.iter().all(|m| m.row != Row::Twice)
}

fn gapless(_: &Protocol, s: &State) -> bool {
    !Protocol::at_rest(s)
        || s.tail().is_none_or(|t| (t..2).all(|m| s.msgs[m].row != Row::Live || s.msgs[m].listed))
}

fn stores_agree(p: &Protocol, s: &State) -> bool {
    !p.rules.tombstone
        || !Protocol::at_rest(s)
        || s.msgs.iter().all(|m| {
            let recalled_in_mysql = m.tombstone && m.row != Row::Live;
            let live_in_mysql = !m.tombstone && m.row != Row::Recalled;
            (recalled_in_mysql || live_in_mysql)
                && (!m.detail.recalled() || m.tombstone)
                && (!m.detail.live()
                    || !m.tombstone
                    || m.blind == Blind::Always
                    || (m.detail == Detail::Persisted && unanswered(m)))
        })
}

/// The recaller was told 503, or died. Its half-done work in Redis expires with the detail's TTL.
fn unanswered(m: &Message) -> bool {
    matches!(m.recaller, Recaller::Unavailable | Recaller::Dead)
}

fn complete(_: &Protocol, s: &State) -> bool {
    !s.appeared_behind
}

fn one_number(_: &Protocol, s: &State) -> bool {
    !s.renumbered
}

fn on_every_page(_: &Protocol, s: &State) -> bool {
    !s.left_out
}

fn true_view(_: &Protocol, s: &State) -> bool {
    !s.client.exists
        || !Protocol::at_rest(s)
        || s.msgs.iter().all(|m| match m.row {
            // A recall that nobody was answered may have been pushed before Redis lost it.
            Row::Live | Row::Twice => {
                m.view == View::Live || (m.view == View::Recalled && m.recaller == Recaller::Dead)
            }
            Row::Recalled => m.view == View::Recalled,
            Row::Absent => !m.tombstone || m.view != View::Live,
        })
}

fn unread(_: &Protocol, s: &State) -> bool {
    (0..2).all(|m| {
        let msg = &s.msgs[m];
        msg.row != Row::Live || msg.read_seen || msg.unshown || m >= usize::from(s.position)
    })
}

fn no_backlog(_: &Protocol, s: &State) -> bool {
    !s.overflow
        && (0..2).all(|m| {
            let unread = (s.committed..s.len)
                .filter(|o| matches!(s.log[usize::from(*o)], Record::Resent(r) if usize::from(r) == m));
            s.msgs[m].resent <= 2 && unread.count() <= 1
        })
}

fn never_stuck(p: &Protocol, s: &State) -> bool {
    // In most states one actor is easily found whose next step never waits.
    let unread = s.committed < s.len && s.inst[usize::from(s.owner)].phase == Phase::Idle;
    let sending = s.msgs.iter().any(|m| m.late || matches!(m.sender, Sender::Wrote(_)));
    if unread || sending || Protocol::at_rest(s) || usize::from(s.len) == LOG {
        return true;
    }
    let mut actions = Vec::new();
    p.actions(s, &mut actions);
    actions.into_iter().any(|a| p.next_state(s, a).is_some())
}
