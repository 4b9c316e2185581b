//! Decisions made in Redis: each script with its worked example and at its edges, the lease of worker numbers, and
//! the lists after Redis has lost its data.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

mod hanging;
mod shared_reads;
mod unpersisted;

use std::collections::HashSet;
use std::time::Duration;

use hongyan::cache::Cache;
use hongyan::cache::detail::Detail;
use hongyan::cache::page::Part;
use hongyan::cache::persist::{Check, PersistMark};
use hongyan::cache::recall::RecallMark;
use hongyan::cache::scripts;
use hongyan::cache::settle::Pending;
use hongyan::clock::Clock;
use hongyan::event::Recall;
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::ids::IdSource;
use hongyan::message::{ClientMessageId, Message, MessageType};
use hongyan_stack::{ServerKind, Stack, StackOptions};
use hongyan_testkit::TestApp;
use hongyan_testkit::app::eventually;
use hongyan_testkit::redis::RedisConnection;
use redis::AsyncCommands as _;

const THIRTY_MINUTES_MS: i64 = 30 * 60 * 1_000;

fn id(value: i64) -> MessageId {
    MessageId::new(value).unwrap()
}

fn message(value: i64) -> Message {
    let (from, to) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
    Message::new(id(value), from, to, MessageType::TEXT, format!("message {value}"), None)
}

fn recall_of(message: &Message, recall_time: i64) -> Recall {
    Recall { message_id: message.id, recall_time, conversation_id: message.conversation() }
}

fn conversation() -> ConversationId {
    message(1).conversation()
}

/// Makes Redis forget the scripts, as after a restart or on another node.
async fn forget_scripts(redis: &mut RedisConnection) {
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(redis).await.unwrap();
}

async fn raw(redis: &mut RedisConnection, message: &Message) -> Option<String> {
    redis.get(format!("msg:detail:{}", message.id)).await.unwrap()
}

async fn ttl(redis: &mut RedisConnection, message: &Message) -> i64 {
    redis.pttl(format!("msg:detail:{}", message.id)).await.unwrap()
}

async fn list(cache: &Cache) -> Vec<i64> {
    let recent = cache.recent(message(1).from, conversation(), Part::Before(None), 10_000).await.unwrap();
    recent.listed.into_iter().map(MessageId::get).collect()
}

/// Accepts a message with a new id, as a send does.
async fn accept(cache: &Cache, message: &Message) {
    cache.accept(message, message.send_time).await.unwrap();
}

/// Accepts a message whose send was held up.
async fn accept_late(cache: &Cache, message: &Message) {
    cache.accept(message, message.send_time + 2_000).await.unwrap();
}

async fn mark(cache: &Cache, message: &Message) -> PersistMark {
    cache.mark_persisted(&[message]).await.unwrap()[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowance_holds_two_seconds_and_fills_up_evenly() {
    let (test, cache, mut redis) = prepared().await;
    let (user, other) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
    forget_scripts(&mut redis).await;

    // One in 10 minutes: nothing is gained while the test runs.
    let arguments = || vec!["600000000".to_owned(), "2".to_owned()];
    let take = async || {
        let step = scripts::TAKE.on("msg:rate:9".to_owned(), arguments());
        cache.redis().run::<i64>("test", step).await.unwrap()
    };
    assert_eq!((take().await, take().await), (0, 0));
    let wait_ms = take().await;
    assert!((1..=600_000).contains(&wait_ms) && wait_ms > 500_000, "{wait_ms}");
    let ttl: i64 = redis.pttl("msg:rate:9").await.unwrap();
    assert!(ttl > 1_100_000 && ttl <= 1_200_000, "{ttl}");
    // A value that is no time of ours is a full allowance.
    for odd in ["nonsense", "99999999999999999"] {
        redis.set::<_, _, ()>("msg:rate:9", odd).await.unwrap();
        assert_eq!(take().await, 0, "{odd}");
    }

    for _ in 0..2 {
        assert_eq!(cache.take_send(user, 1).await.unwrap(), None);
    }
    let wait = cache.take_send(user, 1).await.unwrap();
    // A second may have passed meanwhile on a slow machine.
    assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(1)), "{wait:?}");
    assert_eq!(cache.take_send(other, 1).await.unwrap(), None);
    for _ in 0..1_000 {
        assert_eq!(cache.take_send(user, 1_000_000).await.unwrap(), None);
    }
    test.stop().await;
}

