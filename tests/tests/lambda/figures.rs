//! The figures of history: the store that answered, and the hit rate.

use hongyan::telemetry::metric;
use hongyan_testkit::lambda::stop_all;
use serde_json::{Value, json};

use crate::{House, sample};

/// The sources of the pages that `lines` measure, and the hits and misses that they count.
fn history(lines: &[Value]) -> (Vec<&str>, f64, f64) {
    let measured = lines.iter().filter(|line| line.get(metric::HISTORY_SECONDS).is_some());
    let counted = |outcome: &str| {
        let lines = lines.iter().filter(|line| line["outcome"] == outcome);
        lines.filter_map(|line| line.get(metric::CACHE_LOOKUPS)).filter_map(Value::as_f64).sum()
    };
    (measured.map(|line| line["source"].as_str().unwrap()).collect(), counted("hit"), counted("miss"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_measured_by_its_store_and_a_list_that_is_lost_counts_as_misses() {
    let house = House::open().await;
    let environments = vec![house.start("send", []), house.start("query", [])];
    house.sent("one").await;
    house.sent("two").await;
    house.test.drain().await;
    let mut page = sample("query.json");
    page["queryStringParameters"] = json!({"limit": "1"});
    let mut read = house.lambda.metrics().len();
    let mut ask = async || {
        let (status, answer) = house.lambda.request("query", &page).await;
        assert_eq!((status, &answer["messages"][0]["content"]), (200, &json!("two")), "{answer}");
        let lines = house.lambda.metrics();
        let new = lines[read..].to_vec();
        read = lines.len();
        new
    };

    let (first, second) = (ask().await, ask().await);
    redis::cmd("FLUSHDB").exec_async(&mut house.test.redis().await).await.unwrap();
    let third = ask().await;

    // One message more than asked for is read, to know whether there is a next page.
    assert_eq!(history(&first), (vec!["mysql"], 0.0, 2.0), "a conversation's list is not believed at first");
    assert_eq!(history(&second), (vec!["redis"], 2.0, 0.0));
    assert_eq!(history(&third), (vec!["mysql"], 0.0, 2.0), "Redis has lost its data");
    stop_all(environments).await;
    house.close().await;
}
