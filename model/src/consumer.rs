//! The consumer, one input or output a step. A step returns `false` when it has to wait for a row lock.

use crate::rules::{Bounds, Rules, TombstoneRead};
use crate::state::{Blind, Detail, IDLE, LOG, Phase, Record, Row, State, Unconfirmed, Work};

/// Who holds a transaction open: an instance, a recaller, or the compensator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Instance(usize),
    Recaller(usize),
    Compensator,
}

/// Another open transaction holds the row of `m` (inserted, or set to status 0).
pub(crate) fn row_locked(s: &State, m: usize, me: Owner, rules: &Rules) -> bool {
    use crate::state::{Compensator, Recaller};
    let inserted_holds = rules.tombstone_read != TombstoneRead::BeforeInsert;
    (0..2).any(|i| {
        me != Owner::Instance(i)
            && (0..2).any(|k| {
                s.inst[i].work[k] != Work::None
                    && s.record(i, k).message() == m
                    && match s.inst[i].phase {
                        Phase::Inserted => inserted_holds && s.inst[i].work[k] == Work::Go,
                        Phase::RecallOpen | Phase::UndoOpen => s.inst[i].hit[k],
                        _ => false,
                    }
            })
    }) || (me != Owner::Recaller(m) && s.msgs[m].recaller == Recaller::Open(true))
        || (me != Owner::Compensator && matches!(s.comp, Compensator::Open(c, true) if usize::from(c) == m))
}

/// Another open transaction has inserted the tombstone of `m`.
pub(crate) fn tombstone_locked(s: &State, m: usize, me: Owner, rules: &Rules) -> bool {
    use crate::state::{Compensator, Recaller};
    if !rules.tombstone {
        return false;
    }
    (0..2).any(|i| {
        me != Owner::Instance(i)
            && (0..2).any(|k| {
                let w = s.inst[i].work[k];
                w != Work::None
                    && s.record(i, k).message() == m
                    && match s.inst[i].phase {
                        Phase::RecallOpen => matches!(w, Work::Recall | Work::Forward),
                        Phase::UndoOpen => w == Work::Undo,
                        _ => false,
                    }
            })
    }) || (me != Owner::Recaller(m) && matches!(s.msgs[m].recaller, Recaller::Open(_)))
        || (me != Owner::Compensator && matches!(s.comp, Compensator::Open(c, _) if usize::from(c) == m))
}

/// The first half of the recall transaction: tombstone and update. `None`: wait. Else: did it touch a row.
pub(crate) fn recall_tx(s: &State, m: usize, me: Owner, rules: &Rules) -> Option<bool> {
    let wait = tombstone_locked(s, m, me, rules) || row_locked(s, m, me, rules);
    (!wait).then(|| s.msgs[m].row != Row::Absent)
}

/// Its commit.
pub(crate) fn recall_commit(s: &mut State, m: usize, hit: bool, rules: &Rules) {
    s.msgs[m].tombstone = rules.tombstone;
    if hit {
        s.msgs[m].row = Row::Recalled;
    }
}

/// *Mark recalled* by somebody who knows that MySQL has the recall.
pub(crate) fn confirm(s: &mut State, m: usize, rules: &Rules) {
    let msg = &mut s.msgs[m];
    if msg.detail != Detail::Missing || rules.recall_stub {
        msg.detail = Detail::Confirmed;
    }
    if msg.blind == Blind::UntilConfirmed {
        msg.blind = Blind::No;
    }
}

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
        let offset = s.inst[i].start + u8::try_from(k).unwrap_or(0);
        let m = s.record(i, k).message();
        let msg = &mut s.msgs[m];
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

fn insert(s: &mut State, i: usize, rules: &Rules) -> bool {
    if rules.tombstone_read == TombstoneRead::BeforeInsert {
        for k in 0..2 {
            let m = s.record(i, k).message();
            if s.inst[i].work[k] == Work::Go && s.msgs[m].tombstone {
                s.inst[i].work[k] = Work::Undone;
            }
        }
    } else if (0..2).any(|k| {
        s.inst[i].work[k] == Work::Go && row_locked(s, s.record(i, k).message(), Owner::Instance(i), rules)
    }) {
        return false;
    }
    s.inst[i].phase = Phase::Inserted;
    true
}

