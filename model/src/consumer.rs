//! The consumer, one input or output in each step. A step returns `false` if it must wait for a lock of MySQL.

use crate::conversation::{Owner, commit_recall, commit_row, must_wait};
use crate::redis::{confirm, heal_list, put_back};
use crate::rules::{Bounds, LateUnread, Rules};
use crate::state::{Detail, IDLE, LOG, Phase, Record, Row, State, Unconfirmed, Work, small};

fn any(s: &State, i: usize, of: &[Work]) -> bool {
    s.inst[i].work.iter().any(|w| of.contains(w))
}

fn after_checks(s: &State, i: usize) -> Phase {
    if any(s, i, &[Work::Go]) { Phase::ToPersist } else { after_persist(s, i) }
}

fn after_persist(s: &State, i: usize) -> Phase {
    if any(s, i, &[Work::Recall, Work::Forward]) { Phase::ToRecall } else { after_recall(s, i) }
}

fn after_recall(s: &State, i: usize) -> Phase {
    let marks = [Work::Recall, Work::Forward, Work::Written, Work::Undone];
    if any(s, i, &marks) { Phase::ToMark } else { Phase::ToCommit }
}

/// Reads a batch of `n` records at the committed offset and makes the first check.
pub(crate) fn fetch(s: &mut State, i: usize, n: usize) {
    s.inst[i] = IDLE;
    s.inst[i].start = s.committed;
    for k in 0..n {
        let r = s.record(i, k);
        s.inst[i].work[k] = match r {
            Record::Recall(_) => Work::Recall,
            _ if s.msgs[r.message()].detail.recalled() => Work::Done,
            _ => Work::Go,
        };
    }
    s.inst[i].phase = if any(s, i, &[Work::Go]) { Phase::Checked } else { after_checks(s, i) };
}

fn lock_and_check(s: &mut State, i: usize, rules: &Rules) {
    for k in 0..2 {
        if s.inst[i].work[k] != Work::Go {
            continue;
        }
        let offset = s.inst[i].start + small(k);
        let m = s.record(i, k).message();
        let receiver_may_have_read = s.position > 0 || s.budget.reads > 0;
        let msg = &mut s.msgs[m];
        let late = match rules.late_unread {
            LateUnread::UnknownOrPendingUnread => msg.detail == Detail::Missing || msg.pending_unread,
            LateUnread::Unknown => msg.detail == Detail::Missing,
            LateUnread::Position => false,
        };
        s.inst[i].late[k] = late && receiver_may_have_read;
        let free = msg.lock.is_none() || (rules.lock_names_record && msg.lock == Some(offset));
        s.inst[i].work[k] = if !free {
            if rules.lock_names_record { Work::Failed } else { Work::Done }
        } else if msg.detail.recalled() {
            Work::Done
        } else {
            msg.lock = Some(offset);
            if msg.flag { Work::Forward } else { Work::Go }
        };
    }
    s.inst[i].phase = after_checks(s, i);
}

/// Opens the PERSIST transaction: the lock, the numbers, the rows, and a plain look for tombstones.
fn insert(s: &mut State, i: usize, rules: &Rules) -> bool {
    if !rules.number_under_lock && !s.inst[i].numbered {
        s.inst[i].base = s.last_seq;
        s.inst[i].numbered = true;
        return true;
    }
    let of_batch: Vec<usize> =
        (0..2).filter(|&k| s.inst[i].work[k] == Work::Go).map(|k| s.record(i, k).message()).collect();
    if must_wait(s, Owner::Instance(i), &of_batch, rules) {
        return false;
    }
    for k in 0..2 {
        let m = s.record(i, k).message();
        s.inst[i].hit[k] = s.inst[i].work[k] == Work::Go && s.msgs[m].tombstone;
    }
    if !s.inst[i].numbered {
        s.inst[i].base = s.last_seq;
    }
    s.inst[i].phase = Phase::Inserted;
    true
}

fn commit_rows(s: &mut State, i: usize, rules: &Rules) {
    let mut last = s.inst[i].base;
    for k in 0..2 {
        if s.inst[i].work[k] != Work::Go {
            continue;
        }
        let (m, recalled, late) = (s.record(i, k).message(), s.inst[i].hit[k], s.inst[i].late[k]);
        last = commit_row(s, m, recalled, late, last, rules);
        let live = matches!(s.msgs[m].row, Row::Live | Row::Twice);
        s.inst[i].work[k] = if live { Work::Written } else { Work::Undone };
    }
    close(s, i);
    s.inst[i].phase = after_persist(s, i);
}

/// Ends the instance's transaction.
fn close(s: &mut State, i: usize) {
    s.inst[i].hit = [false; 2];
    s.inst[i].late = [false; 2];
    s.inst[i].base = 0;
    s.inst[i].numbered = false;
}

fn open_recalls(s: &mut State, i: usize, of: &[Work], next: Phase, rules: &Rules) -> bool {
    let of_batch: Vec<usize> =
        (0..2).filter(|&k| of.contains(&s.inst[i].work[k])).map(|k| s.record(i, k).message()).collect();
    if must_wait(s, Owner::Instance(i), &of_batch, rules) {
        return false;
    }
    for k in 0..2 {
        let m = s.record(i, k).message();
        s.inst[i].hit[k] = of.contains(&s.inst[i].work[k]) && s.msgs[m].row != Row::Absent;
    }
    s.inst[i].base = s.last_seq;
    s.inst[i].phase = next;
    true
}

fn commit_recalls(s: &mut State, i: usize, of: &[Work], rules: &Rules) {
    let mut last = s.inst[i].base;
    for k in 0..2 {
        if of.contains(&s.inst[i].work[k]) {
            let (m, hit) = (s.record(i, k).message(), s.inst[i].hit[k]);
            last = commit_recall(s, m, hit, last, rules);
        }
    }
    close(s, i);
}

