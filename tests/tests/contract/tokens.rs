//! 401 on every route for every kind of invalid token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hongyan_runtime::functions;
use hongyan_testkit::TestApp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::assert_refused;

fn signed(secret: &str, algorithm: Algorithm, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

/// Each kind of invalid token with a name.
fn bad_tokens(test: &TestApp) -> Vec<(&'static str, String)> {
    let secret = &test.settings["JWT_SECRET"];
    let now = test.clock().now_ms() / 1_000;
    let good = json!({"sub": "1", "exp": now + 600});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signed(secret, Algorithm::HS256, &claims)
    };
    let unsigned = |header: Value| {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.", part(&header), part(&good))
    };
    let (mine, other) = (&good, json!({"sub": "2", "exp": now + 600}));
    let [mine, other] = [mine, &other].map(|claims| signed(secret, Algorithm::HS256, claims));
    let of_another = format!("{}.{}", mine.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1);
    vec![
        ("alg none", unsigned(json!({"alg": "none", "typ": "JWT"}))),
        ("alg None", unsigned(json!({"alg": "None", "typ": "JWT"}))),
        ("another key", signed(&"x".repeat(32), Algorithm::HS256, &good)),
        ("another algorithm", signed(secret, Algorithm::HS512, &good)),
        ("another token's signature", of_another),
        ("expired", with("exp", json!(now - 60))),
        ("without an end", signed(secret, Algorithm::HS256, &json!({"sub": "1"}))),
        ("not yet valid", with("nbf", json!(now + 60))),
        ("sub a name", with("sub", json!("alice"))),
        ("sub zero", with("sub", json!("0"))),
        ("sub negative", with("sub", json!("-1"))),
        ("sub too large", with("sub", json!("9223372036854775808"))),
        ("sub empty", with("sub", json!(""))),
        ("no sub", signed(secret, Algorithm::HS256, &json!({"exp": now + 600}))),
        ("no token", String::new()),
        ("nonsense", "nonsense".to_owned()),
        ("too long", "a".repeat(9_000)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_takes_a_bad_token() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let id = alice.sent(2, "mine").await;
    for (kind, token) in bad_tokens(&test) {
        let nobody = alice.with_token(&token);
        for route in functions::routes() {
            let path = route.path.replace("{id}", &id).replace("{peerId}", "2");
            // A body that every route would accept.
            let body = json!({"toId": "2", "content": "forged", "msgType": 1, "upTo": id}).to_string();
            let answer = nobody.request(route.method.clone(), &path, Some(body)).await;
            assert_eq!(answer.status, 401, "{kind} on {} {path}: {answer:?}", route.method);
            assert_refused(&answer, 401, "unauthorized");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
        if kind != "too long" {
            assert_eq!(nobody.try_connect().await.err(), Some(401), "{kind} on the WebSocket");
            let refused = nobody.connect_by_subprotocol().await.err();
            assert_eq!(refused, Some(401), "{kind} as a subprotocol");
        }
    }
    assert_eq!(alice.history(2, "").await.ids(), [id.as_str()]);
    assert_eq!(bob.unread().await.body["total"], 1);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_token_ends_when_its_time_does() {
    let test = TestApp::builder().in_process().start().await;
    let alice = test.user(1);
    assert_eq!(alice.unread().await.status, 200);
    test.pass_ms(3_600_000 + 60_000);
    assert_refused(&alice.unread().await, 401, "unauthorized");
    assert_eq!(alice.try_connect().await.err(), Some(401));
    assert_eq!(test.user(1).unread().await.status, 200);
    test.stop().await;
}
