//! A recaller: the flag and the mark in Redis, RECALL to Kafka, the tombstone to MySQL. Past Redis, also the
//! generation.

use crate::action::{Action, KafkaAnswer};
use crate::conversation::{Owner, commit_recall, excuse_recalls_without_tombstone, open_recall};
use crate::redis::confirm;
use crate::rules::Rules;
use crate::state::{Detail, Recaller, Record, State, Unconfirmed, small};

/// Takes the recaller's next step. `false`: the step must wait.
pub(crate) fn step(s: &mut State, action: Action, rules: &Rules) -> bool {
    match action {
        Action::RecallSetsFlag(m) => {
            s.msgs[m].flag = true;
            if !rules.enqueue_with_mark {
                s.msgs[m].unconfirmed = Unconfirmed::Recall;
            }
            s.msgs[m].recaller = Recaller::Flagged;
        }
        Action::RecallMarks(m) => mark(s, m, rules),
        Action::RecallFindsRedisAway(m) => redis_away(s, m, rules),
        Action::RecallProduces(m, answer) => produce(s, m, answer, rules),
        Action::RecallOpensTransaction(m) => {
            let Some((hit, base)) = open_recall(s, m, Owner::Recaller(m), rules) else {
                return false;
            };
            s.msgs[m].recaller = Recaller::Open(hit, base);
        }
        Action::RecallCommits(m) => {
            let Recaller::Open(hit, base) = s.msgs[m].recaller else { return false };
            commit_recall(s, m, hit, base, rules);
            if s.msgs[m].event || !rules.mark_after_tombstone {
                answer(s, m, true, rules);
            } else {
                s.msgs[m].recaller = Recaller::MarkNext;
            }
        }
        Action::RecallMarksAgain(m) => {
            confirm(s, m, rules);
            s.msgs[m].marked = true;
            answer(s, m, true, rules);
        }
        Action::RecallRaisesGeneration(m) => {
            s.generation += 1;
            s.msgs[m].recaller = if rules.generation_waited { Recaller::WaitNext } else { Recaller::Ok };
        }
        Action::RecallHasWaited(m) => {
            let present = s.generation;
            if s.known.iter().flatten().any(|known| *known != present) {
                return false;
            }
            s.msgs[m].recaller = Recaller::Ok;
        }
        Action::RecallFindsMySqlAway(m) => {
            s.budget.mysql_refusals -= 1;
            if s.msgs[m].recaller == Recaller::RaiseNext {
                s.msgs[m].recaller = Recaller::Unavailable;
            } else {
                answer(s, m, false, rules);
            }
        }
        Action::RecallerDies(m) => {
            s.budget.recaller_deaths -= 1;
            s.msgs[m].recaller = Recaller::Dead;
        }
        _ => return false,
    }
    true
}

fn mark(s: &mut State, m: usize, rules: &Rules) {
    let msg = &mut s.msgs[m];
    msg.recaller = Recaller::Marked;
    msg.marked = true;
    if rules.enqueue_with_mark {
        msg.unconfirmed = Unconfirmed::Recall;
    }
    match msg.detail {
        Detail::Missing if rules.recall_stub => msg.detail = Detail::Recalled,
        Detail::Pending | Detail::Persisted => {
            if msg.detail == Detail::Pending && !rules.recall_event_when_pending {
                msg.recaller = Recaller::MySqlNext;
            }
            msg.detail = Detail::Recalled;
        }
        Detail::Missing | Detail::Recalled | Detail::Confirmed => {}
    }
}

fn redis_away(s: &mut State, m: usize, rules: &Rules) {
    if !s.refuses {
        s.budget.redis_refusals -= 1;
    }
    match s.msgs[m].recaller {
        // Kafka refused the event, so no other process would tell Redis.
        Recaller::MarkNext if rules.away_needs_event => s.msgs[m].recaller = Recaller::Unavailable,
        Recaller::MarkNext => answer(s, m, true, rules),
        _ => s.msgs[m].recaller = Recaller::Marked,
    }
}

fn produce(s: &mut State, m: usize, answered: KafkaAnswer, rules: &Rules) {
    if answered == KafkaAnswer::Ok {
        s.append(Record::Recall(small(m)));
        s.msgs[m].event = true;
    } else {
        s.budget.kafka_refusals -= 1;
    }
    if rules.recall_writes_tombstone {
        s.msgs[m].recaller = Recaller::MySqlNext;
    } else {
        answer(s, m, false, rules);
    }
}

/// The recaller has tried all steps. `stored`: its tombstone is committed.
fn answer(s: &mut State, m: usize, stored: bool, rules: &Rules) {
    let msg = &mut s.msgs[m];
    // The sorted set alone may take over only if Kafka and MySQL were asked as well.
    let all_asked = rules.recall_writes_tombstone && rules.recall_event_when_pending;
    msg.deferred = !msg.event && !stored && all_asked;
    msg.recaller = if stored && !msg.marked && rules.generation_raised {
        Recaller::RaiseNext
    } else if !stored && !msg.marked {
        Recaller::Unavailable
    } else if msg.deferred && !msg.detail.recalled() {
        // Redis took the recall, Kafka and MySQL refused it, and Redis has lost it since: two faults at once.
        Recaller::Dead
    } else {
        Recaller::Ok
    };
    if s.redis_refuses_somebody() {
        excuse_recalls_without_tombstone(s);
    }
}
