//! A query: the newest page of the conversation, from Redis and MySQL, and what it puts back into Redis.

use crate::protocol::Protocol;
use crate::redis::{drop_list, put_back};
use crate::rules::Rules;
use crate::state::{
    Blind, Detail, Must, NO_QUERY, Query, QueryPhase, Recaller, Row, Seen, Sender, State, small,
};

/// A query of `process` begins.
pub(crate) fn begin(s: &mut State, process: usize, p: &Protocol) {
    s.budget.queries -= 1;
    let generation = s.known[process].unwrap_or(s.generation);
    if p.redis_may_refuse() {
        s.known[process] = Some(generation);
    }
    let must = [0, 1].map(|m| must_be_on_the_page(s, m));
    s.query = Query {
        phase: QueryPhase::Begun,
        process: small(process),
        generation,
        after_recall: [0, 1]
            .map(|m: usize| s.msgs[m].recaller == Recaller::Ok && s.msgs[m].blind == Blind::No),
        must,
        ..NO_QUERY
    };
    if p.rules.index_before_list {
        read_index(s);
    }
    // Where nothing can come between that matters, it is one step.
    if !p.redis_may_refuse() && p.bounds.list_evictions == 0 {
        read_redis(s, &p.rules);
    }
}

fn must_be_on_the_page(s: &State, m: usize) -> Must {
    let msg = &s.msgs[m];
    let heal_is_due = s.queued(m) || s.held_by_consumer(m);
    if msg.sender != Sender::Accepted || msg.recaller != Recaller::Idle {
        Must::No
    } else if msg.row == Row::Live && (msg.by_redis || !heal_is_due) {
        Must::InMySql
    } else if msg.by_redis && msg.detail.live() {
        Must::InRedis
    } else {
        Must::No
    }
}

/// The query's next step.
pub(crate) fn step(s: &mut State, rules: &Rules) {
    match s.query.phase {
        QueryPhase::Idle => {}
        QueryPhase::Begun => read_redis(s, rules),
        QueryPhase::ReadRedis => read_rows(s, rules),
        QueryPhase::ReadRows => answer(s, rules),
        QueryPhase::Answered => put_back_and_refill(s, rules),
        QueryPhase::Refilled => check_refill(s),
    }
}

/// The server that the query reads from takes no writes.
fn refused(s: &State) -> bool {
    s.refuses || (s.demoted.is_some() && s.query.process == 1)
}

fn detail(s: &State, m: usize) -> Detail {
    match s.demoted {
        Some(details) if s.query.process == 1 => details[m],
        _ => s.msgs[m].detail,
    }
}

fn read_index(s: &mut State) {
    s.query.indexed = [0, 1].map(|m: usize| s.msgs[m].indexed);
}

fn read_redis(s: &mut State, rules: &Rules) {
    s.query.phase = QueryPhase::ReadRedis;
    if rules.query_writes && refused(s) {
        s.query.away = true;
        return;
    }
    s.query.listed = [0, 1].map(|m: usize| s.msgs[m].listed);
    s.query.seen = [0, 1].map(|m| match detail(s, m) {
        Detail::Missing => Seen::Nothing,
        Detail::Recalled | Detail::Confirmed => Seen::Recalled,
        Detail::Pending | Detail::Persisted => {
            let same_epoch = s.msgs[m].sent_in == s.query.generation;
            if same_epoch || !rules.old_epoch_checked { Seen::Believed } else { Seen::Doubted }
        }
    });
}

fn read_rows(s: &mut State, rules: &Rules) {
    if !rules.index_before_list {
        read_index(s);
    }
    s.query.rows = [0, 1].map(|m: usize| s.msgs[m].row == Row::Live);
    s.query.gone = [0, 1].map(|m: usize| s.msgs[m].tombstone || s.msgs[m].row == Row::Recalled);
    s.query.phase = QueryPhase::ReadRows;
}

/// The query would show `m` to anybody who asks for it.
fn shows(s: &State, m: usize) -> bool {
    let q = &s.query;
    if q.away {
        return q.rows[m];
    }
    match q.seen[m] {
        Seen::Recalled => false,
        Seen::Believed => true,
        Seen::Doubted => !q.gone[m],
        Seen::Nothing => q.rows[m] && !detail(s, m).recalled(),
    }
}

/// The details of the rows are read once more, and the page is answered.
fn answer(s: &mut State, rules: &Rules) {
    if rules.query_writes && refused(s) && !s.query.away {
        s.query.away = true;
        s.query.phase = QueryPhase::ReadRedis;
        return;
    }
    let tail = s.query.tail();
    for m in 0..2 {
        let (q, msg) = (&s.query, &s.msgs[m]);
        let (shows, must) = (shows(s, m), q.must[m]);
        let behind_the_list = q.rows[m] && tail.is_none_or(|tail| m < tail);
        let on_the_page = shows && (q.away || q.indexed[m] || q.listed[m] || behind_the_list);
        let expected = match must {
            Must::No => false,
            Must::InRedis => !q.away,
            Must::InMySql => true,
        };
        let forbidden = shows && q.after_recall[m] && msg.blind == Blind::No;
        let left_out = expected && msg.recaller == Recaller::Idle && !on_the_page;
        s.shown |= forbidden;
        s.left_out |= left_out;
    }
    for m in 0..2 {
        s.query.rows[m] &= s.query.seen[m] != Seen::Recalled && !s.msgs[m].detail.recalled();
    }
    if s.query.away || s.query.rows == [false; 2] {
        s.query = NO_QUERY;
    } else {
        s.query.phase = QueryPhase::Answered;
    }
}

/// Details are put back where they are missing, and rows are appended behind the list if its end is still the same.
fn put_back_and_refill(s: &mut State, rules: &Rules) {
    if refused(s) {
        s.query = NO_QUERY;
        return;
    }
    let tail = s.query.tail();
    let end_is_the_same = s.tail() == tail;
    for m in 0..2 {
        if s.query.rows[m] {
            put_back(s, m, rules);
            if end_is_the_same && tail.is_none_or(|tail| m < tail) {
                s.msgs[m].listed = true;
                s.query.appended[m] = true;
            }
        }
    }
    if s.query.appended == [false; 2] || !rules.refill_checked {
        s.query = NO_QUERY;
    } else {
        s.query.phase = QueryPhase::Refilled;
    }
}

/// MySQL is read again: a row that the refilled stretch lacks drops the list. If Redis refuses the drop, the list's TTL
/// of 10 s does it.
fn check_refill(s: &mut State) {
    let end = s.query.tail().unwrap_or(2);
    let oldest = s.query.appended.iter().position(|appended| *appended).unwrap_or(end);
    if (oldest..end).any(|m| s.msgs[m].row == Row::Live && !s.query.appended[m]) {
        drop_list(s);
    }
    s.query = NO_QUERY;
}
