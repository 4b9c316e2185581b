//! What senders, recallers, the compensator and queries do in one step, and what Redis losing all does.

use crate::consumer::{self, Owner};
use crate::model::{Action, KafkaAnswer, Protocol, RedisAnswer, small};
use crate::state::{
    Blind, Compensator, Detail, Message, Query, Recaller, Record, Row, Sender, State, Unconfirmed,
};

impl Protocol {
    fn push_to_list(&self, s: &mut State, m: usize) {
        s.lease = false;
        if s.list() || small(m) >= s.floor || !self.rules.push_floor {
            s.msgs[m].listed = true;
        }
    }

    pub(crate) fn send_to_redis(&self, s: &mut State, m: usize, answer: RedisAnswer) {
        if answer != RedisAnswer::Ok {
            s.budget.redis_refusals -= 1;
        }
        if answer != RedisAnswer::Refused {
            s.msgs[m].detail = Detail::Pending;
            s.msgs[m].unconfirmed = Unconfirmed::Send;
        }
        if answer == RedisAnswer::Ok {
            self.push_to_list(s, m);
        }
        s.msgs[m].sender = Sender::Wrote(answer == RedisAnswer::Ok);
    }

    pub(crate) fn send_to_kafka(s: &mut State, m: usize, answer: KafkaAnswer) {
        let in_redis = s.msgs[m].sender == Sender::Wrote(true);
        if answer == KafkaAnswer::Ok {
            s.append(Record::Persist(small(m)));
        } else {
            s.budget.kafka_refusals -= 1;
            s.msgs[m].late = answer == KafkaAnswer::Late;
            s.msgs[m].only_redis = in_redis;
            // Redis lost it between its two steps, Kafka refused it: both places the sender could name are gone.
            s.msgs[m].lost_by_redis = in_redis && s.msgs[m].detail == Detail::Missing;
        }
        let accepted = in_redis || answer == KafkaAnswer::Ok;
        s.msgs[m].sender = if accepted { Sender::Accepted } else { Sender::Refused };
    }

    fn recall_marks(&self, s: &mut State, m: usize) {
        let msg = &mut s.msgs[m];
        msg.recaller = Recaller::Marked;
        if self.rules.enqueue_with_mark {
            msg.unconfirmed = Unconfirmed::Recall;
        }
        match msg.detail {
            Detail::Missing => {
                msg.was_missing = true;
                msg.marked = self.rules.recall_stub;
                if self.rules.recall_stub {
                    msg.detail = Detail::Recalled;
                }
            }
            Detail::Pending | Detail::Persisted => {
                let pending = msg.detail == Detail::Pending;
                msg.marked = true;
                msg.detail = Detail::Recalled;
                if pending && !self.rules.recall_event_when_pending {
                    msg.recaller = Recaller::Ok;
                }
            }
            Detail::Recalled | Detail::Confirmed => msg.marked = true,
        }
    }

    /// The answer of a recaller that has tried all it could; `stored`: its tombstone is committed.
    fn answer_recall(&self, msg: &mut Message, stored: bool) {
        let held = msg.marked || stored;
        let carried = msg.event || stored || msg.marked;
        // Leaving it to the sorted set alone is right only when MySQL was asked as well.
        msg.deferred = !msg.event && !stored && self.rules.recall_writes_tombstone;
        msg.recaller = match (held && carried, msg.deferred && !msg.detail.recalled()) {
            (false, _) => Recaller::Unavailable,
            // Redis took it, Kafka and MySQL refused it, and Redis has lost it since: two faults at once.
            (true, true) => Recaller::Dead,
            (true, false) => Recaller::Ok,
        };
        if !msg.marked && msg.recaller == Recaller::Ok && !self.bounds.no_exception_for_redis_away {
            msg.blind = Blind::UntilConfirmed;
        }
    }

    fn recall_produces(&self, s: &mut State, m: usize, answer: KafkaAnswer) {
        if answer == KafkaAnswer::Ok {
            s.append(Record::Recall(small(m)));
            s.msgs[m].event = true;
        } else {
            s.budget.kafka_refusals -= 1;
        }
        let msg = &mut s.msgs[m];
        if self.rules.away_needs_event && !msg.marked && !msg.event {
            msg.recaller = Recaller::Unavailable;
        } else if self.rules.recall_writes_tombstone && (msg.was_missing || !msg.event) {
            msg.recaller = Recaller::MySqlNext;
        } else {
            self.answer_recall(msg, false);
        }
    }

