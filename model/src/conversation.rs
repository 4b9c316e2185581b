//! The conversation's row: the lock that orders its changes, their numbers, and the two transactions that write them.

use crate::rules::Rules;
use crate::state::{Blind, Compensator, Phase, Recaller, Row, State, Work};

/// The holder of an open transaction: an instance, a recaller, or the compensator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Instance(usize),
    Recaller(usize),
    Compensator,
}

fn instance_open(phase: Phase) -> bool {
    matches!(phase, Phase::Inserted | Phase::RecallOpen | Phase::UndoOpen)
}

/// True if a transaction other than that of `me` is open; with `None`, any.
pub(crate) fn open_beside(s: &State, me: Option<Owner>) -> bool {
    (0..2).any(|i| me != Some(Owner::Instance(i)) && instance_open(s.inst[i].phase))
        || (0..2).any(|m| me != Some(Owner::Recaller(m)) && matches!(s.msgs[m].recaller, Recaller::Open(..)))
        || (me != Some(Owner::Compensator) && matches!(s.comp, Compensator::Open(..)))
}

/// True if another open transaction has inserted or changed the row of `m`. Only the mutant without the
/// conversation's lock depends on locks of single rows.
fn row_held(s: &State, m: usize, me: Owner) -> bool {
    (0..2).any(|i| {
        me != Owner::Instance(i)
            && (0..2).any(|k| {
                s.inst[i].work[k] != Work::None
                    && s.record(i, k).message() == m
                    && match s.inst[i].phase {
                        Phase::Inserted => s.inst[i].work[k] == Work::Go,
                        Phase::RecallOpen | Phase::UndoOpen => s.inst[i].hit[k],
                        _ => false,
                    }
            })
    }) || (me != Owner::Recaller(m) && matches!(s.msgs[m].recaller, Recaller::Open(true, _)))
        || (me != Owner::Compensator
            && matches!(s.comp, Compensator::Open(c, true, _) if usize::from(c) == m))
}

/// True if the transaction that `me` opens on `messages` must wait for the lock of another one.
pub(crate) fn must_wait(s: &State, me: Owner, messages: &[usize], rules: &Rules) -> bool {
    if rules.conversation_locked {
        open_beside(s, Some(me))
    } else {
        messages.iter().any(|&m| row_held(s, m, me))
    }
}

/// Opens the transaction of one recall: whether it finds a row to empty, and the `last_seq` that it reads. `None`: wait.
pub(crate) fn open_recall(s: &State, m: usize, me: Owner, rules: &Rules) -> Option<(bool, u8)> {
    (!must_wait(s, me, &[m], rules)).then(|| (s.msgs[m].row != Row::Absent, s.last_seq))
}

/// The two changes of a message that get numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Row,
    Recall,
}

/// Gives a change the next number after `last`, unless the change has one. Returns the last number given.
fn number(s: &mut State, m: usize, change: Change, last: u8, rules: &Rules) -> u8 {
    let msg = &mut s.msgs[m];
    let seq = if change == Change::Row { &mut msg.seq } else { &mut msg.recall_seq };
    if *seq != 0 && rules.number_kept {
        return last;
    }
    s.renumbered |= *seq != 0;
    *seq = last + 1;
    s.appeared_behind |= s.client.exists && *seq <= s.client.cursor;
    s.last_seq = s.last_seq.max(*seq);
    last + 1
}

/// Commits a recall: the tombstone, and the emptied row. Returns the last number given.
pub(crate) fn commit_recall(s: &mut State, m: usize, hit: bool, last: u8, rules: &Rules) -> u8 {
    if hit {
        s.msgs[m].row = Row::Recalled;
    }
    if !rules.tombstone {
        return last;
    }
    s.msgs[m].tombstone = true;
    number(s, m, Change::Recall, last, rules)
}

/// Commits the row of a PERSIST record, empty if its tombstone was found. `late`: the receiver was not shown the
/// message before. Returns the last number given.
pub(crate) fn commit_row(s: &mut State, m: usize, recalled: bool, late: bool, last: u8, rules: &Rules) -> u8 {
    let position = s.position;
    let msg = &mut s.msgs[m];
    msg.unshown |= late && msg.row == Row::Absent && !recalled && usize::from(position) > m;
    msg.row = match msg.row {
        _ if recalled => Row::Recalled,
        Row::Absent => Row::Live,
        _ if !rules.unique_id => Row::Twice,
        row => row,
    };
    number(s, m, Change::Row, last, rules)
}

/// Recalls answered 200 without a tombstone in MySQL may show while only MySQL is believed.
pub(crate) fn excuse_recalls_without_tombstone(s: &mut State) {
    for (m, msg) in s.msgs.iter_mut().enumerate() {
        if msg.recaller == Recaller::Ok && !msg.tombstone && msg.blind == Blind::No {
            msg.blind = Blind::UntilConfirmed;
            s.query.after_recall[m] = false;
        }
    }
}
