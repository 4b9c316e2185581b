//! The actions of everybody, and what each does.

use stateright::{Model, Property};

use crate::consumer;
use crate::rules::{Bounds, Rules};
use crate::state::{
    Blind, Budget, Compensator, Detail, IDLE, LOG, Message, Phase, Query, Recaller, Record, Row, Sender,
    State, Unconfirmed, Work,
};

/// The protocol under given rules, in a world of given bounds.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// Which rules are in force.
    pub rules: Rules,
    /// How much may happen.
    pub bounds: Bounds,
}

/// How Redis answers a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisAnswer {
    /// All written.
    Ok,
    /// An error, nothing written.
    Refused,
    /// An error, but detail and sorted set were written and the list was not.
    HalfWritten,
}

/// How Kafka answers a produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaAnswer {
    /// Acknowledged.
    Ok,
    /// An error, and the record is gone.
    Refused,
    /// An error, but the record still arrives some time.
    Late,
}

/// One atomic step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each names the step it is")]
pub enum Action {
    SendToRedis(usize, RedisAnswer),
    SendToKafka(usize, KafkaAnswer),
    LateRecordArrives(usize),
    RecallSetsFlag(usize),
    RecallMarks(usize),
    RecallFindsRedisAway(usize),
    RecallProduces(usize, KafkaAnswer),
    RecallOpensTransaction(usize),
    RecallCommits(usize),
    RecallMarksAgain(usize),
    RecallFindsMySqlAway(usize),
    RecallerDies(usize),
    ConsumerReads(usize, u8),
    ConsumerStep(usize, Phase),
    ConsumerFindsMySqlAway(usize),
    ConsumerCrashes(usize),
    Rebalance(usize),
    LockExpires(usize),
    CompensatorPicks(usize),
    CompensatorStep(Compensator),
    QueryReadsList,
    QueryReadsRows,
    QueryReadsDetails,
    QueryRefills,
    RedisLosesAll,
    DetailExpires(usize),
    FlagExpires(usize),
    ListEvicted,
}

pub(crate) fn small(m: usize) -> u8 {
    u8::try_from(m).unwrap_or(u8::MAX)
}

const FRESH: Message = Message {
    detail: Detail::Missing,
    flag: false,
    lock: None,
    unconfirmed: Unconfirmed::No,
    listed: false,
    row: Row::Absent,
    tombstone: false,
    sender: Sender::New,
    late: false,
    only_redis: false,
    lost_by_redis: false,
    resent: 0,
    recaller: Recaller::Idle,
    marked: false,
    was_missing: false,
    event: false,
    deferred: false,
    blind: Blind::No,
};

impl Protocol {
    /// Nobody has anything left to do.
    #[must_use]
    pub fn at_rest(s: &State) -> bool {
        s.committed == s.len
            && s.comp == Compensator::Idle
            && s.query == Query::Idle
            && s.inst.iter().all(|i| i.phase == Phase::Idle)
            && s.msgs.iter().all(|m| {
                !m.late
                    && m.unconfirmed == Unconfirmed::No
                    && !matches!(m.sender, Sender::Wrote(_))
                    && matches!(
                        m.recaller,
                        Recaller::Idle | Recaller::Ok | Recaller::Unavailable | Recaller::Dead
                    )
            })
    }

    fn lock_can_expire(s: &State, offset: u8) -> bool {
        !s.inst.iter().any(|i| {
            let works = i.work.iter().filter(|w| **w != Work::None).count();
            !i.zombie
                && !matches!(i.phase, Phase::Idle | Phase::Checked)
                && (i.start..i.start + small(works)).contains(&offset)
        })
    }

