//! WebSocket frames of every kind in any order. Harmless frames are answered, others close the connection with the
//! right code, and the service goes on.

use std::time::Instant;

use hongyan_testkit::TestApp;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::Effort;
use super::frames::{BINARY, CLOSE, CONTINUATION, FIN, Heard, PING, PONG, RawSocket, TEXT, frame, head_of};

/// The limits of the gateway.
const MAX_FRAME: usize = 32 * 1024;
const MAX_MESSAGE: usize = 128 * 1024;
/// The number of connections in the short run.
const CASES: u32 = 60;

/// The next step of a client.
#[derive(Debug, Clone)]
enum Step {
    /// A text, cut into frames at these places, with a ping between the frames.
    Text(String, Vec<prop::sample::Index>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Ends the connection.
    Last(Last),
}

#[derive(Debug, Clone)]
enum Last {
    Close(u16),
    Binary(Vec<u8>),
    BadUtf8,
    HugeFrame(usize),
    HugeMessage,
    Unmasked,
    Reserved(u8),
    RsvBit(u8),
    CutPing,
    LongPing,
    StrayContinuation,
    SecondBeginning,
    Noise(Vec<u8>),
}

impl Last {
    /// The bytes of the step, and the code with which the server must close; `None` for any code or none.
    fn bytes(&self) -> (Vec<u8>, Option<u16>) {
        match self {
            Self::Close(code) => (frame(FIN | CLOSE, &code.to_be_bytes()), Some(*code)),
            Self::Binary(bytes) => (frame(FIN | BINARY, bytes), Some(1003)),
            Self::BadUtf8 => (frame(FIN | TEXT, b"\"\xc3\x28\""), Some(1007)),
            Self::HugeFrame(more) => (head_of(FIN | TEXT, MAX_FRAME + more, true), Some(1009)),
            Self::HugeMessage => {
                let part = vec![b' '; MAX_FRAME];
                let mut bytes = frame(TEXT, &part);
                for _ in 0..MAX_MESSAGE / MAX_FRAME {
                    bytes.extend(frame(CONTINUATION, &part));
                }
                (bytes, Some(1009))
            }
            Self::Unmasked => ([head_of(FIN | TEXT, 2, false), b"{}".to_vec()].concat(), Some(1002)),
            Self::Reserved(opcode) => (frame(FIN | opcode, b""), Some(1002)),
            Self::RsvBit(bit) => (frame(FIN | bit | TEXT, b"{}"), Some(1002)),
            Self::CutPing => (frame(PING, b"cut"), Some(1002)),
            Self::LongPing => (frame(FIN | PING, &[0; 126]), Some(1002)),
            Self::StrayContinuation => (frame(FIN | CONTINUATION, b"{}"), Some(1002)),
            Self::SecondBeginning => ([frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat(), Some(1002)),
            Self::Noise(bytes) => (bytes.clone(), None),
        }
    }
}

fn lasts() -> impl Strategy<Value = Last> {
    prop_oneof![
        prop_oneof![Just(1000_u16), Just(1001), 3000..5000_u16].prop_map(Last::Close),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Last::Binary),
        Just(Last::BadUtf8),
        prop_oneof![Just(1_usize), 1..usize::MAX / 4].prop_map(Last::HugeFrame),
        Just(Last::HugeMessage),
        Just(Last::Unmasked),
        prop_oneof![3..=7_u8, 11..=15_u8].prop_map(Last::Reserved),
        prop::sample::select(vec![0x10, 0x20, 0x40, 0x70]).prop_map(Last::RsvBit),
        Just(Last::CutPing),
        Just(Last::LongPing),
        Just(Last::StrayContinuation),
        Just(Last::SecondBeginning),
        prop::collection::vec(any::<u8>(), 1..400).prop_map(Last::Noise),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just(Value::from("ping")),
        Just(Value::Null),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let value = value.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(prop_oneof![Just("action".to_owned()), ".{0,6}"], inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop_oneof![
        Just(r#"{"action":"ping"}"#.to_owned()),
        Just(format!("{}{}", "[".repeat(2_000), "]".repeat(2_000))),
        Just(" ".repeat(MAX_FRAME)),
        value.prop_map(|value| value.to_string()),
        ".{0,300}",
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let payload = || prop::collection::vec(any::<u8>(), 0..=125);
    let step = prop_oneof![
        3 => (texts(), prop::collection::vec(any::<prop::sample::Index>(), 0..3))
            .prop_map(|(text, cuts)| Step::Text(text, cuts)),
        1 => payload().prop_map(Step::Ping),
        1 => payload().prop_map(Step::Pong),
    ];
    (prop::collection::vec(step, 0..6), lasts()).prop_map(|(mut steps, last)| {
        steps.push(Step::Last(last));
        steps
    })
}

async fn play(mut socket: RawSocket, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Text(text, cuts) => {
                say(&mut socket, text.as_bytes(), cuts).await;
                for _ in cuts {
                    assert_eq!(socket.hear().await, Heard::Pong(b"between".to_vec()));
                }
                let Heard::Text(answer) = socket.hear().await else { panic!("no answer to {text}") };
                let answer: Value = serde_json::from_str(&answer).unwrap();
                let said: Value = serde_json::from_str(text).unwrap_or_default();
                if said["action"] == "ping" {
                    assert_eq!(answer, json!({"type": "PONG"}), "{text}");
                } else {
                    assert_eq!(
                        (&answer["type"], &answer["code"]),
                        (&json!("ERROR"), &json!("invalid_request"))
                    );
                }
            }
            Step::Ping(payload) => {
                socket.write(&frame(FIN | PING, payload)).await;
                assert_eq!(socket.hear().await, Heard::Pong(payload.clone()));
            }
            Step::Pong(payload) => socket.write(&frame(FIN | PONG, payload)).await,
            Step::Last(last) => {
                let (bytes, code) = last.bytes();
                socket.write(&bytes).await;
                if let Some(code) = code {
                    assert_eq!(socket.hear().await, Heard::Close(Some(code)), "{last:?}");
                    assert_eq!(socket.hear().await, Heard::End, "{last:?}");
                }
            }
        }
    }
}

/// The frames of one message, cut at these places.
async fn say(socket: &mut RawSocket, text: &[u8], cuts: &[prop::sample::Index]) {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    places.sort_unstable();
    let (mut begin, mut opcode) = (0, TEXT);
    for place in places {
        socket.write(&frame(opcode, &text[begin..place])).await;
        socket.write(&frame(FIN | PING, b"between")).await;
        (begin, opcode) = (place, CONTINUATION);
    }
    socket.write(&frame(FIN | opcode, &text[begin..])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_client_says_is_answered_or_ends_its_connection_with_the_right_code() {
    let test = TestApp::start().await;
    let effort = Effort::asked();
    let began = Instant::now();
    let user = test.user(1);
    let address = test.runtime().addr();
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&effort.seed.to_le_bytes());
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let runtime = tokio::runtime::Handle::current();
    loop {
        let played = tokio::task::block_in_place(|| {
            runner.run(&steps(), |steps| {
                runtime.block_on(async {
                    play(RawSocket::open(address, &user.token).await, &steps).await;
                });
                Ok(())
            })
        });
        played.unwrap_or_else(|failure| panic!("{failure}"));
        if effort.time.is_none_or(|time| began.elapsed() > time) {
            break;
        }
    }
    let mut socket = user.connect().await;
    socket.say(r#"{"action":"ping"}"#).await;
    assert_eq!(socket.hear().await, json!({"type": "PONG"}));
    assert_eq!(user.get("/health").await.status, 200);
    test.stop().await;
}
