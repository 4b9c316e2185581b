//! The protocol keeps its promises in every order of steps within these scopes.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use hongyan_model::{Bounds, Protocol, Rules};
use stateright::{Checker, Model};

// One exploration at a time: each takes two cores and up to a gigabyte.
static TURN: Mutex<()> = Mutex::new(());

fn holds(scope: &str, bounds: Bounds) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let start = Instant::now();
    let checker = Protocol { rules: Rules::default(), bounds }.checker().threads(2).spawn_bfs().join();
    println!(
        "{scope}: {} states, {} steps deep, {:.1?}",
        checker.unique_state_count(),
        checker.max_depth(),
        start.elapsed()
    );
    let broken: Vec<_> =
        checker.discoveries().into_iter().map(|(name, path)| (name, path.into_actions())).collect();
    assert!(broken.is_empty(), "{scope}: does not hold: {broken:?}");
}

fn calm() -> Bounds {
    Bounds { patient_compensator: true, ..Bounds::default() }
}

#[test]
fn two_messages_two_recalls_and_a_crash() {
    let two = Bounds { messages: 2, recalls: 2, batch: 2, ..calm() };
    holds("two messages, both recalled", Bounds { crashes: 1, ..two });
}

#[test]
fn two_messages_a_recall_a_crash_and_redis_losing_all() {
    let bounds = Bounds { messages: 2, batch: 2, crashes: 1, redis_losses: 1, ..calm() };
    holds("two messages, a loss of Redis", bounds);
}

#[test]
fn a_zombie_a_crash_a_loss_and_a_late_record() {
    let bounds = Bounds { crashes: 1, zombies: 1, redis_losses: 1, kafka_refusals: 1, ..calm() };
    holds("zombie", bounds);
}

#[test]
fn a_query_that_refills_while_a_zombie_works_and_details_expire() {
    let bounds = Bounds { zombies: 1, redis_losses: 1, queries: 1, expiry: true, ..calm() };
    holds("query and zombie", bounds);
}

#[test]
fn a_query_while_every_store_fails_once() {
    let bounds = Bounds { redis_losses: 1, kafka_refusals: 1, mysql_refusals: 1, queries: 1, ..calm() };
    holds("query and failures", bounds);
}

#[test]
fn a_compensator_that_runs_at_any_moment() {
    let failures = Bounds { redis_losses: 1, kafka_refusals: 1, mysql_refusals: 1, ..Bounds::default() };
    holds("eager compensator", Bounds { crashes: 1, ..failures });
}

#[test]
fn every_store_fails_and_a_recaller_dies() {
    let failures = Bounds { redis_losses: 1, kafka_refusals: 1, mysql_refusals: 1, ..Bounds::default() };
    holds("failures and a dead recaller", Bounds { redis_refusals: 2, recaller_deaths: 1, ..failures });
}

#[test]
fn a_list_that_is_evicted_and_refilled() {
    let bounds = Bounds { messages: 2, redis_refusals: 1, queries: 1, list_evictions: 1, ..calm() };
    holds("list", bounds);
    holds(
        "list and an older send that comes late",
        Bounds { recalls: 0, slow_sender: true, queries: 2, ..bounds },
    );
}

#[test]
fn a_redis_that_refuses_writes() {
    let bounds = Bounds { redis_refusing: 1, queries: 2, ..calm() };
    holds("Redis refuses", bounds);
    holds("Redis refuses, details expire", Bounds { expiry: true, queries: 1, ..bounds });
    holds(
        "Redis refuses, and does not answer a recaller",
        Bounds { redis_refusals: 2, queries: 1, ..bounds },
    );
}

#[test]
fn a_redis_that_fails_over() {
    holds("failover", Bounds { failovers: 1, queries: 2, ..calm() });
}

#[test]
fn a_client_of_changes() {
    let two = Bounds { messages: 2, recalls: 1, client: true, ..calm() };
    holds("changes", Bounds { crashes: 1, ..two });
    holds(
        "changes and pushes",
        Bounds { pushes: true, redis_refusals: 2, kafka_refusals: 1, mysql_refusals: 1, messages: 1, ..two },
    );
}

#[test]
fn a_message_that_becomes_visible_late() {
    let two = Bounds { messages: 2, recalls: 0, slow_sender: true, client: true, ..calm() };
    holds("visible late", Bounds { redis_refusals: 1, reads: 2, ..two });
    holds("visible late, Redis refuses", Bounds { redis_refusing: 1, reads: 2, ..two });
}