    fn message_actions(&self, s: &State, m: usize, out: &mut Vec<Action>) {
        let (b, left, msg) = (&self.bounds, &s.budget, &s.msgs[m]);
        match msg.sender {
            // Ids rise in the order of the sends, so the two messages are not interchangeable.
            Sender::New if m == 0 || b.slow_sender || s.msgs[0].sender != Sender::New => {
                out.push(Action::SendToRedis(m, RedisAnswer::Ok));
                if left.redis_refusals > 0 {
                    out.push(Action::SendToRedis(m, RedisAnswer::Refused));
                    out.push(Action::SendToRedis(m, RedisAnswer::HalfWritten));
                }
            }
            Sender::Wrote(_) => {
                out.push(Action::SendToKafka(m, KafkaAnswer::Ok));
                if left.kafka_refusals > 0 {
                    out.push(Action::SendToKafka(m, KafkaAnswer::Refused));
                    out.push(Action::SendToKafka(m, KafkaAnswer::Late));
                }
            }
            _ => {}
        }
        if msg.late {
            out.push(Action::LateRecordArrives(m));
        }
        match msg.recaller {
            Recaller::Idle if m < b.recalls && msg.sender == Sender::Accepted => {
                out.push(Action::RecallSetsFlag(m));
                if left.redis_refusals > 0 {
                    out.push(Action::RecallFindsRedisAway(m));
                }
            }
            Recaller::Flagged => {
                out.push(Action::RecallMarks(m));
                if left.redis_refusals > 0 {
                    out.push(Action::RecallFindsRedisAway(m));
                }
            }
            Recaller::Marked => {
                out.push(Action::RecallProduces(m, KafkaAnswer::Ok));
                if left.kafka_refusals > 0 {
                    out.push(Action::RecallProduces(m, KafkaAnswer::Refused));
                }
            }
            Recaller::MySqlNext => {
                out.push(Action::RecallOpensTransaction(m));
                if left.mysql_refusals > 0 {
                    out.push(Action::RecallFindsMySqlAway(m));
                }
            }
            Recaller::Open(_) => out.push(Action::RecallCommits(m)),
            Recaller::MarkNext => {
                out.push(Action::RecallMarksAgain(m));
                if left.redis_refusals > 0 {
                    out.push(Action::RecallFindsRedisAway(m));
                }
            }
            _ => {}
        }
        let mid_recall = matches!(
            msg.recaller,
            Recaller::Flagged
                | Recaller::Marked
                | Recaller::MySqlNext
                | Recaller::Open(_)
                | Recaller::MarkNext
        );
        if mid_recall && left.recaller_deaths > 0 {
            out.push(Action::RecallerDies(m));
        }
        if msg.lock.is_some_and(|o| Self::lock_can_expire(s, o)) {
            out.push(Action::LockExpires(m));
        }
        let has_ttl = matches!(msg.detail, Detail::Persisted | Detail::Confirmed);
        if b.expiry && has_ttl && (b.holders_outlive_stubs || !s.held(m)) {
            out.push(Action::DetailExpires(m));
        }
        if msg.detail == Detail::Pending && !self.rules.pending_never_expires {
            out.push(Action::DetailExpires(m));
        }
        if b.expiry
            && msg.flag
            && matches!(msg.recaller, Recaller::Ok | Recaller::Unavailable | Recaller::Dead)
        {
            out.push(Action::FlagExpires(m));
        }
        let sent = matches!(msg.sender, Sender::Accepted | Sender::Refused);
        let read_all = s.committed == s.len && s.inst.iter().all(|i| i.zombie || i.phase == Phase::Idle);
        let due = sent && (read_all || !b.patient_compensator);
        if s.comp == Compensator::Idle && msg.unconfirmed != Unconfirmed::No && due && msg.resent < 3 {
            out.push(Action::CompensatorPicks(m));
        }
    }