fn read_tombstones_and_commit(s: &mut State, i: usize, rules: &Rules) -> bool {
    let wait = (0..2).any(|k| {
        let m = s.record(i, k).message();
        s.inst[i].work[k] == Work::Go
            && match rules.tombstone_read {
                TombstoneRead::LockingAfterInsert => tombstone_locked(s, m, Owner::Instance(i), rules),
                TombstoneRead::PlainAfterInsert => false,
                TombstoneRead::BeforeInsert => row_locked(s, m, Owner::Instance(i), rules),
            }
    });
    if wait {
        return false;
    }
    let late_look = rules.tombstone_read != TombstoneRead::BeforeInsert;
    for k in 0..2 {
        let m = s.record(i, k).message();
        let msg = &mut s.msgs[m];
        match s.inst[i].work[k] {
            Work::Go if late_look && msg.tombstone => {
                msg.row = Row::Recalled;
                s.inst[i].work[k] = Work::Undone;
            }
            Work::Go => {
                msg.row = match msg.row {
                    Row::Absent => Row::Live,
                    _ if !rules.unique_id => Row::Twice,
                    row => row,
                };
                s.inst[i].work[k] = Work::Written;
            }
            _ => {}
        }
    }
    s.inst[i].phase = after_persist(s, i);
    true
}

fn open_recalls(s: &mut State, i: usize, of: &[Work], next: Phase, rules: &Rules) -> bool {
    let mut hit = [false; 2];
    for (k, h) in hit.iter_mut().enumerate() {
        if of.contains(&s.inst[i].work[k]) {
            match recall_tx(s, s.record(i, k).message(), Owner::Instance(i), rules) {
                Some(touched) => *h = touched,
                None => return false,
            }
        }
    }
    s.inst[i].hit = hit;
    s.inst[i].phase = next;
    true
}

fn commit_recalls(s: &mut State, i: usize, of: &[Work], rules: &Rules) {
    for k in 0..2 {
        if of.contains(&s.inst[i].work[k]) {
            let (m, hit) = (s.record(i, k).message(), s.inst[i].hit[k]);
            recall_commit(s, m, hit, rules);
        }
    }
    s.inst[i].hit = [false; 2];
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
                    _ => msg.detail = Detail::Persisted,
                }
            }
            Work::Recall | Work::Forward | Work::Undone => {
                confirm(s, m, rules);
                // From here on it only has to be taken out of the sorted set.
                s.inst[i].work[k] = Work::Undone;
            }
            _ => {}
        }
    }
    s.inst[i].phase = if any(s, i, &[Work::Undo]) { Phase::ToUndo } else { Phase::ToHeal };
}

fn heal_list(s: &mut State, m: usize, rules: &Rules) {
    if !rules.heal {
        return;
    }
    s.lease = false;
    s.floor = s.floor.max(u8::try_from(m).unwrap_or(0) + 1);
    // What is older than the list's end is MySQL's to show; putting it behind the end could tear a hole.
    if s.tail().is_some_and(|tail| m > tail) {
        s.msgs[m].listed = true;
    }
}

/// Writes a detail from a row that was read earlier.
pub(crate) fn put_back(s: &mut State, m: usize, rules: &Rules) {
    if s.msgs[m].detail == Detail::Missing || !rules.put_back_nx {
        s.msgs[m].detail = Detail::Persisted;
    }
}

fn heal(s: &mut State, i: usize, rules: &Rules) {
    for k in 0..2 {
        let work = s.inst[i].work[k];
        if work == Work::None {
            continue;
        }
        let m = s.record(i, k).message();
        let offset = s.inst[i].start + u8::try_from(k).unwrap_or(0);
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

/// The next step of instance `i`, which has a batch in hand. `false`: it has to wait.
pub(crate) fn step(s: &mut State, i: usize, rules: &Rules) -> bool {
    const RECALLS: [Work; 2] = [Work::Recall, Work::Forward];
    match s.inst[i].phase {
        Phase::Idle => return false,
        Phase::Checked => lock_and_check(s, i, rules),
        Phase::ToPersist => return insert(s, i, rules),
        Phase::Inserted => return read_tombstones_and_commit(s, i, rules),
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

/// MySQL does not answer instance `i`: what it was about to write has failed.
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
    s.inst[i].phase = if phase == Phase::ToUndo { Phase::ToHeal } else { after_recall(s, i) };
}

/// How many records an idle owner may take.
pub(crate) fn batches(s: &State, i: usize, bounds: &Bounds) -> u8 {
    if usize::from(s.owner) != i || s.inst[i].phase != Phase::Idle {
        return 0;
    }
    (s.len - s.committed).min(bounds.batch).min(u8::try_from(LOG).unwrap_or(0))
}