    pub(crate) fn compensator_picks(s: &mut State, m: usize) {
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

    pub(crate) fn compensator_step(&self, s: &mut State) -> bool {
        let rules = &self.rules;
        s.comp = match s.comp {
            Compensator::Idle => return false,
            Compensator::Pending(c) => {
                let msg = &s.msgs[usize::from(c)];
                match msg.row {
                    _ if msg.tombstone => Compensator::Confirm(c),
                    Row::Recalled => Compensator::Confirm(c),
                    Row::Live | Row::Twice => Compensator::Stored(c),
                    Row::Absent => Compensator::NotStored(c),
                }
            }
            Compensator::NotStored(c) if rules.lost_check && s.queued(usize::from(c)) => Compensator::Idle,
            Compensator::NotStored(c) => Compensator::Lost(c),
            Compensator::Lost(c) => {
                s.append(Record::Resent(c));
                s.msgs[usize::from(c)].resent += 1;
                s.msgs[usize::from(c)].only_redis = false;
                Compensator::Idle
            }
            Compensator::Stored(c) => {
                let msg = &mut s.msgs[usize::from(c)];
                if msg.detail == Detail::Pending {
                    msg.detail = Detail::Persisted;
                    Compensator::Drop(c, Unconfirmed::Send)
                } else {
                    Compensator::Idle
                }
            }
            Compensator::Recalled(c) => {
                match consumer::recall_tx(s, usize::from(c), Owner::Compensator, rules) {
                    Some(hit) => Compensator::Open(c, hit),
                    None => return false,
                }
            }
            Compensator::Open(c, hit) => {
                consumer::recall_commit(s, usize::from(c), hit, rules);
                Compensator::Confirm(c)
            }
            Compensator::Confirm(c) => {
                consumer::confirm(s, usize::from(c), rules);
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

    pub(crate) fn redis_loses_all(&self, s: &mut State) {
        s.budget.redis_losses -= 1;
        for m in 0..2 {
            let held = s.held(m) && !self.bounds.holders_outlive_stubs;
            let msg = &mut s.msgs[m];
            let recalling = matches!(
                msg.recaller,
                Recaller::Marked
                    | Recaller::MySqlNext
                    | Recaller::Open(_)
                    | Recaller::MarkNext
                    | Recaller::Ok
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
                s.after_recall[m] = false;
            }
            msg.detail = Detail::Missing;
            msg.flag = false;
            msg.lock = None;
            msg.unconfirmed = Unconfirmed::No;
            msg.listed = false;
        }
        s.lease = false;
        s.floor = 0;
    }

    pub(crate) fn query_reads_details(s: &mut State) {
        for m in 0..2 {
            if s.rows[m] && s.msgs[m].detail.recalled() {
                s.rows[m] = false;
            }
            s.shown |= s.rows[m] && s.after_recall[m] && s.msgs[m].blind == Blind::No;
        }
        s.query = Query::Answered;
    }

    pub(crate) fn query_refills(&self, s: &mut State) {
        let tail = s.tail();
        for m in 0..2 {
            if s.rows[m] {
                consumer::put_back(s, m, &self.rules);
                if (s.lease || !self.rules.refill_lease) && tail.is_none_or(|t| m < t) {
                    s.msgs[m].listed = true;
                }
            }
        }
        s.rows = [false; 2];
        s.after_recall = [false; 2];
        s.lease = false;
        s.query = Query::Idle;
    }

    /// A recaller's step. `false`: it has to wait for a row lock.
    pub(crate) fn recaller_step(&self, s: &mut State, action: Action) -> bool {
        match action {
            Action::RecallSetsFlag(m) => {
                s.msgs[m].flag = true;
                if !self.rules.enqueue_with_mark {
                    s.msgs[m].unconfirmed = Unconfirmed::Recall;
                }
                s.msgs[m].recaller = Recaller::Flagged;
            }
            Action::RecallMarks(m) => self.recall_marks(s, m),
            Action::RecallFindsRedisAway(m) => {
                s.budget.redis_refusals -= 1;
                let msg = &mut s.msgs[m];
                match msg.recaller {
                    // Nobody but the reader of the RECALL event will tell Redis.
                    Recaller::MarkNext if !msg.event && self.rules.away_needs_event => {
                        msg.recaller = Recaller::Unavailable;
                    }
                    Recaller::MarkNext => self.answer_recall(msg, true),
                    _ => {
                        msg.was_missing = true;
                        msg.recaller = Recaller::Marked;
                    }
                }
            }
            Action::RecallProduces(m, answer) => self.recall_produces(s, m, answer),
            Action::RecallOpensTransaction(m) => {
                let Some(hit) = consumer::recall_tx(s, m, Owner::Recaller(m), &self.rules) else {
                    return false;
                };
                s.msgs[m].recaller = Recaller::Open(hit);
            }
            Action::RecallCommits(m) => {
                let hit = s.msgs[m].recaller == Recaller::Open(true);
                consumer::recall_commit(s, m, hit, &self.rules);
                if self.rules.mark_after_tombstone {
                    s.msgs[m].recaller = Recaller::MarkNext;
                } else {
                    self.answer_recall(&mut s.msgs[m], true);
                }
            }
            Action::RecallMarksAgain(m) => {
                consumer::confirm(s, m, &self.rules);
                s.msgs[m].marked |= self.rules.recall_stub;
                self.answer_recall(&mut s.msgs[m], true);
            }
            Action::RecallFindsMySqlAway(m) => {
                s.budget.mysql_refusals -= 1;
                self.answer_recall(&mut s.msgs[m], false);
            }
            Action::RecallerDies(m) => {
                s.budget.recaller_deaths -= 1;
                s.msgs[m].recaller = Recaller::Dead;
            }
            _ => return false,
        }
        true
    }
}