    fn instance_actions(&self, s: &State, i: usize, out: &mut Vec<Action>) {
        let (left, inst) = (&s.budget, &s.inst[i]);
        for n in 1..=consumer::batches(s, i, &self.bounds) {
            out.push(Action::ConsumerReads(i, n));
        }
        if inst.phase == Phase::Idle {
            return;
        }
        out.push(Action::ConsumerStep(i, inst.phase));
        let at_mysql = matches!(inst.phase, Phase::ToPersist | Phase::ToRecall | Phase::ToUndo);
        if at_mysql && left.mysql_refusals > 0 {
            out.push(Action::ConsumerFindsMySqlAway(i));
        }
        if left.crashes > 0 {
            out.push(Action::ConsumerCrashes(i));
        }
        if left.zombies > 0 && !inst.zombie && s.inst[1 - i].phase == Phase::Idle {
            out.push(Action::Rebalance(i));
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let b = &self.bounds;
        vec![State {
            msgs: [FRESH; 2],
            log: [Record::None; LOG],
            len: 0,
            committed: 0,
            inst: [IDLE; 2],
            owner: 0,
            comp: Compensator::Idle,
            query: Query::Idle,
            after_recall: [false; 2],
            rows: [false; 2],
            lease: false,
            floor: 0,
            shown: false,
            overflow: false,
            budget: Budget {
                crashes: b.crashes,
                zombies: b.zombies,
                redis_losses: b.redis_losses,
                redis_refusals: b.redis_refusals,
                kafka_refusals: b.kafka_refusals,
                mysql_refusals: b.mysql_refusals,
                recaller_deaths: b.recaller_deaths,
                queries: b.queries,
                list_evictions: b.list_evictions,
            },
        }]
    }

    fn actions(&self, s: &State, out: &mut Vec<Action>) {
        for m in 0..self.bounds.messages {
            self.message_actions(s, m, out);
        }
        for i in 0..2 {
            self.instance_actions(s, i, out);
        }
        if s.comp != Compensator::Idle {
            out.push(Action::CompensatorStep(s.comp));
        }
        match s.query {
            Query::Idle if s.budget.queries > 0 => out.push(Action::QueryReadsList),
            Query::Idle => {}
            Query::Listed => out.push(Action::QueryReadsRows),
            Query::Rows => out.push(Action::QueryReadsDetails),
            Query::Answered => out.push(Action::QueryRefills),
        }
        if s.budget.redis_losses > 0 {
            out.push(Action::RedisLosesAll);
        }
        if s.budget.list_evictions > 0 && s.list() {
            out.push(Action::ListEvicted);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let s = &mut next;
        match action {
            Action::SendToRedis(m, answer) => self.send_to_redis(s, m, answer),
            Action::SendToKafka(m, answer) => Self::send_to_kafka(s, m, answer),
            Action::LateRecordArrives(m) => {
                s.msgs[m].late = false;
                s.msgs[m].only_redis = false;
                s.append(Record::Persist(small(m)));
            }
            Action::RecallSetsFlag(_)
            | Action::RecallMarks(_)
            | Action::RecallFindsRedisAway(_)
            | Action::RecallProduces(..)
            | Action::RecallOpensTransaction(_)
            | Action::RecallCommits(_)
            | Action::RecallMarksAgain(_)
            | Action::RecallFindsMySqlAway(_)
            | Action::RecallerDies(_) => {
                if !self.recaller_step(s, action) {
                    return None;
                }
            }
            Action::ConsumerReads(i, n) => consumer::fetch(s, i, usize::from(n)),
            Action::ConsumerStep(i, _) => {
                if !consumer::step(s, i, &self.rules) {
                    return None;
                }
            }
            Action::ConsumerFindsMySqlAway(i) => {
                s.budget.mysql_refusals -= 1;
                consumer::mysql_refuses(s, i);
            }
            Action::ConsumerCrashes(i) => {
                s.budget.crashes -= 1;
                s.inst[i] = IDLE;
            }
            Action::Rebalance(i) => {
                s.budget.zombies -= 1;
                s.inst[i].zombie = true;
                s.owner = small(1 - i);
            }
            Action::LockExpires(m) => s.msgs[m].lock = None,
            Action::CompensatorPicks(m) => Self::compensator_picks(s, m),
            Action::CompensatorStep(_) => {
                if !self.compensator_step(s) {
                    return None;
                }
            }
            Action::QueryReadsList => {
                s.budget.queries -= 1;
                s.query = Query::Listed;
                s.lease = true;
                s.after_recall = [0, 1].map(|m: usize| s.msgs[m].recaller == Recaller::Ok);
            }
            Action::QueryReadsRows => {
                s.rows = [0, 1].map(|m: usize| s.msgs[m].row == Row::Live);
                s.query = Query::Rows;
            }
            Action::QueryReadsDetails => Self::query_reads_details(s),
            Action::QueryRefills => self.query_refills(s),
            Action::RedisLosesAll => self.redis_loses_all(s),
            Action::DetailExpires(m) => s.msgs[m].detail = Detail::Missing,
            Action::FlagExpires(m) => s.msgs[m].flag = false,
            Action::ListEvicted => {
                s.budget.list_evictions -= 1;
                for msg in &mut s.msgs {
                    msg.listed = false;
                }
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::properties::all()
    }
}
