//! A Redis that hangs: it neither answers nor refuses.

use std::time::{Duration, Instant};

use futures_util::future;
use hongyan::cache::page::Part;
use hongyan::error::ServerError;
use hongyan_stack::ServerKind;
use hongyan_testkit::TestApp;
use hongyan_testkit::app::eventually;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::servers;

use crate::{accept, conversation, list, message};

/// How long a call took, and whether it was answered.
async fn timed<T>(call: impl Future<Output = Result<T, ServerError>>) -> (Duration, bool) {
    let began = Instant::now();
    let answered = match call.await {
        Ok(_) => true,
        Err(error) => {
            assert!(error.is_transient(), "{error}");
            false
        }
    };
    (began.elapsed(), answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_redis_that_hangs_and_a_new_connection_finds_the_one_that_took_its_place() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let redis = servers::address_of(servers::stack().await, ServerKind::Redis);
    // The proxy is the way to the host. The name can be led to another host.
    let host = Proxy::to(&redis).await;
    let mut name = Proxy::to(&host.url()).await;
    let test = TestApp::builder()
        .set("REDIS_TIMEOUT_MS", TIMEOUT.as_millis().to_string().as_str())
        .redis_by_way_of(name.address())
        .without_trigger()
        .start()
        .await;
    let cache = &test.app().cache;
    accept(cache, &message(1)).await;
    let look = async || timed(cache.recent(message(1).from, conversation(), Part::Before(None), 10)).await;

    // Redis hangs. Calls under way wait for the time-out, and later calls do not wait.
    host.freeze(true);
    let waiting = future::join_all((0..20).map(|_| look())).await;
    for (took, answered) in waiting {
        assert!(!answered && took > TIMEOUT / 2 && took < TIMEOUT * 3, "{took:?}");
    }
    for _ in 0..100 {
        let (took, answered) = look().await;
        assert!(!answered && took < TIMEOUT / 4, "{took:?}");
    }
    // Redis goes on.
    host.freeze(false);
    eventually("it is asked again", TIMEOUT * 2, async || look().await.1).await;
    assert_eq!(list(cache).await, [1]);

    // The host is gone, and the name leads to another one. Open connections stay silent.
    host.freeze(true);
    name.lead_to(&redis);
    let (took, answered) = look().await;
    assert!(!answered && took < TIMEOUT * 3, "{took:?}");
    eventually("the other is found", TIMEOUT * 2, async || look().await.1).await;
    accept(cache, &message(2)).await;
    assert_eq!(list(cache).await, [2, 1]);
    test.stop().await;
}
