//! Each rule is needed: with it switched off, the checker finds a run that breaks the named promise. The same
//! scope with all rules on breaks nothing.

use hongyan_model::properties::{
    GAPLESS, NEVER_TWICE, NO_BACKLOG, NO_LOSS, RECALL_WINS_END, RECALL_WINS_NOW, STORES_AGREE,
};
use hongyan_model::{Bounds, Protocol, Rules, TombstoneRead};
use stateright::{Checker, HasDiscoveries, Model};

fn broken(rules: Rules, bounds: Bounds, property: &'static str) {
    let checker = Protocol { rules, bounds }
        .checker()
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .spawn_bfs()
        .join();
    let path = checker.discovery(property);
    let found: Vec<_> = checker.discoveries().into_keys().collect();
    assert!(path.is_some(), "\"{property}\" was to break; broken: {found:?}");
    println!("\"{property}\" breaks after {:?}", path.map(stateright::Path::into_actions));
}

fn caught(mutate: impl FnOnce(&mut Rules), bounds: Bounds, property: &'static str) {
    let mut rules = Rules::default();
    Protocol { rules, bounds }.checker().spawn_bfs().join().assert_properties();
    mutate(&mut rules);
    broken(rules, bounds, property);
}

fn calm() -> Bounds {
    Bounds { patient_compensator: true, ..Bounds::default() }
}

#[test]
fn no_third_check() {
    caught(|r| r.third_check = false, calm(), RECALL_WINS_NOW);
}

#[test]
fn no_tombstone() {
    caught(|r| r.tombstone = false, Bounds { redis_losses: 1, kafka_refusals: 1, ..calm() }, RECALL_WINS_END);
}

#[test]
fn tombstones_read_before_the_insert() {
    let bounds = Bounds { redis_losses: 1, kafka_refusals: 1, ..calm() };
    caught(|r| r.tombstone_read = TombstoneRead::BeforeInsert, bounds, RECALL_WINS_END);
}

#[test]
fn tombstones_read_without_a_lock() {
    let bounds = Bounds { redis_losses: 1, kafka_refusals: 1, ..calm() };
    caught(|r| r.tombstone_read = TombstoneRead::PlainAfterInsert, bounds, RECALL_WINS_END);
}

#[test]
fn a_taken_lock_is_acknowledged() {
    caught(|r| r.lock_names_record = false, Bounds { crashes: 1, redis_losses: 1, ..calm() }, NO_LOSS);
}

#[test]
fn pending_details_have_a_ttl() {
    caught(|r| r.pending_never_expires = false, Bounds { kafka_refusals: 1, ..calm() }, NO_LOSS);
}

#[test]
fn the_list_holds_copies() {
    caught(|r| r.list_of_ids = false, calm(), RECALL_WINS_NOW);
}

#[test]
fn no_event_for_the_recall_of_a_pending_message() {
    let bounds = Bounds { redis_losses: 1, ..calm() };
    caught(|r| r.recall_event_when_pending = false, bounds, RECALL_WINS_END);
}

#[test]
fn the_offset_moves_past_a_failed_record() {
    let bounds = Bounds { redis_losses: 1, mysql_refusals: 1, ..calm() };
    caught(|r| r.offset_stops_at_failure = false, bounds, NO_LOSS);
}

#[test]
fn the_compensator_resends_what_is_queued() {
    caught(|r| r.lost_check = false, Bounds::default(), NO_BACKLOG);
}

#[test]
fn no_stub_for_a_missing_detail() {
    let bounds = Bounds { redis_losses: 1, ..calm() };
    caught(|r| r.recall_stub = false, Bounds { queries: 1, ..bounds }, STORES_AGREE);
}

#[test]
fn a_refill_overwrites() {
    caught(|r| r.put_back_nx = false, Bounds { queries: 1, ..calm() }, RECALL_WINS_NOW);
}

#[test]
fn no_heal() {
    caught(|r| r.heal = false, Bounds { messages: 2, recalls: 0, redis_refusals: 1, ..calm() }, GAPLESS);
}

#[test]
fn the_message_id_is_not_unique() {
    caught(|r| r.unique_id = false, Bounds { crashes: 1, ..calm() }, NEVER_TWICE);
}

#[test]
fn a_recall_that_kafka_refuses_writes_no_tombstone() {
    let bounds = Bounds { redis_losses: 1, kafka_refusals: 1, ..calm() };
    caught(|r| r.recall_writes_tombstone = false, bounds, RECALL_WINS_END);
}

// The rules below are not spelt out in the protocol; without them the model found the holes.

#[test]
fn a_pending_entry_is_removed_whoever_wrote_it() {
    let bounds = Bounds { kafka_refusals: 1, mysql_refusals: 1, ..calm() };
    caught(|r| r.guarded_pending_removal = false, bounds, RECALL_WINS_END);
}

#[test]
fn a_recall_enters_the_sorted_set_before_it_marks() {
    let bounds = Bounds { redis_losses: 1, kafka_refusals: 1, mysql_refusals: 1, ..calm() };
    caught(|r| r.enqueue_with_mark = false, bounds, RECALL_WINS_END);
}

#[test]
fn redis_is_not_marked_after_a_tombstone() {
    let bounds = Bounds { redis_losses: 1, kafka_refusals: 1, ..calm() };
    caught(|r| r.mark_after_tombstone = false, bounds, STORES_AGREE);
}

#[test]
fn a_recall_that_neither_redis_nor_kafka_took_is_answered_200() {
    let bounds = Bounds { redis_refusals: 2, kafka_refusals: 1, ..calm() };
    caught(|r| r.away_needs_event = false, bounds, STORES_AGREE);
}

#[test]
fn a_refill_has_no_lease() {
    let bounds = Bounds { messages: 2, recalls: 0, redis_losses: 1, queries: 1, ..calm() };
    caught(|r| r.refill_lease = false, bounds, GAPLESS);
}

#[test]
fn a_late_push_makes_a_list_of_an_old_id() {
    let bounds = Bounds { messages: 2, recalls: 0, redis_refusals: 1, slow_sender: true, ..calm() };
    caught(|r| r.push_floor = false, bounds, GAPLESS);
}

// Two assumptions the promises rest on: without them they do not hold.

#[test]
fn a_recall_accepted_while_redis_is_away_may_show_until_its_event_is_read() {
    let bounds = Bounds { redis_refusals: 2, no_exception_for_redis_away: true, ..calm() };
    broken(Rules::default(), bounds, RECALL_WINS_NOW);
}

#[test]
fn a_recalled_stub_has_to_outlive_whoever_holds_an_older_row() {
    let expires = Bounds { expiry: true, queries: 1, holders_outlive_stubs: true, ..calm() };
    broken(Rules::default(), expires, RECALL_WINS_NOW);
    let lost = Bounds { redis_losses: 1, queries: 1, holders_outlive_stubs: true, ..calm() };
    broken(Rules::default(), lost, RECALL_WINS_NOW);
}
