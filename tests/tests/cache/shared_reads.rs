//! Round trips that several requests share.

use futures_util::future;
use hongyan::cache::detail::Detail;
use hongyan::id::UserId;
use hongyan_stack::{ServerKind, Stack};
use hongyan_testkit::redis::RedisConnection;
use hongyan_testkit::{TestApp, servers};

use crate::{accept, id, message};

/// More than the requests of one round trip.
const REQUESTS: i64 = 100;

async fn started() -> (Stack, TestApp) {
    let stack = Stack::start(servers::beside_shared(ServerKind::Redis).await).await.unwrap();
    let test = TestApp::builder().without_trigger().start_on(&stack).await;
    for value in 1..=REQUESTS {
        accept(&test.app().cache, &message(value)).await;
    }
    (stack, test)
}

/// How many scripts this Redis has run.
async fn scripts_run(redis: &mut RedisConnection) -> u64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(redis).await.unwrap();
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    calls.and_then(|rest| rest.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_share_round_trips_and_each_gets_its_own_answers() {
    let (stack, test) = started().await;
    let cache = &test.app().cache;
    let mut redis = test.redis().await;
    cache.epoch().await.unwrap();
    let before = scripts_run(&mut redis).await;

    let looks = (1..=REQUESTS).map(async |value| {
        let ids = [id(value), id(REQUESTS + value)];
        let lookup = cache.look_up(UserId::new(value).unwrap(), &ids).await.unwrap();
        let [Detail::Message(found), Detail::Missing] = &lookup.details[..] else {
            panic!("{value}: {:?}", lookup.details);
        };
        assert_eq!(found.id, id(value));
        lookup.epoch
    });
    let epochs = future::join_all(looks).await;

    let scripts = scripts_run(&mut redis).await - before;
    assert!(scripts < 20, "{scripts} scripts for {REQUESTS} requests");
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]));
    test.stop().await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_takes_no_answer_along() {
    let (stack, test) = started().await;
    let looks: Vec<_> = (1..=REQUESTS)
        .map(|value| {
            let cache = test.app().cache.clone();
            tokio::spawn(async move { cache.look_up(UserId::new(1).unwrap(), &[id(value)]).await })
        })
        .collect();
    for look in looks.iter().step_by(3) {
        look.abort();
    }
    for (at, look) in looks.into_iter().enumerate() {
        match look.await {
            Ok(lookup) => assert!(matches!(lookup.unwrap().details[..], [Detail::Message(_)])),
            Err(ended) => assert!(ended.is_cancelled() && at % 3 == 0, "{at}: {ended}"),
        }
    }
    // The round trips of callers that went away have given their places back.
    let late = test.app().cache.look_up(UserId::new(1).unwrap(), &[id(1)]).await.unwrap();
    assert!(matches!(late.details[..], [Detail::Message(_)]));
    test.stop().await;
    stack.stop().await.unwrap();
}
