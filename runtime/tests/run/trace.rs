//! One trace, followed through every stage: answer, log, Kafka, consumer, push, problem, dead letter.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;

use crate::caller::{Caller, id_of};
use crate::program::{ended, hongyan, output_of, until};
use crate::redrive::{from_now_on, next};

const WAIT: Duration = Duration::from_secs(30);
const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The status and body of a send with this `traceparent`.
async fn send(caller: &Caller, traceparent: &str, body: &'static str) -> (u16, Value) {
    let request = Request::post(format!("http://{}/messages", caller.address))
        .header("authorization", format!("Bearer {}", caller.token))
        .header("traceparent", traceparent)
        .body(Full::<Bytes>::from(body))
        .unwrap();
    let answer = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

/// The lines of the log that belong to the trace.
async fn lines(folder: &Path) -> String {
    ended(hongyan(folder, ["trace", ID])).await.stdout
}

pub(crate) async fn is_followed_through_every_stage(
    folder: &Path,
    settings: &BTreeMap<String, String>,
    alice: &Caller,
) {
    let (servers, topic) = (&settings["KAFKA_BOOTSTRAP_SERVERS"], "im-message-private");
    let bob = output_of(hongyan(folder, ["token", "2"])).await;
    let door = format!("ws://{}/ws?token={}", alice.address, bob.trim());
    let (mut socket, _) = tokio_tungstenite::connect_async(door).await.unwrap();
    let records = from_now_on(servers, topic);
    assert_eq!(ended(hongyan(folder, ["trace", ID])).await.code, Some(1), "nothing has this trace yet");

    // The message: accepted, pushed, produced, persisted.
    let (status, message) = send(alice, GIVEN, r#"{"toId":"2","content":"followed"}"#).await;
    assert_eq!(status, 201, "{message}");
    let pushed = async {
        loop {
            let message = socket.next().await.unwrap().unwrap();
            if message.is_text() {
                return message.into_text().unwrap();
            }
        }
    };
    assert!(tokio::time::timeout(WAIT, pushed).await.unwrap().contains("followed"));
    let record = next(&records, WAIT).expect("the record of the message");
    assert!(header_of(&record).is_some_and(|header| header.starts_with(&format!("00-{ID}-"))), "{record:?}");

    // A record that can never be handled, by another producer.
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let headers = OwnedHeaders::new().insert(Header { key: "traceparent", value: Some(GIVEN) });
    let broken = FutureRecord::to(topic).partition(4).key("1_2").payload("{}").headers(headers);
    producer.send(broken, WAIT).await.unwrap();
    until("the dead letter is there", || async {
        output_of(hongyan(folder, ["dlq", "list", "--json"])).await.contains(&format!("\"traceId\":\"{ID}\""))
    })
    .await;
    let letter = output_of(hongyan(folder, ["dlq", "list"])).await;
    let place = letter.split_whitespace().next().unwrap();
    let shown = output_of(hongyan(folder, ["dlq", "show", place])).await;
    assert!(shown.contains(&format!("trace      {ID}\n")), "{shown}");
    assert!(shown.contains(&format!("traceparent: {GIVEN}")), "{shown}");

    // A problem names the trace; of a malformed header a new one.
    let (status, problem) = send(alice, GIVEN, "no JSON").await;
    assert_eq!((status, &problem["traceId"]), (400, &ID.into()));
    let (_, problem) = send(alice, &GIVEN.to_uppercase(), "no JSON").await;
    let made = problem["traceId"].as_str().unwrap();
    assert!(made.len() == 32 && !made.eq_ignore_ascii_case(ID), "{problem}");

    // The log has a line of each stage.
    for stage in [
        "send.accept: Redis and Kafka have the message",
        "push.reach: pushed to a connection",
        "gateway.push: the push is on its way to the client",
        "http.answer: answered",
        "consume.persist: MySQL and Redis have the message",
        "consume.dead_letter: a record can never be handled",
    ] {
        until(stage, || async { lines(folder).await.contains(stage) }).await;
    }
    let of_message = format!("message_id={}", id_of(&message));
    let lines = lines(folder).await;
    assert!(lines.matches(&of_message).count() >= 2, "{lines}");
    assert!(lines.lines().all(|line| line.contains(ID)), "{lines}");
}

fn header_of(record: &OwnedMessage) -> Option<String> {
    let header = record.headers()?.iter().find(|header| header.key == "traceparent")?;
    Some(String::from_utf8(header.value?.to_vec()).unwrap())
}
