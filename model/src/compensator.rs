//! The compensator: it looks at each message that is not confirmed, and sends lost ones again.

use crate::conversation::{Owner, commit_recall, open_recall};
use crate::redis::{confirm, heal_list};
use crate::rules::Rules;
use crate::state::{Compensator, Detail, Record, Row, State, Unconfirmed, small};

pub(crate) fn pick(s: &mut State, m: usize) {
    let msg = &s.msgs[m];
    let c = small(m);
    s.comp = match msg.detail {
        Detail::Confirmed => Compensator::Drop(c, msg.unconfirmed),
        Detail::Recalled => Compensator::Recalled(c),
        _ if msg.flag => Compensator::Recalled(c),
        Detail::Missing | Detail::Persisted => Compensator::Drop(c, msg.unconfirmed),
        Detail::Pending => Compensator::Pending(c),
    };
}

/// Takes the compensator's next step. `false`: the step must wait for the conversation's lock.
pub(crate) fn step(s: &mut State, rules: &Rules) -> bool {
    s.comp = match s.comp {
        Compensator::Idle => return false,
        Compensator::Pending(c) => match s.msgs[usize::from(c)].row {
            Row::Recalled => Compensator::Confirm(c),
            Row::Live | Row::Twice => Compensator::Stored(c),
            Row::Absent => Compensator::NotStored(c),
        },
        Compensator::NotStored(c) if rules.lost_check && s.queued(usize::from(c)) => Compensator::Idle,
        Compensator::NotStored(c) => Compensator::Lost(c),
        Compensator::Recalled(c) => match open_recall(s, usize::from(c), Owner::Compensator, rules) {
            Some((hit, base)) => Compensator::Open(c, hit, base),
            None => return false,
        },
        Compensator::Open(c, hit, base) => {
            commit_recall(s, usize::from(c), hit, base, rules);
            Compensator::Confirm(c)
        }
        // The remaining steps write to Redis. If Redis refuses, the run ends.
        _ if s.refuses => Compensator::Idle,
        Compensator::Lost(c) => {
            s.append(Record::Resent(c));
            s.msgs[usize::from(c)].resent += 1;
            s.msgs[usize::from(c)].only_redis = false;
            Compensator::Idle
        }
        Compensator::Stored(c) => {
            if s.msgs[usize::from(c)].detail == Detail::Pending {
                s.msgs[usize::from(c)].detail = Detail::Persisted;
                s.msgs[usize::from(c)].pending_unread = false;
                heal_list(s, usize::from(c), rules);
                Compensator::Drop(c, Unconfirmed::Send)
            } else {
                Compensator::Idle
            }
        }
        Compensator::Confirm(c) => {
            confirm(s, usize::from(c), rules);
            Compensator::Drop(c, s.msgs[usize::from(c)].unconfirmed)
        }
        Compensator::Drop(c, seen) => {
            let msg = &mut s.msgs[usize::from(c)];
            if msg.unconfirmed == seen || !rules.guarded_pending_removal {
                msg.unconfirmed = Unconfirmed::No;
            }
            Compensator::Idle
        }
    };
    true
}
