//! The steps that are possible in a state, and the state after each.

use stateright::{Model, Property};

use crate::action::{Action, KafkaAnswer, RedisAnswer};
use crate::protocol::Protocol;
use crate::state::{
    Asking, Blind, Budget, Client, Compensator, Detail, IDLE, LOG, Message, NO_QUERY, Phase, QueryPhase,
    Recaller, Record, Row, Sender, State, Unconfirmed, View, Work, small,
};
use crate::{client, compensator, consumer, conversation, query, recaller, redis, sender};

const FRESH: Message = Message {
    detail: Detail::Missing,
    flag: false,
    lock: None,
    unconfirmed: Unconfirmed::No,
    listed: false,
    indexed: false,
    pending_unread: false,
    row: Row::Absent,
    seq: 0,
    tombstone: false,
    recall_seq: 0,
    unshown: false,
    sent_in: 0,
    sender: Sender::New,
    old: false,
    by_redis: false,
    late: false,
    only_redis: false,
    lost_by_redis: false,
    resent: 0,
    recaller: Recaller::Idle,
    marked: false,
    event: false,
    deferred: false,
    blind: Blind::No,
    read_seen: false,
    view: View::Unknown,
};

fn lock_can_expire(s: &State, offset: u8) -> bool {
    !s.inst.iter().any(|i| {
        let works = i.work.iter().filter(|w| **w != Work::None).count();
        !i.zombie
            && !matches!(i.phase, Phase::Idle | Phase::Checked)
            && (i.start..i.start + small(works)).contains(&offset)
    })
}