fn mark(s: &mut State, i: usize, rules: &Rules) {
    for k in 0..2 {
        let m = s.record(i, k).message();
        match s.inst[i].work[k] {
            Work::Written => {
                let msg = &mut s.msgs[m];
                match msg.detail {
                    Detail::Missing => s.inst[i].work[k] = Work::WrittenMissing,
                    d if d.recalled() && rules.third_check => s.inst[i].work[k] = Work::Undo,
                    _ => {
                        msg.detail = Detail::Persisted;
                        msg.pending_unread = false;
                    }
                }
            }
            Work::Recall | Work::Forward | Work::Undone => {
                confirm(s, m, rules);
                // From here on the message only has to be removed from the sorted set.
                s.inst[i].work[k] = Work::Undone;
            }
            _ => {}
        }
    }
    s.inst[i].phase = if any(s, i, &[Work::Undo]) { Phase::ToUndo } else { Phase::ToHeal };
}

fn heal(s: &mut State, i: usize, rules: &Rules) {
    for k in 0..2 {
        let work = s.inst[i].work[k];
        if work == Work::None {
            continue;
        }
        let m = s.record(i, k).message();
        let offset = s.inst[i].start + small(k);
        if matches!(work, Work::Written | Work::WrittenMissing) {
            if work == Work::WrittenMissing {
                put_back(s, m, rules);
            }
            heal_list(s, m, rules);
            if s.msgs[m].unconfirmed == Unconfirmed::Send || !rules.guarded_pending_removal {
                s.msgs[m].unconfirmed = Unconfirmed::No;
            }
        }
        if work == Work::Undone {
            s.msgs[m].unconfirmed = Unconfirmed::No;
        }
        if work != Work::Failed {
            s.inst[i].work[k] = Work::Done;
        }
        if s.msgs[m].lock == Some(offset) {
            s.msgs[m].lock = None;
        }
    }
    s.inst[i].phase = Phase::ToCommit;
}

/// Redis refuses the writes of instance `i`: its records are delivered again.
fn redis_refuses(s: &mut State, i: usize) {
    let locking = s.inst[i].phase == Phase::Checked;
    for w in &mut s.inst[i].work {
        let failed = if locking { *w == Work::Go } else { !matches!(w, Work::None | Work::Done) };
        if failed {
            *w = Work::Failed;
        }
    }
    s.inst[i].phase = if locking { after_checks(s, i) } else { Phase::ToCommit };
}

fn commit_offset(s: &mut State, i: usize, rules: &Rules) {
    if !s.inst[i].zombie {
        let works = s.inst[i].work;
        let done = works.iter().take_while(|w| match w {
            Work::None => false,
            Work::Failed => !rules.offset_stops_at_failure,
            _ => true,
        });
        s.committed = s.inst[i].start + u8::try_from(done.count()).unwrap_or(0);
    }
    s.inst[i] = IDLE;
}

/// Takes the next step of instance `i`, which has a batch in hand. `false`: the step must wait.
pub(crate) fn step(s: &mut State, i: usize, rules: &Rules) -> bool {
    const RECALLS: [Work; 2] = [Work::Recall, Work::Forward];
    match s.inst[i].phase {
        Phase::Idle => return false,
        Phase::Checked | Phase::ToMark | Phase::ToHeal if s.refuses => redis_refuses(s, i),
        Phase::Checked => lock_and_check(s, i, rules),
        Phase::ToPersist => return insert(s, i, rules),
        Phase::Inserted => commit_rows(s, i, rules),
        Phase::ToRecall => return open_recalls(s, i, &RECALLS, Phase::RecallOpen, rules),
        Phase::RecallOpen => {
            commit_recalls(s, i, &RECALLS, rules);
            s.inst[i].phase = after_recall(s, i);
        }
        Phase::ToMark => mark(s, i, rules),
        Phase::ToUndo => return open_recalls(s, i, &[Work::Undo], Phase::UndoOpen, rules),
        Phase::UndoOpen => {
            commit_recalls(s, i, &[Work::Undo], rules);
            for w in &mut s.inst[i].work {
                if *w == Work::Undo {
                    *w = if rules.mark_after_tombstone { Work::Undone } else { Work::Done };
                }
            }
            s.inst[i].phase = if rules.mark_after_tombstone { Phase::ToMark } else { Phase::ToHeal };
        }
        Phase::ToHeal => heal(s, i, rules),
        Phase::ToCommit => commit_offset(s, i, rules),
    }
    true
}

/// MySQL does not answer instance `i`: the write under way has failed.
pub(crate) fn mysql_refuses(s: &mut State, i: usize) {
    let phase = s.inst[i].phase;
    for w in &mut s.inst[i].work {
        let failed = match phase {
            Phase::ToPersist => matches!(w, Work::Go | Work::Recall | Work::Forward),
            Phase::ToRecall => matches!(w, Work::Recall | Work::Forward),
            _ => *w == Work::Undo,
        };
        if failed {
            *w = Work::Failed;
        }
    }
    close(s, i);
    s.inst[i].phase = if phase == Phase::ToUndo { Phase::ToHeal } else { after_recall(s, i) };
}

/// How many records an idle owner may take.
pub(crate) fn batches(s: &State, i: usize, bounds: &Bounds) -> u8 {
    if usize::from(s.owner) != i || s.inst[i].phase != Phase::Idle {
        return 0;
    }
    (s.len - s.committed).min(bounds.batch).min(u8::try_from(LOG).unwrap_or(0))
}
