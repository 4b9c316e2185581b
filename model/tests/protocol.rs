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
    assert!(broken.is_empty(), "{scope}: does not hold: {broken:#?}");
}

#[test]
fn two_messages_two_recalls_a_crash_and_redis_losing_all() {
    holds(
        "two messages",
        Bounds {
            messages: 2,
            recalls: 2,
            batch: 2,
            crashes: 1,
            redis_losses: 1,
            patient_compensator: true,
            ..Bounds::default()
        },
    );
}

#[test]
fn a_zombie_a_crash_a_loss_and_a_late_record() {
    holds(
        "zombie",
        Bounds {
            crashes: 1,
            zombies: 1,
            redis_losses: 1,
            kafka_refusals: 1,
            patient_compensator: true,
            ..Bounds::default()
        },
    );
}

#[test]
fn a_query_that_refills_while_a_zombie_works_and_details_expire() {
    holds(
        "query and zombie",
        Bounds {
            zombies: 1,
            redis_losses: 1,
            queries: 1,
            expiry: true,
            patient_compensator: true,
            ..Bounds::default()
        },
    );
}

#[test]
fn a_query_while_every_store_fails_once() {
    holds(
        "query and refusals",
        Bounds {
            redis_losses: 1,
            kafka_refusals: 1,
            mysql_refusals: 1,
            queries: 1,
            patient_compensator: true,
            ..Bounds::default()
        },
    );
}

#[test]
fn a_compensator_that_runs_at_any_moment() {
    holds(
        "eager compensator",
        Bounds { crashes: 1, redis_losses: 1, kafka_refusals: 1, mysql_refusals: 1, ..Bounds::default() },
    );
}

#[test]
fn every_store_refuses_and_a_recaller_dies() {
    holds(
        "refusals and a dead recaller",
        Bounds {
            redis_losses: 1,
            redis_refusals: 2,
            kafka_refusals: 1,
            mysql_refusals: 1,
            recaller_deaths: 1,
            ..Bounds::default()
        },
    );
}

#[test]
fn a_list_that_is_evicted_and_refilled() {
    let bounds = Bounds {
        messages: 2,
        redis_refusals: 1,
        queries: 1,
        list_evictions: 1,
        patient_compensator: true,
        ..Bounds::default()
    };
    holds("list", bounds);
    holds("list and an older send that comes late", Bounds { recalls: 0, slow_sender: true, ..bounds });
}
