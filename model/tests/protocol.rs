//! The protocol keeps its promises in every order of steps within these scopes.

use std::time::Instant;

use hongyan_model::{Bounds, Protocol, Rules};
use parking_lot::Mutex;
use stateright::{Checker, Model};

// One exploration at a time: each takes two cores and up to a gigabyte.
static TURN: Mutex<()> = Mutex::new(());

fn holds(scope: &str, bounds: Bounds) {
    let _turn = TURN.lock();
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
fn two_messages_both_recalled_and_redis_losing_all() {
    let two = Bounds { messages: 2, recalls: 2, batch: 2, ..calm() };
    holds("two messages, both recalled, loss", Bounds { redis_losses: 1, ..two });
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
    let late = Bounds { recalls: 0, slow_sender: true, queries: 2, ..bounds };
    holds("list and an older send that comes late", late);
}

#[test]
fn a_client_of_changes() {
    let two = Bounds { messages: 2, batch: 2, client: true, ..calm() };
    holds("changes of two messages, both recalled", Bounds { recalls: 2, ..two });
    holds("changes, crash and loss", Bounds { crashes: 1, redis_losses: 1, ..two });
}

#[test]
fn a_client_of_changes_that_gets_pushes() {
    let failures = Bounds { redis_refusals: 2, kafka_refusals: 1, mysql_refusals: 1, ..calm() };
    holds("changes and pushes", Bounds { client: true, pushes: true, ..failures });
}

#[test]
fn a_redis_that_refuses_writes() {
    let bounds = Bounds { redis_refusing: 1, queries: 1, ..calm() };
    holds("Redis refuses, two queries", Bounds { queries: 2, ..bounds });
    holds("Redis refuses, details expire", Bounds { expiry: true, ..bounds });
    holds("Redis refuses, MySQL fails", Bounds { mysql_refusals: 1, ..bounds });
    holds("Redis refuses, crash", Bounds { crashes: 1, ..bounds });
}

#[test]
fn a_redis_that_fails_over() {
    holds("failover, MySQL fails", Bounds { failovers: 1, queries: 1, mysql_refusals: 1, ..calm() });
    holds("failover, two queries", Bounds { failovers: 1, queries: 2, ..calm() });
}

#[test]
fn a_message_that_becomes_visible_late() {
    let bounds = Bounds { messages: 2, recalls: 0, slow_sender: true, client: true, reads: 2, ..calm() };
    holds(
        "visible late, crash and loss",
        Bounds { redis_refusals: 1, crashes: 1, redis_losses: 1, ..bounds },
    );
    holds("visible late, Redis refuses", Bounds { redis_refusing: 1, ..bounds });
    holds("visible late, recalled", Bounds { recalls: 1, redis_refusals: 1, reads: 1, ..bounds });
}
