//! Each rule is needed: with it switched off, the checker finds a run that breaks the named promise. The same
//! scope with all rules on breaks nothing.

use std::collections::HashSet;

use hongyan_model::action::{KafkaAnswer, RedisAnswer};
use hongyan_model::properties::{
    COMPLETE, GAPLESS, NEVER_TWICE, NO_BACKLOG, NO_LOSS, ON_EVERY_PAGE, ONE_NUMBER, RECALL_WINS_END,
    RECALL_WINS_NOW, STORES_AGREE, TRUE_VIEW, UNREAD,
};
use hongyan_model::state::{Phase, QueryPhase, State};
use hongyan_model::{Action, Bounds, LateUnread, Protocol, Rules};
use parking_lot::Mutex;
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

/// The scopes in which all properties were seen to hold with all rules on. Several mutants share a scope.
static SOUND: Mutex<Option<HashSet<Bounds>>> = Mutex::new(None);

fn assert_sound(bounds: Bounds) {
    let mut sound = SOUND.lock();
    let sound = sound.get_or_insert_default();
    if !sound.contains(&bounds) {
        let rules = Rules::default();
        Protocol { rules, bounds }.checker().threads(2).spawn_bfs().join().assert_properties();
        sound.insert(bounds);
    }
}

fn caught(mutate: impl FnOnce(&mut Rules), bounds: Bounds, property: &'static str) {
    assert_sound(bounds);
    let mut rules = Rules::default();
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
    let bounds = Bounds { redis_losses: 1, mysql_refusals: 1, ..calm() };
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
    let bounds = Bounds { redis_losses: 1, queries: 1, ..calm() };
    caught(|r| r.recall_stub = false, bounds, STORES_AGREE);
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

#[test]
fn a_pending_entry_is_removed_even_if_a_recall_wrote_it() {
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

// The conversation's row orders its changes.

#[test]
fn the_conversation_is_not_locked() {
    let bounds = Bounds { redis_losses: 1, kafka_refusals: 1, ..calm() };
    caught(|r| r.conversation_locked = false, bounds, RECALL_WINS_END);
}

#[test]
fn numbers_of_a_conversation_that_is_not_locked_are_answered_too_early() {
    let bounds = Bounds { messages: 2, client: true, ..calm() };
    caught(|r| r.conversation_locked = false, bounds, COMPLETE);
}

#[test]
fn numbers_are_taken_before_the_lock() {
    let bounds = Bounds { messages: 2, client: true, ..calm() };
    caught(|r| r.number_under_lock = false, bounds, COMPLETE);
    caught(|r| r.number_under_lock = false, bounds, TRUE_VIEW);
}

#[test]
fn a_redelivered_record_takes_a_second_number() {
    caught(|r| r.number_kept = false, Bounds { crashes: 1, ..calm() }, ONE_NUMBER);
}

#[test]
fn changes_are_read_beyond_the_last_seq_that_was_read_first() {
    let bounds = Bounds { messages: 2, client: true, ..calm() };
    caught(|r| r.changes_bounded = false, bounds, TRUE_VIEW);
}

#[test]
fn a_recall_is_pushed_before_any_store_has_it() {
    let failures = Bounds { redis_refusals: 2, kafka_refusals: 1, mysql_refusals: 1, ..calm() };
    caught(|r| r.push_when_kept = false, Bounds { client: true, pushes: true, ..failures }, TRUE_VIEW);
}

// Redis refuses writes.

#[test]
fn a_query_carries_no_write() {
    caught(|r| r.query_writes = false, Bounds { failovers: 1, queries: 1, ..calm() }, RECALL_WINS_NOW);
}

fn refusing() -> Bounds {
    Bounds { redis_refusing: 1, queries: 1, ..calm() }
}

#[test]
fn a_recall_past_redis_does_not_raise_the_generation() {
    caught(|r| r.generation_raised = false, refusing(), RECALL_WINS_NOW);
}

#[test]
fn a_recall_past_redis_does_not_wait() {
    // The first query learns the generation of before.
    caught(|r| r.generation_waited = false, Bounds { queries: 2, ..refusing() }, RECALL_WINS_NOW);
}

#[test]
fn details_of_an_older_generation_are_believed() {
    caught(|r| r.old_epoch_checked = false, refusing(), RECALL_WINS_NOW);
}

#[test]
fn a_detail_that_is_put_back_belongs_to_the_present_epoch() {
    let bounds = Bounds { redis_refusals: 3, ..calm() };
    caught(|r| r.epoch_of_the_send = false, bounds, RECALL_WINS_NOW);
}

// Pages and lists.

#[test]
fn no_index_of_what_is_pending() {
    let bounds = Bounds { messages: 2, recalls: 0, queries: 1, list_evictions: 1, ..calm() };
    caught(|r| r.pending_index = false, bounds, ON_EVERY_PAGE);
}

#[test]
fn the_index_is_read_after_the_list() {
    let bounds =
        Bounds { messages: 2, recalls: 0, queries: 1, list_evictions: 1, slow_sender: true, ..calm() };
    caught(|r| r.index_before_list = false, bounds, ON_EVERY_PAGE);
}

#[test]
fn a_refill_is_not_checked() {
    let bounds = Bounds { messages: 2, recalls: 0, redis_losses: 1, queries: 1, ..calm() };
    caught(|r| r.refill_checked = false, bounds, GAPLESS);
}

#[test]
fn an_old_message_begins_a_list() {
    let bounds = Bounds { messages: 2, recalls: 0, redis_refusals: 1, slow_sender: true, ..calm() };
    caught(|r| r.young_begins_list = false, bounds, GAPLESS);
}

// Visible late.

fn late() -> Bounds {
    Bounds { messages: 2, recalls: 0, slow_sender: true, reads: 1, ..calm() }
}

#[test]
fn the_position_alone_says_what_is_read() {
    caught(|r| r.late_unread = LateUnread::Position, Bounds { redis_refusals: 1, ..late() }, UNREAD);
}

#[test]
fn a_late_message_that_redis_knows_counts_as_read() {
    caught(|r| r.late_unread = LateUnread::Unknown, late(), UNREAD);
}

// Two assumptions the promises rest on: without them they do not hold.

#[test]
fn a_recalled_stub_has_to_outlive_everybody_who_holds_an_older_row() {
    let expires = Bounds { expiry: true, queries: 1, holders_outlive_stubs: true, ..calm() };
    broken(Rules::default(), expires, RECALL_WINS_NOW);
    let lost = Bounds { redis_losses: 1, queries: 1, holders_outlive_stubs: true, ..calm() };
    broken(Rules::default(), lost, RECALL_WINS_NOW);
}

/// Takes one step after the other; a consumer's step is that of its phase.
fn run(protocol: &Protocol, steps: &[Action]) -> State {
    let mut state = protocol.init_states().remove(0);
    for &step in steps {
        let mut possible = Vec::new();
        protocol.actions(&state, &mut possible);
        assert!(possible.contains(&step), "{step:?} is not possible; possible are {possible:?}");
        let next = protocol.next_state(&state, step);
        assert!(next.is_some(), "{step:?} has to wait");
        state = next.unwrap_or(state);
    }
    state
}

/// The consumer has committed the row of a message that Kafka alone accepted, and sleeps. The recall past Redis is
/// answered, a page makes the list anew, and the consumer then puts the message back.
#[test]
fn the_wait_of_a_recall_past_redis_has_to_outlast_everybody_who_holds_an_older_row() {
    let persist = [Phase::Checked, Phase::ToPersist, Phase::Inserted].map(|p| Action::ConsumerStep(0, p));
    let mark = [Phase::ToMark, Phase::ToHeal].map(|p| Action::ConsumerStep(0, p));
    let steps = [
        &[Action::SendToRedis(0, RedisAnswer::Ok), Action::SendToKafka(0, KafkaAnswer::Ok)][..],
        &[Action::ConsumerReads(0, 1)],
        &persist,
        &mark,
        &[Action::ConsumerStep(0, Phase::ToCommit)],
        &[Action::SendToRedis(1, RedisAnswer::Refused), Action::SendToKafka(1, KafkaAnswer::Ok)],
        &[Action::ConsumerReads(0, 1)],
        &persist,
        &[Action::RecallFindsRedisAway(1), Action::RecallProduces(1, KafkaAnswer::Ok)],
        &[Action::RecallOpensTransaction(1), Action::RecallCommits(1)],
        &[Action::RecallRaisesGeneration(1), Action::RecallHasWaited(1), Action::QueryBegins(0)],
        &[QueryPhase::ReadRedis, QueryPhase::ReadRows, QueryPhase::Answered, QueryPhase::Refilled]
            .map(Action::QueryStep),
        &mark,
    ]
    .concat();
    let bounds = Bounds {
        messages: 2,
        recalls: 2,
        redis_refusals: 2,
        queries: 1,
        holders_outlive_stubs: true,
        ..calm()
    };
    let protocol = Protocol { rules: Rules::default(), bounds };
    let state = run(&protocol, &steps);
    let holds = (protocol.property(RECALL_WINS_NOW).condition)(&protocol, &state);
    assert!(!holds, "a page that begins now shows the message");
}
