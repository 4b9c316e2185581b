//! Every file of `events/`, fed to its function. The docs show these files, and people try them by hand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test; the helpers beside it are part of it")]

use std::collections::{BTreeMap, BTreeSet};

use aws_lambda_events::apigw::{
    ApiGatewayProxyResponse, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
    ApiGatewayWebsocketProxyRequest,
};
use aws_lambda_events::encodings::Body;
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan_runtime::dlq::{self, Filter};
use hongyan_runtime::functions::{self, FUNCTIONS};
use hongyan_testkit::TestApp;
use hongyan_testkit::description::assert_valid;
use rdkafka::message::{Headers as _, Message as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The messages of the events, and their send time.
const FIRST: &str = "383647954231138816";
const SECOND: &str = "383647960522594816";
const EVENTS_TIME_MS: i64 = 1_795_536_010_000;

fn event<E: DeserializeOwned>(name: &str) -> E {
    let path = format!("{}/../events/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// An application at the time of the events. It has no trigger, so that it gets only the events.
async fn at_the_time_of_the_events() -> TestApp {
    let test = TestApp::builder().without_trigger().start().await;
    test.pass_ms(EVENTS_TIME_MS - test.clock().now_ms());
    test
}

/// The status and body of an HTTP function's answer.
fn http(answer: &ApiGatewayV2httpResponse) -> (i64, Value) {
    (answer.status_code, body(answer.body.as_ref()))
}

fn websocket(answer: &ApiGatewayProxyResponse) -> (i64, Value) {
    (answer.status_code, body(answer.body.as_ref()))
}

fn body(body: Option<&Body>) -> Value {
    match body {
        Some(Body::Text(text)) => serde_json::from_str(text).unwrap(),
        None | Some(_) => Value::Null,
    }
}

async fn consume(test: &TestApp, name: &str) -> KafkaBatchResponse {
    hongyan_kafka_consumer::handle(test.app(), event::<KafkaEvent>(name)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sends() {
    let test = at_the_time_of_the_events().await;
    let answer_to = async |name| {
        http(&hongyan_send::handle(test.app(), event::<ApiGatewayV2httpRequest>(name)).await.unwrap())
    };
    let (status, sent) = answer_to("send.json").await;
    assert_eq!((status, &sent["content"], &sent["conversationId"]), (201, &json!("你好 🦢"), &json!("1_2")));
    let (status, again) = answer_to("send.json").await;
    assert_eq!((status, &again), (200, &sent), "it has a clientMsgId");
    let (status, another) = answer_to("send-base64.json").await;
    assert_eq!((status, &another["content"]), (201, &json!("hello")));
    let (status, problem) = answer_to("send-not-json.json").await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("body") && detail.contains("EOF"), "it says so: {detail}");
    let (status, problem) = answer_to("send-without-authorizer.json").await;
    assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")));
    assert_eq!(test.app().cache.pending_count().await.unwrap(), 2, "the others were not kept");
    test.stop().await;
}

/// The consumer's batch from MSK first: the other events are about its messages.
#[tokio::test(flavor = "multi_thread")]
async fn the_batch_from_msk_and_then_every_other_route() {
    let test = at_the_time_of_the_events().await;
    assert_eq!(consume(&test, "kafka-msk.json").await, KafkaBatchResponse::done());
    let row = test.row(FIRST).await.unwrap();
    assert_eq!((row.status, row.content.as_str()), (0, ""), "the batch's last record recalls it");
    assert_eq!(test.row(SECOND).await.unwrap().content, "still there?");
    assert_eq!(test.row("383647954315247619").await.unwrap().content, "hi");
    assert_eq!(test.count_rows("TRUE").await, 3);

    let app = test.app();
    let query = async |name| http(&hongyan_query::handle(app, event(name)).await.unwrap());
    let page = |answer: &(i64, Value)| -> Vec<String> {
        assert_eq!(answer.0, 200, "{answer:?}");
        let messages = answer.1["messages"].as_array().unwrap();
        messages.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(page(&query("query.json").await), [SECOND]);
    assert_eq!(page(&query("query-after.json").await), [SECOND]);
    assert_eq!(page(&query("query-before.json").await), Vec::<String>::new(), "what lies before is recalled");

    let (status, changes) = query("query-changes.json").await;
    assert_eq!((status, &changes["next"], &changes["lastSeq"]), (200, &Value::Null, &json!(3)), "{changes}");
    let told: Vec<_> = changes["changes"].as_array().unwrap().iter().collect();
    assert_eq!(
        (told.len(), &told[0]["type"], &told[0]["data"]["id"]),
        (2, &json!("MESSAGE"), &json!(SECOND))
    );
    assert_eq!((&told[1]["type"], &told[1]["messageId"]), (&json!("MESSAGE_RECALLED"), &json!(FIRST)));

    let (status, recalled) = http(&hongyan_recall::handle(app, event("recall.json")).await.unwrap());
    let expected =
        json!({"id": FIRST, "conversationId": "1_2", "status": 0, "recallTime": 1_795_536_002_123_i64});
    assert_eq!((status, recalled), (200, expected), "recalled before, so the time is that of then");

    let read = async |name| http(&hongyan_read::handle(app, event(name)).await.unwrap());
    assert_eq!(read("unread.json").await, (200, json!({"total": 1, "messageIds": [SECOND]})));
    assert_eq!(read("read.json").await, (200, json!({"unread": 0})));
    assert_eq!(read("unread.json").await, (200, json!({"total": 0, "messageIds": []})));
    let deleted = hongyan_delete::handle(app, event("delete.json")).await.unwrap();
    assert_eq!((deleted.status_code, deleted.body), (204, None));
    let cleared = hongyan_delete::handle(app, event("clear.json")).await.unwrap();
    assert_eq!((cleared.status_code, cleared.body), (204, None));
    assert_eq!(page(&query("query.json").await), [SECOND], "it lies above the clearing");

    let run = hongyan_scheduled_compensator::handle(app, event("schedule.json")).await.unwrap();
    assert_eq!((run.skipped, run.due), (false, 0), "{run:?}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_from_a_self_managed_kafka() {
    let test = at_the_time_of_the_events().await;
    for _ in 0..2 {
        assert_eq!(consume(&test, "kafka-self-managed.json").await, KafkaBatchResponse::done());
        assert_eq!(test.count_rows("content = 'hello 5' AND conv_id = '3_5'").await, 1);
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_records_are_dead_letters_and_the_good_one_behind_them_is_written() {
    let test = at_the_time_of_the_events().await;
    assert_eq!(consume(&test, "kafka-broken-records.json").await, KafkaBatchResponse::done());
    assert_eq!(test.row("383647954399133696").await.unwrap().content, "the good one behind them");
    assert_eq!(test.count_rows("TRUE").await, 1);

    let letters = dlq::list(&test.config.kafka, Filter::default()).await.unwrap();
    let about = |letter: &dlq::Letter| (letter.origin().unwrap().2, letter.error().to_owned());
    let reasons = ["expected ident", "ARCHIVE", "a message id", "no value", "base64"];
    assert_eq!(letters.len(), reasons.len());
    for ((letter, reason), offset) in letters.iter().zip(reasons).zip(6..) {
        assert_eq!(letter.origin().unwrap(), ("im-message-private", 9, offset));
        assert!(letter.error().contains(reason), "{:?} should say {reason:?}", about(letter));
    }
    // Other consumers of the topic see the key and value as they were, and six headers.
    let consumer = hongyan_testkit::kafka::reader(&test.config.kafka, &test.config.kafka.dead_letter_topic);
    let values: [Option<&[u8]>; 5] = [
        Some(b"not json"),
        Some(br#"{"action":"ARCHIVE","messageId":1}"#),
        Some(br#"{"action":"PERSIST","data":{"id":0}}"#),
        None,
        Some(b"%%% not base64 %%%"),
    ];
    for (value, offset) in values.into_iter().zip(6..) {
        let record = consumer.poll(std::time::Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!((record.key(), record.payload()), (Some(b"3_5".as_slice()), value));
        let headers = record.headers().unwrap();
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|header| (header.key, std::str::from_utf8(header.value.unwrap()).unwrap()))
            .collect();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let six =
            ["error", "attempts", "original-topic", "original-partition", "original-offset", "failed-at"];
        assert_eq!(names, six);
        let all = headers.iter().map(|&(name, value)| (name.to_owned(), json!(value))).collect();
        assert_valid("schemas/dead-letter-headers.schema.json", &Value::Object(all));
        let offset = offset.to_string();
        assert_eq!(
            headers[1..5].iter().map(|(_, value)| *value).collect::<Vec<_>>(),
            ["1", "im-message-private", "9", &offset]
        );
    }
    test.stop().await;
}

/// Odd headers, times, keys and fields affect no record. Three records are too broken, and only those are dead
/// letters.
#[tokio::test(flavor = "multi_thread")]
async fn an_odd_envelope_is_read_as_far_as_it_is_needed() {
    let test = at_the_time_of_the_events().await;
    for _ in 0..2 {
        assert_eq!(consume(&test, "kafka-odd-envelopes.json").await, KafkaBatchResponse::done());
        assert_eq!(test.count_rows("status = 1 AND content LIKE 'odd %' AND conv_id = '3_5'").await, 13);
    }
    let letters = dlq::list(&test.config.kafka, Filter::default()).await.unwrap();
    let reasons = ["envelope", "offset", "not a text"];
    for reason in reasons {
        let found: Vec<_> = letters.iter().filter(|letter| letter.error().contains(reason)).collect();
        assert_eq!(found.len(), 2, "one for each time: {reason}");
        let (topic, partition, offset) = found[0].origin().unwrap();
        let expected = if reason == "not a text" { 32 } else { -1 };
        assert_eq!((topic, partition, offset), ("im-message-private", 9, expected), "{reason}");
    }
    assert_eq!(letters.len(), 2 * reasons.len());
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_one_of_kafka_is_an_error_that_says_so() {
    let test = at_the_time_of_the_events().await;
    for (name, says) in [("kafka-no-records.json", "no records"), ("kafka-other-source.json", "aws:sqs")] {
        let error = hongyan_kafka_consumer::handle(test.app(), event(name)).await.unwrap_err();
        assert!(error.to_string().contains(says), "{name}: {error}");
    }
    assert_eq!(dlq::list(&test.config.kafka, Filter::default()).await.unwrap(), []);
    // The event of a release holds no record and finds every server.
    assert_eq!(consume(&test, "kafka-check.json").await, KafkaBatchResponse::done());
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_from_its_beginning_to_its_end() {
    let test = at_the_time_of_the_events().await;
    let handle = async |event: ApiGatewayWebsocketProxyRequest| {
        let Ok(answer) = hongyan_websocket::handle(test.app(), event).await;
        websocket(&answer)
    };
    let mut connect: Value = event("connect.json");
    let (status, refusal) = handle(serde_json::from_value(connect.clone()).unwrap()).await;
    assert_eq!((status, &refusal["code"]), (401, &json!("unauthorized")), "its token is another issuer's");
    let connection = connect["requestContext"]["connectionId"].as_str().unwrap().to_owned();
    assert_eq!(test.app().push.user_of(&connection).await.unwrap(), None);
    assert_eq!(handle(event("ping.json")).await.0, 410, "nobody's connection");

    let alice = test.user(1);
    let token = &mut connect["queryStringParameters"]["token"];
    assert!(token.is_string());
    *token = alice.token.clone().into();
    assert_eq!(handle(serde_json::from_value(connect.clone()).unwrap()).await.0, 200);
    assert_eq!(test.app().push.user_of(&connection).await.unwrap(), Some(alice.id));
    assert_eq!(handle(event("ping.json")).await, (200, json!({"type": "PONG"})));
    let (_, error) = handle(event("websocket-not-json.json")).await;
    assert_eq!((&error["type"], &error["code"]), (&json!("ERROR"), &json!("invalid_request")));

    for _ in 0..2 {
        assert_eq!(handle(event("disconnect.json")).await.0, 200);
        assert_eq!(test.app().push.user_of(&connection).await.unwrap(), None);
    }

    // With the token as a subprotocol, API Gateway wants the selected one in the answer.
    let offered = format!("hongyan.v1, bearer.{}", alice.token);
    connect["queryStringParameters"] = Value::Null;
    connect["multiValueQueryStringParameters"] = Value::Null;
    connect["headers"]["Sec-WebSocket-Protocol"] = offered.clone().into();
    connect["multiValueHeaders"]["Sec-WebSocket-Protocol"] = json!([offered]);
    let Ok(answer) = hongyan_websocket::handle(test.app(), serde_json::from_value(connect).unwrap()).await;
    assert_eq!(
        (answer.status_code, answer.headers["sec-websocket-protocol"].as_bytes()),
        (200, &b"hongyan.v1"[..])
    );
    assert_eq!(test.app().push.user_of(&connection).await.unwrap(), Some(alice.id));
    test.stop().await;
}

/// The samples of the HTTP API by file name: all events with a `routeKey`, except WebSocket events.
fn http_samples() -> BTreeMap<String, Value> {
    samples().into_iter().filter(|(_, sample)| sample["routeKey"].is_string()).collect()
}

fn samples() -> BTreeMap<String, Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../events");
    let files =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    files.map(|name| (name.clone(), event(&name))).collect()
}

#[test]
fn every_route_has_a_sample_and_every_sample_of_the_http_api_a_route() {
    let samples = http_samples();
    let keys: BTreeSet<&str> = samples.values().filter_map(|sample| sample["routeKey"].as_str()).collect();
    assert_eq!(keys, functions::routes().iter().map(|route| route.key).collect());
    for (name, sample) in &samples {
        assert_eq!(sample["requestContext"]["routeKey"], sample["routeKey"], "{name}");
    }
}

/// Calls the functions through their table, as the local runtime does. The list below names the samples that must be
/// refused.
#[tokio::test(flavor = "multi_thread")]
async fn every_sample_of_the_http_api_is_answered_by_the_function_of_its_route() {
    let test = at_the_time_of_the_events().await;
    assert_eq!(consume(&test, "kafka-msk.json").await, KafkaBatchResponse::done());
    let refused = BTreeMap::from([("send-not-json.json", 400), ("send-without-authorizer.json", 401)]);

    for (name, sample) in http_samples() {
        let route = functions::routes().iter().find(|route| sample["routeKey"] == route.key).unwrap();
        let Ok(answer) = (route.function.handle)(test.app(), serde_json::from_value(sample).unwrap()).await;

        let status = answer.status_code;
        let expected = refused.get(name.as_str()).map_or(200..300, |refused| *refused..*refused + 1);
        assert!(expected.contains(&status), "{name}: {status} {:?}", answer.body);
    }
    test.stop().await;
}

/// A function that gets a request of another function's route answers that it has no such route.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_of_several_routes_serves_no_other() {
    let test = at_the_time_of_the_events().await;
    for function in FUNCTIONS.http.iter().filter(|function| function.routes.len() > 1) {
        for key in ["POST /messages", "DELETE /unread", "$default", ""] {
            let mut sample: Value = event("send.json");
            sample["requestContext"]["routeKey"] = key.into();
            let Ok(answer) = (function.handle)(test.app(), serde_json::from_value(sample).unwrap()).await;
            let (status, problem) = http(&answer);
            assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{} by {key}", function.name);
        }
    }
    test.stop().await;
}

/// Every sample must be read by a test, or it would become outdated.
#[test]
fn every_file_is_used() {
    let source = include_str!("events.rs");
    let http = http_samples();
    let others = samples().into_keys().filter(|name| !http.contains_key(name));
    for name in others {
        assert!(source.contains(&format!("\"{name}\"")), "no test uses events/{name}");
    }
}
