//! A query: the newest page of the conversation, from Redis and MySQL, and what it puts back into Redis.

use crate::protocol::Protocol;
use crate::redis::{confirm, drop_list, put_back};
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
    // If nothing that matters can happen in between, this is one step.
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
    s.query.believed = s.believed_in == Some(s.query.generation) || !rules.old_epoch_checked;
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

/// The row of `m` can be shown: Redis does not say that the message is recalled.
fn row_shows(s: &State, m: usize) -> bool {
    let q = &s.query;
    q.rows[m] && (q.away || (q.seen[m] != Seen::Recalled && !detail(s, m).recalled()))
}

/// A look-up of `m` by its id shows the message.
fn look_up_shows(s: &State, m: usize) -> bool {
    let q = &s.query;
    match q.seen[m] {
        _ if q.away => q.rows[m],
        Seen::Recalled => false,
        Seen::Believed => true,
        Seen::Doubted => !q.gone[m],
        Seen::Nothing => row_shows(s, m),
    }
}

/// The page shows `m`: from the list, from the index of what is pending, or from MySQL.
fn page_shows(s: &State, m: usize) -> bool {
    let q = &s.query;
    let live = matches!(q.seen[m], Seen::Believed | Seen::Doubted);
    if q.away {
        q.rows[m]
    } else if q.believed {
        let behind_the_list = q.tail().is_none_or(|tail| m < tail);
        let from_redis = (q.listed[m] || q.indexed[m]) && (live || row_shows(s, m));
        from_redis || (behind_the_list && row_shows(s, m))
    } else {
        (q.indexed[m] && live && !q.gone[m]) || row_shows(s, m)
    }
}

/// The details of the rows are read once more, and the page is answered.
fn answer(s: &mut State, rules: &Rules) {
    if rules.query_writes && refused(s) && !s.query.away {
        s.query.away = true;
        s.query.phase = QueryPhase::ReadRedis;
        return;
    }
    for m in 0..2 {
        let (q, msg) = (&s.query, &s.msgs[m]);
        let on_the_page = page_shows(s, m);
        let expected = match q.must[m] {
            Must::No => false,
            Must::InRedis => !q.away,
            Must::InMySql => true,
        };
        let forbidden = q.after_recall[m] && msg.blind == Blind::No;
        let shown = forbidden && (on_the_page || look_up_shows(s, m));
        let left_out = expected && msg.recaller == Recaller::Idle && !on_the_page;
        s.shown |= shown;
        s.left_out |= left_out;
    }
    for m in 0..2 {
        s.query.rows[m] = row_shows(s, m);
    }
    let nothing_to_do = s.query.believed && s.query.rows == [false; 2];
    if s.query.away || nothing_to_do {
        s.query = NO_QUERY;
    } else {
        s.query.phase = QueryPhase::Answered;
    }
}

/// Details are put back where they are missing. A list that is believed gets the rows behind its end, if the end is still
/// the same. A list that is not believed is replaced by the rows, if it is still the same, once Redis knows of each
/// pending message that MySQL says is recalled.
fn put_back_and_refill(s: &mut State, rules: &Rules) {
    if refused(s) {
        s.query = NO_QUERY;
        return;
    }
    let (q, listed) = (s.query, [0, 1].map(|m: usize| s.msgs[m].listed));
    let unchanged = if q.believed { s.tail() == q.tail() } else { listed == q.listed };
    for m in 0..2 {
        if q.rows[m] {
            put_back(s, m, rules);
        }
        if !q.believed && q.indexed[m] && q.gone[m] {
            confirm(s, m, rules);
        }
        let behind_the_list = !q.believed || q.tail().is_none_or(|tail| m < tail);
        s.query.appended[m] = unchanged && q.rows[m] && behind_the_list;
        s.msgs[m].listed = s.query.appended[m] || (s.msgs[m].listed && (q.believed || !unchanged));
    }
    if !unchanged || (q.believed && s.query.appended == [false; 2]) {
        s.query = NO_QUERY;
    } else if rules.refill_checked {
        s.query.phase = QueryPhase::Refilled;
    } else {
        s.believed_in = Some(q.generation);
        s.query = NO_QUERY;
    }
}

/// MySQL is read again. A row that the refilled stretch lacks drops the list; else the list is believed in this epoch. If
/// Redis refuses, the list's TTL of 10 s drops it.
fn check_refill(s: &mut State) {
    let q = s.query;
    let end = if q.believed { q.tail().unwrap_or(2) } else { 2 };
    let oldest = q.appended.iter().position(|appended| *appended).unwrap_or(0);
    let lacks = (oldest..end).any(|m| s.msgs[m].row == Row::Live && !q.appended[m]);
    if lacks || refused(s) {
        drop_list(s);
    } else {
        s.believed_in = Some(q.generation);
    }
    s.query = NO_QUERY;
}