impl Protocol {
    fn sender_actions(&self, s: &State, m: usize, out: &mut Vec<Action>) {
        let (left, msg) = (&s.budget, &s.msgs[m]);
        match msg.sender {
            // Ids rise in the order of the sends, so the two messages are not interchangeable.
            Sender::New if m == 0 || self.bounds.slow_sender || s.msgs[0].sender != Sender::New => {
                if !s.refuses {
                    out.push(Action::SendToRedis(m, RedisAnswer::Ok));
                }
                if s.refuses || left.redis_refusals > 0 {
                    out.push(Action::SendToRedis(m, RedisAnswer::Refused));
                }
                if !s.refuses && left.redis_refusals > 0 {
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
    }

    fn recaller_actions(&self, s: &State, m: usize, out: &mut Vec<Action>) {
        let (left, msg) = (&s.budget, &s.msgs[m]);
        let redis_write = match msg.recaller {
            Recaller::Idle if m < self.bounds.recalls && msg.sender == Sender::Accepted => {
                Some(Action::RecallSetsFlag(m))
            }
            Recaller::Flagged => Some(Action::RecallMarks(m)),
            Recaller::MarkNext => Some(Action::RecallMarksAgain(m)),
            _ => None,
        };
        if let Some(write) = redis_write {
            if !s.refuses {
                out.push(write);
            }
            if s.refuses || left.redis_refusals > 0 {
                out.push(Action::RecallFindsRedisAway(m));
            }
        }
        match msg.recaller {
            Recaller::Marked => {
                out.push(Action::RecallProduces(m, KafkaAnswer::Ok));
                if left.kafka_refusals > 0 {
                    out.push(Action::RecallProduces(m, KafkaAnswer::Refused));
                }
            }
            Recaller::MySqlNext => out.push(Action::RecallOpensTransaction(m)),
            Recaller::Open(..) => out.push(Action::RecallCommits(m)),
            Recaller::RaiseNext => out.push(Action::RecallRaisesGeneration(m)),
            // The second that the recaller waits is longer than any process holds an older row (an assumption).
            Recaller::WaitNext if self.bounds.holders_outlive_stubs || !s.held(m) => {
                out.push(Action::RecallHasWaited(m));
            }
            _ => {}
        }
        if matches!(msg.recaller, Recaller::MySqlNext | Recaller::RaiseNext) && left.mysql_refusals > 0 {
            out.push(Action::RecallFindsMySqlAway(m));
        }
        let ended =
            matches!(msg.recaller, Recaller::Idle | Recaller::Ok | Recaller::Unavailable | Recaller::Dead);
        if !ended && left.recaller_deaths > 0 {
            out.push(Action::RecallerDies(m));
        }
    }

    fn message_actions(&self, s: &State, m: usize, out: &mut Vec<Action>) {
        let (b, msg) = (&self.bounds, &s.msgs[m]);
        self.sender_actions(s, m, out);
        self.recaller_actions(s, m, out);
        if msg.lock.is_some_and(|o| lock_can_expire(s, o)) {
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
        let due = sent && !s.refuses && (read_all || !b.patient_compensator);
        if s.comp == Compensator::Idle && msg.unconfirmed != Unconfirmed::No && due && msg.resent < 3 {
            out.push(Action::CompensatorPicks(m));
        }
        if b.pushes && client::message_push(s, m) {
            out.push(Action::PushArrives(m));
        }
        if b.pushes && client::recall_push(s, m, &self.rules) {
            out.push(Action::RecallPushArrives(m));
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

    fn reader_actions(&self, s: &State, out: &mut Vec<Action>) {
        match s.query.phase {
            QueryPhase::Idle if s.budget.queries > 0 => {
                out.push(Action::QueryBegins(0));
                if self.redis_may_refuse() {
                    out.push(Action::QueryBegins(1));
                }
            }
            QueryPhase::Idle => {}
            phase => out.push(Action::QueryStep(phase)),
        }
        for p in 0..2 {
            if s.known[p].is_some_and(|known| known != s.generation) {
                out.push(Action::KnowledgeExpires(p));
            }
        }
        if s.client.exists && (s.client.asking != Asking::Idle || s.last_seq > s.client.cursor) {
            out.push(Action::ClientStep(s.client.asking));
        }
        if s.budget.reads > 0 && client::newest_to_read(s).is_some() {
            out.push(Action::ReceiverReads);
        }
    }

    fn redis_actions(s: &State, out: &mut Vec<Action>) {
        let left = &s.budget;
        if left.redis_losses > 0 {
            out.push(Action::RedisLosesAll);
        }
        if s.refuses {
            out.push(Action::RedisTakesWritesAgain);
        } else if left.redis_refusing > 0 {
            out.push(Action::RedisBeginsToRefuse);
        }
        if s.demoted.is_some() {
            out.push(Action::ProcessFindsPrimary);
        } else if left.failovers > 0 {
            out.push(Action::RedisFailsOver);
        }
        if left.list_evictions > 0 && s.list() {
            out.push(Action::ListEvicted);
            if s.msgs.iter().all(|m| m.listed) {
                out.push(Action::ListTrimmed);
            }
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
            last_seq: 0,
            position: 0,
            generation: 0,
            known: [None; 2],
            believed_in: Some(0),
            refuses: false,
            demoted: None,
            inst: [IDLE; 2],
            owner: 0,
            comp: Compensator::Idle,
            query: NO_QUERY,
            client: Client {
                exists: b.client,
                cursor: 0,
                asking: Asking::Idle,
                page: [View::Unknown; 2],
                highest: 0,
            },
            shown: false,
            left_out: false,
            appeared_behind: false,
            renumbered: false,
            overflow: false,
            budget: Budget {
                crashes: b.crashes,
                zombies: b.zombies,
                redis_losses: b.redis_losses,
                redis_refusals: b.redis_refusals,
                redis_refusing: b.redis_refusing,
                failovers: b.failovers,
                kafka_refusals: b.kafka_refusals,
                mysql_refusals: b.mysql_refusals,
                recaller_deaths: b.recaller_deaths,
                queries: b.queries,
                list_evictions: b.list_evictions,
                reads: b.reads,
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
        self.reader_actions(s, out);
        Self::redis_actions(s, out);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let s = &mut next;
        // A step that must wait for a lock is not possible.
        let done = match action {
            Action::RecallSetsFlag(_)
            | Action::RecallMarks(_)
            | Action::RecallFindsRedisAway(_)
            | Action::RecallProduces(..)
            | Action::RecallOpensTransaction(_)
            | Action::RecallCommits(_)
            | Action::RecallMarksAgain(_)
            | Action::RecallRaisesGeneration(_)
            | Action::RecallHasWaited(_)
            | Action::RecallFindsMySqlAway(_)
            | Action::RecallerDies(_) => recaller::step(s, action, &self.rules),
            Action::ConsumerStep(i, _) => consumer::step(s, i, &self.rules),
            Action::CompensatorStep(_) => compensator::step(s, &self.rules),
            other => {
                self.take(s, other);
                true
            }
        };
        done.then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::properties::all()
    }
}

impl Protocol {
    /// A step that never waits.
    fn take(&self, s: &mut State, action: Action) {
        match action {
            Action::SendToRedis(m, answer) => sender::send_to_redis(s, m, answer, &self.rules),
            Action::SendToKafka(m, answer) => sender::send_to_kafka(s, m, answer),
            Action::LateRecordArrives(m) => sender::late_record_arrives(s, m),
            Action::ConsumerReads(i, n) => consumer::fetch(s, i, usize::from(n)),
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
            Action::CompensatorPicks(m) => compensator::pick(s, m),
            Action::QueryBegins(process) => query::begin(s, process, self),
            Action::QueryStep(_) => query::step(s, &self.rules),
            Action::KnowledgeExpires(process) => s.known[process] = None,
            Action::ClientStep(_) => client::step(s, &self.rules),
            Action::PushArrives(m) => s.msgs[m].view = View::Live,
            Action::RecallPushArrives(m) => s.msgs[m].view = View::Recalled,
            Action::ReceiverReads => {
                if let Some(newest) = client::newest_to_read(s) {
                    client::receiver_reads(s, newest);
                }
            }
            Action::RedisLosesAll => redis::loses_all(s, &self.bounds),
            Action::RedisBeginsToRefuse => {
                s.budget.redis_refusing -= 1;
                s.refuses = true;
                conversation::excuse_recalls_without_tombstone(s);
            }
            Action::RedisTakesWritesAgain => s.refuses = false,
            Action::RedisFailsOver => {
                s.budget.failovers -= 1;
                s.demoted = Some([0, 1].map(|m: usize| s.msgs[m].detail));
                conversation::excuse_recalls_without_tombstone(s);
            }
            Action::ProcessFindsPrimary => s.demoted = None,
            Action::DetailExpires(m) => s.msgs[m].detail = Detail::Missing,
            Action::FlagExpires(m) => s.msgs[m].flag = false,
            Action::ListEvicted => {
                s.budget.list_evictions -= 1;
                redis::drop_list(s);
            }
            Action::ListTrimmed => {
                s.budget.list_evictions -= 1;
                s.msgs[0].listed = false;
            }
            // Steps that may wait are taken in `next_state`.
            _ => {}
        }
    }
}
