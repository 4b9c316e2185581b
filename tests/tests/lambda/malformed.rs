//! Malformed events, and events of other services: the error says so, and the process goes on.

use hongyan_runtime::dlq::{self, Filter};
use hongyan_runtime::functions::FUNCTIONS;
use hongyan_testkit::lambda::{Environment, stop_all};
use serde_json::{Value, json};

use crate::{House, sample};

/// Input that no function accepts, each with the error.
fn of_no_service() -> Vec<(&'static str, &'static str)> {
    vec![
        ("not json", "expected ident"),
        ("", "EOF"),
        ("{\"version\": \"2.0\"", "EOF"),
        ("null", "invalid type: null"),
        ("42", "invalid type: integer"),
    ]
}

/// Events of other services, for each function.
fn of_other_services(function: &str) -> Vec<Value> {
    let queue = json!({"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": "{}"}]});
    let other = if function == "kafka-consumer" { sample("send.json") } else { sample("kafka-msk.json") };
    vec![queue, other, json!({}), json!([])]
}

/// The error in the answer: the error of the function, or its problem.
fn complaint(status: u16, answer: &Value) -> String {
    if status == 500 {
        return answer["errorMessage"].as_str().unwrap().to_owned();
    }
    let refused = answer["statusCode"].as_u64().unwrap();
    assert!((400..500).contains(&refused), "{answer}");
    answer["body"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_is_an_error_that_says_so_and_the_process_goes_on() {
    let house = House::open().await;
    let mut environments = house.lambda.every_function(&house.settings([]), 1);
    for function in FUNCTIONS.names() {
        for (event, says) in of_no_service() {
            let (status, answer) = house.lambda.invoke(function, event).await;
            let text = complaint(status, &answer);
            assert!(status == 500 && text.contains(says), "{function}, {event:?}: {answer}");
        }
        for event in of_other_services(function) {
            let (status, answer) = house.lambda.invoke(function, event.to_string()).await;
            println!("{function}, {event}: {answer}");
            assert!(!complaint(status, &answer).is_empty());
        }
    }
    assert!(environments.iter_mut().all(Environment::runs), "a function has ended");
    assert_eq!(house.lambda.lines_with("panicked"), 0);
    assert_eq!(house.sent("all is well").await.len(), 18);
    stop_all(environments).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_kafka_record_is_a_dead_letter_and_the_rest_go_on() {
    let house = House::open().await;
    let consumer = house.start("kafka-consumer", []);
    for (name, says) in [("kafka-no-records.json", "no records"), ("kafka-other-source.json", "aws:sqs")] {
        let (status, error) = house.lambda.invoke("kafka-consumer", sample(name).to_string()).await;
        assert!(status == 500 && complaint(status, &error).contains(says), "{name}: {error}");
    }
    assert_eq!(dlq::list(&house.test.config.kafka, Filter::default()).await.unwrap(), []);

    let event = sample("kafka-broken-records.json");
    let answer = house.lambda.invoke("kafka-consumer", event.to_string()).await;
    assert_eq!(answer, (200, json!({"batchItemFailures": []})));
    let letters = dlq::list(&house.test.config.kafka, Filter::default()).await.unwrap();
    let reasons = ["expected ident", "ARCHIVE", "a message id", "no value", "base64"];
    assert_eq!(letters.len(), reasons.len());
    for (letter, reason) in letters.iter().zip(reasons) {
        assert!(letter.error().contains(reason), "{} should say {reason:?}", letter.error());
    }
    assert_eq!(house.test.count_rows("content = 'the good one behind them'").await, 1);
    let answer = house.lambda.invoke("kafka-consumer", sample("kafka-odd-envelopes.json").to_string()).await;
    assert_eq!(answer, (200, json!({"batchItemFailures": []})));
    assert_eq!(house.test.count_rows("content LIKE 'odd %'").await, 13);
    let letters = dlq::list(&house.test.config.kafka, Filter::default()).await.unwrap();
    assert_eq!(letters.len(), reasons.len() + 3);
    assert_eq!(house.lambda.lines_with("panicked"), 0);
    stop_all(vec![consumer]).await;
    house.close().await;
}