/// An application for tests that only look at Redis.
async fn prepared() -> (TestApp, Cache, RedisConnection) {
    let test = TestApp::builder().without_trigger().start().await;
    let (cache, redis) = (test.app().cache.clone(), test.redis().await);
    (test, cache, redis)
}

#[test]
fn every_script_says_what_it_takes_answers_and_does() {
    for (name, script) in scripts::ALL {
        for heading in ["-- KEYS[1]", "-- ARGV", "-- Answers"] {
            assert!(script.source().contains(heading), "{name} lacks {heading}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mark_recalled_empties_a_detail_once_and_leaves_a_stub_where_there_is_none() {
    let (test, cache, mut redis) = prepared().await;
    let pending = message(7);
    accept(&cache, &pending).await;
    let before = r#"{"status":1,"persistStatus":"PENDING","recallTime":null,"id":7,"conversationId":"1_2","fromUserId":1,"toId":2,"msgType":1,"chatType":1,"sendTime":1704067200000,"content":"message 7"}"#;
    assert_eq!(raw(&mut redis, &pending).await.as_deref(), Some(before));
    for (time, answer) in
        [(99, RecallMark::Recalled), (100, RecallMark::Already(99)), (98, RecallMark::Already(99))]
    {
        forget_scripts(&mut redis).await;
        assert_eq!(cache.mark_recalled(&recall_of(&pending, time), pending.to).await.unwrap(), answer);
        let after = r#"{"status":0,"persistStatus":"PENDING","recallTime":99,"id":7,"conversationId":"1_2","fromUserId":1,"toId":2,"msgType":1,"chatType":1,"sendTime":1704067200000,"content":""}"#;
        assert_eq!(raw(&mut redis, &pending).await.as_deref(), Some(after));
        assert_eq!(ttl(&mut redis, &pending).await, -1, "it must not expire before MySQL has the recall");
    }

    // A detail with a TTL loses it with the recall.
    let persisted = message(8);
    accept(&cache, &persisted).await;
    assert_eq!(mark(&cache, &persisted).await, PersistMark::Done);
    assert!(ttl(&mut redis, &persisted).await > 0);
    let answer = cache.mark_recalled(&recall_of(&persisted, 99), persisted.to).await.unwrap();
    assert_eq!((answer, ttl(&mut redis, &persisted).await), (RecallMark::Recalled, -1));

    let missing = message(9);
    let answer = cache.mark_recalled(&recall_of(&missing, 99), missing.to).await.unwrap();
    assert_eq!((answer, ttl(&mut redis, &missing).await), (RecallMark::Missing, -1));
    let Detail::Recalled(stub) = cache.detail(missing.id).await.unwrap() else { panic!("there is a stub") };
    assert_eq!((stub.recall_time, stub.conversation, stub.message), (99, conversation(), None));
    cache.restore(std::slice::from_ref(&missing)).await.unwrap();
    accept(&cache, &missing).await;
    assert!(cache.detail(missing.id).await.unwrap().is_recalled(), "nothing brings the content back");
    assert_eq!(
        cache.mark_recalled(&recall_of(&missing, 100), missing.to).await.unwrap(),
        RecallMark::Already(99)
    );

    // A detail that is no message is removed, so the recall leaves its stub.
    redis.set::<_, _, ()>("msg:detail:10", r#"{"id":10}"#).await.unwrap();
    assert_eq!(
        cache.mark_recalled(&recall_of(&message(10), 99), missing.to).await.unwrap(),
        RecallMark::Missing
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mark_persisted_says_missing_recalled_or_done() {
    let (test, cache, mut redis) = prepared().await;
    let (kept, recalled, missing) = (message(7), message(8), message(9));
    for message in [&kept, &recalled] {
        accept(&cache, message).await;
        assert_eq!(ttl(&mut redis, message).await, -1, "pending never expires");
    }
    cache.mark_recalled(&recall_of(&recalled, 99), recalled.to).await.unwrap();
    for _ in 0..2 {
        forget_scripts(&mut redis).await;
        let marks = cache.mark_persisted(&[&kept, &recalled, &missing]).await.unwrap();
        assert_eq!(marks, [PersistMark::Done, PersistMark::Recalled(99), PersistMark::Missing]);
        let persisted = r#"{"status":1,"persistStatus":"PERSISTED","recallTime":null,"id":7,"conversationId":"1_2","fromUserId":1,"toId":2,"msgType":1,"chatType":1,"sendTime":1704067200000,"content":"message 7"}"#;
        assert_eq!(raw(&mut redis, &kept).await.as_deref(), Some(persisted));
        let left = ttl(&mut redis, &kept).await;
        assert!((THIRTY_MINUTES_MS - 60_000..=THIRTY_MINUTES_MS).contains(&left), "{left}");
        assert_eq!(ttl(&mut redis, &recalled).await, -1);
        assert_eq!(raw(&mut redis, &missing).await, None);
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirm_recalled_lets_a_recalled_detail_expire_and_no_other() {
    let (test, cache, mut redis) = prepared().await;
    let (known, unknown, told_first_here) = (message(7), message(8), message(9));
    accept(&cache, &known).await;
    accept(&cache, &told_first_here).await;
    cache.mark_recalled(&recall_of(&known, 99), known.to).await.unwrap();
    let recalls = [recall_of(&known, 99), recall_of(&unknown, 98), recall_of(&told_first_here, 97)];
    for _ in 0..2 {
        forget_scripts(&mut redis).await;
        cache.confirm_recalled(&recalls).await.unwrap();
        for (message, time) in [(&known, 99), (&unknown, 98), (&told_first_here, 97)] {
            let head = format!(
                r#"{{"status":0,"persistStatus":"PERSISTED","recallTime":{time},"id":{},"#,
                message.id
            );
            let detail = raw(&mut redis, message).await.unwrap();
            assert!(detail.starts_with(&head) && detail.ends_with(r#","content":""}"#), "{detail}");
            assert!(ttl(&mut redis, message).await > 0);
        }
    }
    assert_eq!(cache.pending_count().await.unwrap(), 0);
    let unread = format!("msg:unread:{}", known.to);
    assert_eq!(redis.scard::<_, u64>(unread).await.unwrap(), 0);
    assert_eq!(cache.unread_pending(known.to).await.unwrap(), []);
    test.stop().await;
}

/// Scores that a script must neither round nor take for the end.
#[tokio::test(flavor = "multi_thread")]
async fn scripts_neither_round_ids_nor_stumble_over_content() {
    let (test, cache, mut redis) = prepared().await;
    let contents = [
        r#"","content":""#,
        r#"a,"content":"b"#,
        r#"\",\"content\":\""#,
        r#"}{"status":0,"persistStatus":"PENDING","recallTime":1,"#,
        "%s %d %% %1 ^$()[]*+-?. \u{0}\n\\",
        "🦢鸿雁",
        "",
    ];
    let mut sent = Vec::new();
    for (number, content) in (0..).zip(contents) {
        let client_msg_id = ClientMessageId::try_from(r#"x","content":"y\"#.to_owned()).unwrap();
        let (from, to) = (UserId::new(i64::MAX).unwrap(), UserId::new(9_007_199_254_740_993).unwrap());
        let id = id(9_223_372_036_854_775_001 + 2 * number);
        let kept = Message::new(id, from, to, MessageType::TEXT, content.to_owned(), Some(client_msg_id));
        forget_scripts(&mut redis).await;
        accept(&cache, &kept).await;
        assert_eq!(mark(&cache, &kept).await, PersistMark::Done);
        let Detail::Message(found) = cache.detail(id).await.unwrap() else { panic!("{content:?} is gone") };
        assert_eq!(found.content, content);
        assert!(found.is_same_message(&kept) && found.client_msg_id == kept.client_msg_id, "{found:?}");
        sent.push(kept);
    }
    let key = "msg:conv:9007199254740993_9223372036854775807";
    let ids: Vec<i64> = redis.lrange(key, 0, -1).await.unwrap();
    let rising: Vec<i64> = (0..7).rev().map(|number| 9_223_372_036_854_775_001 + 2 * number).collect();
    assert_eq!(ids, rising, "a double cannot tell these apart");

    for kept in sent {
        let (id, from, to) = (kept.id, kept.from, kept.to);
        cache.mark_recalled(&recall_of(&kept, 1_795_536_000_001), to).await.unwrap();
        cache.confirm_recalled(&[recall_of(&kept, 1_795_536_000_001)]).await.unwrap();
        let Detail::Recalled(found) = cache.detail(id).await.unwrap() else { panic!("{id} is not recalled") };
        let found = found.message.unwrap();
        assert_eq!((found.id, found.from, found.to), (id, from, to));
        assert_eq!((found.recall_time, found.content.as_str()), (Some(1_795_536_000_001), ""));
        assert_eq!(found.client_msg_id, kept.client_msg_id);
    }
    let ids: Vec<i64> = redis.lrange(key, 0, -1).await.unwrap();
    assert_eq!(
        ids,
        rising[6..],
        "recalled ids leave the list, except the oldest, by which the list is known"
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_put_into_its_place_in_the_list_or_stays_out() {
    let (test, cache, mut redis) = prepared().await;
    accept_late(&cache, &message(70)).await;
    assert!(list(&cache).await.is_empty(), "one that was held up begins no list");
    mark(&cache, &message(70)).await;
    assert!(list(&cache).await.is_empty(), "nor does the consumer");
    for value in [50, 70, 90] {
        accept(&cache, &message(value)).await;
    }
    forget_scripts(&mut redis).await;
    for value in [60, 60, 90, 50] {
        mark(&cache, &message(value)).await;
        assert_eq!(list(&cache).await, [90, 70, 60, 50]);
    }
    mark(&cache, &message(40)).await;
    assert_eq!(list(&cache).await, [90, 70, 60, 50], "older than all: it has no place");
    // As a text 100 is less than 90; as a number it is not.
    accept(&cache, &message(100)).await;
    accept(&cache, &message(95)).await;
    assert_eq!(list(&cache).await, [100, 95, 90, 70, 60, 50]);
    let left: i64 = redis.pttl("msg:conv:1_2").await.unwrap();
    assert!((THIRTY_MINUTES_MS - 60_000..=THIRTY_MINUTES_MS).contains(&left), "{left}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_far_down_the_list_is_found_and_the_list_keeps_its_size() {
    let test = TestApp::builder().without_trigger().set("IM_CONV_CACHE_SIZE", "200").start().await;
    let cache = &test.app().cache;
    for number in 1..=200 {
        accept(cache, &message(number * 10)).await;
    }
    let mut expected: Vec<i64> = (1..=200).rev().map(|number| number * 10).collect();
    assert_eq!(list(cache).await, expected);
    // Beyond the newest few dozen ids. One id drops out at the end.
    mark(cache, &message(505)).await;
    expected.insert(150, 505);
    expected.truncate(200);
    assert_eq!(list(cache).await, expected);
    mark(cache, &message(505)).await;
    accept(cache, &message(3_000)).await;
    expected.insert(0, 3_000);
    expected.truncate(200);
    assert_eq!(list(cache).await, expected);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_ids_are_appended_only_behind_the_end_that_was_seen() {
    let test = TestApp::builder().without_trigger().set("IM_CONV_CACHE_SIZE", "6").start().await;
    let (cache, mut redis) = (&test.app().cache, test.redis().await);
    for value in [70, 90] {
        accept(cache, &message(value)).await;
    }
    forget_scripts(&mut redis).await;
    let older = [id(50), id(30)];
    assert!(!cache.append_to_list(conversation(), None, &older).await.unwrap(), "there is a list by now");
    assert!(!cache.append_to_list(conversation(), Some(id(90)), &older).await.unwrap(), "its end is another");
    assert_eq!(list(cache).await, [90, 70]);
    assert!(cache.append_to_list(conversation(), Some(id(70)), &older).await.unwrap());
    assert_eq!(list(cache).await, [90, 70, 50, 30]);
    assert!(!cache.append_to_list(conversation(), Some(id(70)), &older).await.unwrap(), "twice");
    let left: i64 = redis.pttl("msg:conv:1_2").await.unwrap();
    assert!((1..=10_000).contains(&left), "until it is checked: {left}");
    let epoch = cache.epoch().await.unwrap();
    cache.mark_gapless(conversation(), Some(id(30)), &epoch).await.unwrap();
    assert!(redis.pttl::<_, i64>("msg:conv:1_2").await.unwrap() > 10_000);
    assert!(cache.append_to_list(conversation(), Some(id(30)), &[id(20), id(10), id(5)]).await.unwrap());
    assert_eq!(list(cache).await, [90, 70, 50, 30, 20, 10], "six at most");
    cache.drop_list(conversation()).await.unwrap();
    assert!(cache.append_to_list(conversation(), None, &older).await.unwrap());
    assert_eq!(list(cache).await, [50, 30]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_takes_off_what_is_still_the_same_entry() {
    let (test, cache, mut redis) = prepared().await;
    let (sent, recalled) = (message(7), message(8));
    for message in [&sent, &recalled] {
        accept(&cache, message).await;
        accept(&cache, message).await;
    }
    cache.mark_recalled(&recall_of(&recalled, recalled.send_time), recalled.to).await.unwrap();
    assert_eq!(cache.pending_count().await.unwrap(), 2);
    for _ in 0..2 {
        forget_scripts(&mut redis).await;
        let entries = [&sent, &recalled].map(|message| (message.conversation(), Pending::sent(message)));
        cache.settle(entries).await.unwrap();
        assert_eq!(cache.pending_count().await.unwrap(), 1, "the recall waits for its own confirmation");
    }
    let partition = conversation().partition(test.config.kafka.partitions);
    let due = cache.pending_until(partition, recalled.send_time + 1, 10).await.unwrap();
    assert_eq!(due.iter().map(|entry| entry.id).collect::<Vec<_>>(), [recalled.id]);
    assert_eq!(cache.pending_until(partition, recalled.send_time, 10).await.unwrap(), []);
    cache.settle_in(partition, due[0]).await.unwrap();
    assert_eq!(cache.pending_count().await.unwrap(), 0);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_needs_no_lock() {
    let (test, cache, mut redis) = prepared().await;
    let kept = message(7);
    accept(&cache, &kept).await;
    let another = vec![(kept.id, kept.to, "t/0/9".to_owned())];
    assert!(matches!(cache.lock_and_check(&another).await.unwrap()[..], [Check::Clear { .. }]));

    assert_eq!(mark(&cache, &kept).await, PersistMark::Done);

    assert!(!redis.exists::<_, bool>("msg:lock:7").await.unwrap());
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marking_puts_an_id_into_its_place_wherever_it_is_missing() {
    let (test, cache, mut redis) = prepared().await;
    let ids = async |redis: &mut RedisConnection| -> Vec<i64> {
        redis.lrange("msg:conv:1_2", 0, -1).await.unwrap()
    };
    // The list is longer than the part that the script reads first.
    for id in 100..180 {
        accept(&cache, &message(id)).await;
    }
    let whole = ids(&mut redis).await;
    assert_eq!(whole, (100..180).rev().collect::<Vec<_>>());

    for missing in [179, 140, 101] {
        let _: i64 = redis.lrem("msg:conv:1_2", 1, missing).await.unwrap();
        assert_eq!(mark(&cache, &message(missing)).await, PersistMark::Done);
        assert_eq!(ids(&mut redis).await, whole, "{missing}");
    }
    // An id that is in the list, even below the part read first, changes nothing.
    for there in [179, 101] {
        mark(&cache, &message(there)).await;
        assert_eq!(ids(&mut redis).await, whole, "{there}");
    }
    // An empty list is not begun, and an id older than the whole list has no place.
    let _: i64 = redis.del("msg:conv:1_2").await.unwrap();
    mark(&cache, &message(150)).await;
    assert_eq!(ids(&mut redis).await, Vec::<i64>::new());
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_its_holders() {
    let (test, cache, mut redis) = prepared().await;
    let locked = |holder: &str| vec![(id(7), holder.to_owned())];
    let record = |holder: &str| vec![(id(7), UserId::new(2).unwrap(), holder.to_owned())];
    let clear = Check::Clear { was_shown: false, is_unread: false };
    for (holder, found) in [("a", clear), ("a", clear), ("b", Check::Taken)] {
        forget_scripts(&mut redis).await;
        assert_eq!(cache.lock_and_check(&record(holder)).await.unwrap(), [found], "{holder}");
    }
    let left: i64 = redis.pttl("msg:lock:7").await.unwrap();
    assert!((1..=10_000).contains(&left), "{left}");
    forget_scripts(&mut redis).await;
    cache.unlock(&locked("b")).await.unwrap();
    assert_eq!(cache.lock_and_check(&record("b")).await.unwrap(), [Check::Taken]);
    cache.unlock(&locked("a")).await.unwrap();
    assert_eq!(cache.lock_and_check(&record("b")).await.unwrap(), [clear]);

    assert!(cache.begin_compensation("x", 50_000).await.unwrap());
    assert!(!cache.begin_compensation("y", 50_000).await.unwrap());
    cache.end_compensation("y").await.unwrap();
    assert!(!cache.begin_compensation("y", 50_000).await.unwrap());
    cache.end_compensation("x").await.unwrap();
    assert!(cache.begin_compensation("y", 1).await.unwrap());
    let over = async || cache.begin_compensation("x", 50_000).await.unwrap();
    eventually("an old lease is taken over", Duration::from_secs(5), over).await;
    assert_eq!(redis.pttl::<_, i64>("msg:compensator").await.unwrap(), -1, "what has a TTL may be evicted");
    test.stop().await;
}

/// How long a lease lasts by the clock of Redis, which is the machine's.
async fn lease_left_ms(redis: &mut RedisConnection, key: &str) -> i64 {
    let lease: String = redis.get(key).await.unwrap();
    lease.rsplit_once(' ').unwrap().1.parse::<i64>().unwrap() - Clock::system().now_ms()
}

fn worker_of(id: MessageId) -> i64 {
    id.get() >> 9 & 8_191
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_sources_share_a_worker_number() {
    let (test, cache, mut redis) = prepared().await;
    let sources: Vec<IdSource> =
        (0..300).map(|_| IdSource::new(cache.clone(), test.clock(), Duration::from_mins(10))).collect();
    let first = futures_util::future::join_all(sources.iter().map(IdSource::next)).await;
    let workers: HashSet<i64> = first.into_iter().map(|id| worker_of(id.unwrap())).collect();
    assert_eq!(workers.len(), 300);
    assert_eq!(redis.keys::<_, Vec<String>>("msg:worker:*").await.unwrap().len(), 300);

    // A number given back on a stop cannot be taken for a minute, and then is free.
    let worker = worker_of(sources[0].next().await.unwrap());
    sources[0].give_back().await.unwrap();
    let key = format!("msg:worker:{worker}");
    let left = lease_left_ms(&mut redis, &key).await;
    assert!((1..=60_000).contains(&left), "{left}");
    let key = format!("msg:worker:{}", worker_of(sources[1].next().await.unwrap()));
    let left = lease_left_ms(&mut redis, &key).await;
    assert!((600_000..=660_000).contains(&left), "{left}");
    // Redis may evict a key with a TTL. Two processes would then make the same ids.
    assert_eq!(redis.pttl::<_, i64>(&key).await.unwrap(), -1);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_frozen_past_its_lease_takes_a_new_number_and_its_ids_rise() {
    let (test, cache, mut redis) = prepared().await;
    let source = IdSource::new(cache, test.clock(), Duration::from_mins(10));
    let before = source.next().await.unwrap();
    let key = format!("msg:worker:{}", worker_of(before));
    // Half-way the lease is renewed, and the number stays.
    let lease: String = redis.get(&key).await.unwrap();
    let holder = lease.split(' ').next().unwrap();
    redis.set::<_, _, ()>(&key, format!("{holder} {}", test.clock().now_ms() + 100_000)).await.unwrap();
    test.pass_ms(6 * 60_000);
    let renewed = source.next().await.unwrap();
    assert_eq!(worker_of(renewed), worker_of(before));
    assert!(lease_left_ms(&mut redis, &key).await > 600_000);

    // The process is frozen for longer than the lease, and another process gets the number.
    test.pass_ms(11 * 60_000);
    redis.set::<_, _, ()>(&key, "somebody else").await.unwrap();
    let after = source.next().await.unwrap();
    assert_ne!(worker_of(after), worker_of(before));
    assert!(before < renewed && renewed < after);
    assert_eq!(redis.get::<_, String>(&key).await.unwrap(), "somebody else");

    // The clock steps back an hour: ids go on rising, even with another number.
    test.pass_ms(-3_600_000);
    let mut last = after;
    for _ in 0..2_000 {
        let id = source.next().await.unwrap();
        assert!(id > last);
        last = id;
    }
    source.give_back().await.unwrap();
    assert!(source.next().await.unwrap() > last);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_sets_go_when_redis_is_another_one_and_are_whole_again() {
    let stack = Stack::start(StackOptions::temporary()).await.unwrap();
    let test = TestApp::builder().set("REDIS_TIMEOUT_MS", "500").start_on(&stack).await;
    let (alice, bob) = (test.user(1), test.user(2));
    let mut newest_first = Vec::new();
    for number in 0..5 {
        newest_first.insert(0, alice.sent(2, &format!("message {number}")).await);
    }
    test.drain().await;
    assert_eq!(bob.history(1, "").await.ids(), newest_first);

    // A crash loses the last second of writes: the list lacks a message that MySQL has.
    let lost = &newest_first[2];
    test.redis().await.lrem::<_, _, ()>("msg:conv:1_2", 0, lost).await.unwrap();
    assert_eq!(bob.history(1, "").await.ids().len(), 4, "the same Redis is believed");
    stack.server(ServerKind::Redis).restart().await.unwrap();
    assert_eq!(
        test.redis().await.llen::<_, usize>("msg:conv:1_2").await.unwrap(),
        4,
        "the torn list came back"
    );
    assert_eq!(bob.history(1, "").await.ids(), newest_first, "and went");
    assert_eq!(test.redis().await.llen::<_, usize>("msg:conv:1_2").await.unwrap(), 5, "refilled");

    // Sets that are marked complete may lack a member, or have one too many.
    assert_eq!((bob.delete(lost).await.status, bob.history(1, "").await.ids().len()), (204, 4));
    assert_eq!(bob.read(1, &newest_first[1]).await.body["unread"], 1);
    test.redis().await.srem::<_, _, ()>("msg:deleted:2", lost).await.unwrap();
    test.redis().await.sadd::<_, _, ()>("msg:unread:2", &newest_first[1]).await.unwrap();
    assert_eq!(bob.history(1, "").await.ids().len(), 5, "the same Redis is believed");
    assert_eq!(bob.unread().await.body["total"], 1, "MySQL counts");
    stack.server(ServerKind::Redis).restart().await.unwrap();
    assert_eq!(bob.unread().await.body["total"], 1);
    assert_eq!(bob.history(1, "").await.ids().len(), 4);
    assert_eq!(alice.history(2, "").await.ids(), newest_first, "and refills the list");

    // Only once: another process that meets the same Redis drops nothing.
    let another = Cache::new(&test.config.redis, &test.config.kafka, &test.config.im, test.clock()).unwrap();
    assert_eq!(list(&another).await.len(), 5);
    assert_eq!(test.redis().await.llen::<_, usize>("msg:conv:1_2").await.unwrap(), 5);

    // Without Redis, ids are made until the lease ends.
    stack.server(ServerKind::Redis).stop().await.unwrap();
    let first = test.app().ids.next().await.unwrap();
    assert!(test.app().ids.next().await.unwrap() > first);
    test.pass_ms(11 * 60_000);
    assert!(test.app().ids.next().await.unwrap_err().is_transient());
    stack.server(ServerKind::Redis).start().await.unwrap();
    let again = tokio::time::timeout(Duration::from_secs(5), test.app().ids.next()).await.unwrap().unwrap();
    assert!(again > first);
    test.stop().await;
    stack.stop().await.unwrap();
}
