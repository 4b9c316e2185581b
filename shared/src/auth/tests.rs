//! Valid tokens, and the ways in which a token can be invalid.

use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const USER: i64 = 9_007_199_254_740_993;

struct Setup {
    auth: Auth,
    clock: Clock,
    shift_ms: Arc<AtomicI64>,
}

fn setup(key: AuthKey, issuer: Option<&str>, audience: Option<&str>) -> Setup {
    setup_with(&AuthConfig {
        key,
        issuer: issuer.map(str::to_owned),
        audience: audience.map(str::to_owned),
        user_claim: "sub".to_owned(),
    })
}

fn setup_with(config: &AuthConfig) -> Setup {
    let shift_ms = Arc::new(AtomicI64::new(0));
    let clock = Clock::shifted(shift_ms.clone());
    Setup { auth: Auth::new(config, clock.clone()), clock, shift_ms }
}

fn secret() -> Setup {
    setup(AuthKey::Secret(SECRET.to_owned().into()), None, None)
}

impl Setup {
    fn claims(&self) -> Value {
        let now = self.clock.now_ms() / 1_000;
        json!({ "sub": USER.to_string(), "exp": now + 60 })
    }

    async fn refuses(&self, token: &str, why: &str) {
        assert!(matches!(self.auth.verify(token).await, Err(ApiError::Unauthorized)), "{why}: {token}");
    }
}

fn signed(algorithm: Algorithm, claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .unwrap()
}

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

#[tokio::test]
async fn a_token_that_was_issued_is_good_until_it_expires() {
    let Setup { auth, clock, shift_ms } = secret();
    let user = UserId::new(USER).unwrap();
    let token = auth.issue(user, clock.now_ms(), Duration::from_mins(10)).unwrap();
    assert_eq!(auth.verify(&token).await.unwrap(), user);
    shift_ms.store(602_000, Ordering::SeqCst);
    assert_eq!(auth.verify(&token).await.unwrap(), user, "clocks differ a little");
    shift_ms.store(607_000, Ordering::SeqCst);
    assert!(matches!(auth.verify(&token).await, Err(ApiError::Unauthorized)));
    shift_ms.store(-10_000, Ordering::SeqCst);
    assert!(matches!(auth.verify(&token).await, Err(ApiError::Unauthorized)), "before nbf");
}

#[tokio::test]
async fn the_user_is_in_the_claim_of_the_setting() {
    let key = AuthKey::Secret(SECRET.to_owned().into());
    let claim = "custom:chat_id".to_owned();
    let setup = setup_with(&AuthConfig { key, issuer: None, audience: None, user_claim: claim.clone() });
    let mut claims = setup.claims();
    claims["sub"] = "6f1c0a2e-90b1-7001-5ad1-9b6d3c1f7a10".into();
    setup.refuses(&signed(Algorithm::HS256, &claims, SECRET), "the claim is missing").await;

    claims[&claim] = "7".into();

    assert_eq!(setup.auth.verify(&signed(Algorithm::HS256, &claims, SECRET)).await.unwrap().get(), 7);
    let issued = setup.auth.issue(UserId::new(8).unwrap(), setup.clock.now_ms(), Duration::from_mins(1));
    assert_eq!(setup.auth.verify(&issued.unwrap()).await.unwrap().get(), 8);
}

#[tokio::test]
async fn a_token_without_aud_is_judged_by_its_client_id_as_api_gateway_does() {
    let setup = setup(AuthKey::Secret(SECRET.to_owned().into()), None, Some("chat"));
    let mut claims = setup.claims();
    claims["client_id"] = "chat".into();
    assert!(setup.auth.verify(&signed(Algorithm::HS256, &claims, SECRET)).await.is_ok());
    claims["client_id"] = "other".into();
    setup.refuses(&signed(Algorithm::HS256, &claims, SECRET), "another client").await;
    (claims["client_id"], claims["aud"]) = ("chat".into(), "other".into());
    setup.refuses(&signed(Algorithm::HS256, &claims, SECRET), "aud counts more").await;
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let setup = secret();
    let claims = setup.claims();
    let good = signed(Algorithm::HS256, &claims, SECRET);
    assert!(setup.auth.verify(&good).await.is_ok());
    let (head, signature) = good.rsplit_once('.').unwrap();

    for header in [json!({"alg": "none"}), json!({"alg": "None", "typ": "JWT"}), json!({"typ": "JWT"})] {
        let unsigned = format!("{}.{}", part(&header), part(&claims));
        setup.refuses(&format!("{unsigned}."), "alg none").await;
        setup.refuses(&format!("{unsigned}.{signature}"), "alg none, some signature").await;
    }
    setup.refuses(&format!("{head}."), "no signature").await;
    setup.refuses(head, "two parts").await;
    for text in ["", ".", "..", "a.b.c", "Bearer", &"a".repeat(9_000)] {
        setup.refuses(text, "no token").await;
    }
    let another = signed(Algorithm::HS256, &claims, &"x".repeat(32));
    setup.refuses(&another, "another key").await;
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        setup.refuses(&signed(algorithm, &claims, SECRET), "another algorithm").await;
    }
    let mut changed = claims.clone();
    changed["sub"] = "1".into();
    let header = good.split('.').next().unwrap();
    setup.refuses(&format!("{header}.{}.{signature}", part(&changed)), "changed claims").await;
    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::HS256) };
    let critical =
        jsonwebtoken::encode(&critical, &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    setup.refuses(&critical, "critical extension").await;
}

#[tokio::test]
async fn every_claim_must_be_in_order() {
    let setup = secret();
    let now = setup.clock.now_ms() / 1_000;
    let cases = [
        ("exp", Value::Null),
        ("exp", json!("tomorrow")),
        ("exp", json!((now + 60).to_string())),
        ("exp", json!(now - 10)),
        ("exp", json!(0)),
        ("exp", json!(-1)),
        ("nbf", json!(now + 60)),
        ("nbf", json!("now")),
        ("nbf", Value::Null),
        ("sub", Value::Null),
        ("sub", json!(7)),
        ("sub", json!("")),
        ("sub", json!("0")),
        ("sub", json!("-1")),
        ("sub", json!("01")),
        ("sub", json!("alice")),
        ("sub", json!("9223372036854775808")),
        ("sub", json!(["1"])),
    ];
    for (name, value) in cases {
        let mut claims = setup.claims();
        claims[name] = value;
        setup.refuses(&signed(Algorithm::HS256, &claims, SECRET), &claims.to_string()).await;
    }
    for name in ["exp", "sub"] {
        let mut claims = setup.claims();
        claims.as_object_mut().unwrap().remove(name);
        setup.refuses(&signed(Algorithm::HS256, &claims, SECRET), &format!("no {name}")).await;
    }
    for no_object in [json!([]), json!("1"), json!(1), Value::Null] {
        setup.refuses(&signed(Algorithm::HS256, &no_object, SECRET), "claims that are no object").await;
    }
}

#[tokio::test]
async fn issuer_and_audience_are_checked_where_they_are_set() {
    let key = || AuthKey::Secret(SECRET.to_owned().into());
    let setup = setup(key(), Some("https://login.example.com"), Some("hongyan"));
    let accepted = |iss: Value, aud: Value| {
        let mut claims = setup.claims();
        claims["iss"] = iss;
        claims["aud"] = aud;
        let token = signed(Algorithm::HS256, &claims, SECRET);
        let auth = setup.auth.clone();
        async move { auth.verify(&token).await.is_ok() }
    };
    let issuer = || json!("https://login.example.com");
    assert!(accepted(issuer(), json!("hongyan")).await);
    assert!(accepted(issuer(), json!(["other", "hongyan"])).await);
    assert!(!accepted(json!("https://evil.example.com"), json!("hongyan")).await);
    assert!(!accepted(issuer(), json!(["other"])).await);
    assert!(!accepted(issuer(), Value::Null).await);
    assert!(!accepted(Value::Null, json!("hongyan")).await);
    let user = UserId::new(1).unwrap();
    let own = setup.auth.issue(user, setup.clock.now_ms(), Duration::from_mins(1)).unwrap();
    assert_eq!(setup.auth.verify(&own).await.unwrap(), user);
}

#[tokio::test]
async fn claims_are_handed_on_as_text() {
    let setup = secret();
    let mut claims = setup.claims();
    claims["groups"] = json!(["a", "b"]);
    claims["admin"] = json!(true);
    let checked = setup.auth.check(&signed(Algorithm::HS256, &claims, SECRET)).await.unwrap();
    assert_eq!(checked.claims["sub"], USER.to_string());
    assert_eq!(checked.claims["exp"], claims["exp"].to_string());
    assert_eq!((checked.claims["groups"].as_str(), checked.claims["admin"].as_str()), ("[a b]", "true"));
}

/// A key pair as its owner has it.
struct Pair {
    id: &'static str,
    algorithm: Algorithm,
    sign: EncodingKey,
}

impl Pair {
    fn elliptic(id: &'static str) -> Self {
        use p256::pkcs8::EncodePrivateKey;
        let key = p256::SecretKey::random(&mut rsa::rand_core::OsRng);
        Self {
            id,
            algorithm: Algorithm::ES256,
            sign: EncodingKey::from_ec_der(key.to_pkcs8_der().unwrap().as_bytes()),
        }
    }

    fn rsa(id: &'static str) -> Self {
        use rsa::pkcs1::EncodeRsaPrivateKey;
        // A short key is fast to make, and protects nothing here.
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1_024).unwrap();
        Self {
            id,
            algorithm: Algorithm::RS256,
            sign: EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes()),
        }
    }

    fn public(&self) -> Jwk {
        let mut key = Jwk::from_encoding_key(&self.sign, self.algorithm).unwrap();
        key.common.key_id = Some(self.id.to_owned());
        key
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.to_owned());
        jsonwebtoken::encode(&header, claims, &self.sign).unwrap()
    }
}

/// An identity provider on a real socket: answers every request with the set that it was last given, and counts the
/// requests.
struct Provider {
    url: url::Url,
    set: Arc<Mutex<String>>,
    requests: Arc<watch::Sender<usize>>,
    /// While this is true, no request is answered.
    held: Arc<watch::Sender<bool>>,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let set = Arc::new(Mutex::new(String::new()));
        let requests = Arc::new(watch::Sender::new(0));
        let held = Arc::new(watch::Sender::new(false));
        let (answer, count, gate) = (set.clone(), requests.clone(), held.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                count.send_modify(|count| *count += 1);
                gate.subscribe().wait_for(|held| !held).await.unwrap();
                let body = answer.lock().clone();
                let status = if body.is_empty() { "503 No" } else { "200 OK" };
                let status_and_headers = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((status_and_headers + &body).as_bytes()).await;
            }
        });
        Self { url: url.parse().unwrap(), set, requests, held }
    }

    fn publish(&self, keys: Vec<Jwk>) {
        self.answer(&serde_json::to_string(&JwkSet { keys }).unwrap());
    }

    /// Answers with `body` from now on; with 503 if `body` is empty.
    fn answer(&self, body: &str) {
        body.clone_into(&mut self.set.lock());
    }

    fn requests(&self) -> usize {
        *self.requests.borrow()
    }

    async fn asked(&self, times: usize) {
        let mut requests = self.requests.subscribe();
        let asked = requests.wait_for(|&requests| requests >= times);
        tokio::time::timeout(Duration::from_secs(10), asked).await.expect("a request").unwrap();
    }
}

/// Every token that asks for a newer set causes a fetch.
fn without_pauses() -> jwks::Pauses {
    jwks::Pauses { refetch: Duration::ZERO, without_keys: Duration::ZERO, ..jwks::Pauses::default() }
}

/// `setup`, with other pauses between fetches.
fn fetching(provider: &Provider, pauses: jwks::Pauses) -> Setup {
    let mut setup = setup(AuthKey::Jwks(provider.url.clone()), None, None);
    setup.auth = Auth(Arc::new(Inner {
        key: Key::Jwks(Jwks::new(provider.url.clone(), pauses)),
        issuer: None,
        audience: None,
        user_claim: "sub".to_owned(),
        clock: setup.clock.clone(),
    }));
    setup
}

#[tokio::test]
async fn public_keys_are_fetched_kept_and_fetched_again_for_a_new_one() {
    let provider = Provider::start().await;
    let (first, second) = (Pair::elliptic("first"), Pair::rsa("second"));
    let setup = fetching(&provider, without_pauses());
    let claims = setup.claims();

    let away = setup.auth.verify(&first.sign(&claims)).await;
    assert!(matches!(away, Err(ApiError::Unavailable(_))), "nobody can say whether it is good: {away:?}");
    provider.publish(vec![first.public()]);
    for _ in 0..3 {
        assert!(setup.auth.verify(&first.sign(&claims)).await.is_ok());
    }
    assert_eq!(provider.requests(), 2, "a known key is kept");

    provider.publish(vec![first.public(), second.public()]);
    assert!(setup.auth.verify(&second.sign(&claims)).await.is_ok());
    assert!(setup.auth.verify(&first.sign(&claims)).await.is_ok());
    assert_eq!(provider.requests(), 3);

    provider.answer("");
    setup.refuses(&Pair::elliptic("third").sign(&claims), "the provider is away").await;
    assert!(setup.auth.verify(&first.sign(&claims)).await.is_ok(), "known keys go on being used");
}

#[tokio::test]
async fn forged_key_names_make_no_requests() {
    let provider = Provider::start().await;
    let key = Pair::elliptic("first");
    provider.publish(vec![key.public()]);
    let setup = fetching(&provider, jwks::Pauses::default());
    let claims = setup.claims();
    assert!(setup.auth.verify(&key.sign(&claims)).await.is_ok());
    for _ in 0..10 {
        setup.refuses(&Pair::elliptic("forged").sign(&claims), "unknown key").await;
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret_and_no_other_key_will_do() {
    let provider = Provider::start().await;
    let ours = Pair::elliptic("ours");
    let mut for_encryption = Pair::elliptic("enc").public();
    for_encryption.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Encryption);
    let public = ours.public();
    provider.publish(vec![public.clone(), for_encryption]);
    let setup = setup(AuthKey::Jwks(provider.url.clone()), None, None);
    let claims = setup.claims();
    assert!(setup.auth.verify(&ours.sign(&claims)).await.is_ok());

    let confused = Header { kid: Some("ours".to_owned()), ..Header::new(Algorithm::HS256) };
    let secret = serde_json::to_vec(&public).unwrap();
    let confused = jsonwebtoken::encode(&confused, &claims, &EncodingKey::from_secret(&secret)).unwrap();
    setup.refuses(&confused, "HS256 with the public key").await;
    setup.refuses(&Pair::elliptic("ours").sign(&claims), "same name, another key").await;
    setup.refuses(&Pair::elliptic("theirs").sign(&claims), "unknown key").await;
    setup.refuses(&Pair::rsa("ours").sign(&claims), "RS256 with an EC key").await;
    assert!(matches!(
        setup.auth.issue(UserId::new(1).unwrap(), 0, Duration::from_secs(1)),
        Err(CannotIssue::NotOurKey)
    ));
}

#[tokio::test]
async fn a_good_token_does_not_wait_while_keys_are_fetched_for_another() {
    let provider = Provider::start().await;
    let key = Pair::elliptic("first");
    provider.publish(vec![key.public()]);
    let setup = fetching(&provider, without_pauses());
    let good = key.sign(&setup.claims());
    assert!(setup.auth.verify(&good).await.is_ok());

    provider.held.send_replace(true);
    let unknown = Pair::elliptic("unknown").sign(&setup.claims());
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (auth, unknown) = (setup.auth.clone(), unknown.clone());
            tokio::spawn(async move { auth.verify(&unknown).await })
        })
        .collect();
    provider.asked(2).await;
    for _ in 0..100 {
        assert!(setup.auth.verify(&good).await.is_ok());
    }
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "the fetch was still under way");

    provider.held.send_replace(false);
    for refused in waiting {
        assert!(matches!(refused.await.unwrap(), Err(ApiError::Unauthorized)));
    }
    assert_eq!(provider.requests(), 2, "all wait for one fetch");
}

#[tokio::test]
async fn an_answer_without_a_usable_key_takes_no_known_key_away() {
    let provider = Provider::start().await;
    let key = Pair::elliptic("first");
    let setup = fetching(&provider, without_pauses());
    let good = key.sign(&setup.claims());
    let useless = [
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"first"}]}"#,
        r#"{"keys":[{"kty":"RSA","kid":"first"},7,null]}"#,
        r#"{"keys":7}"#,
        "{}",
        "[]",
        "<html>",
        "",
    ];
    for useless in useless {
        provider.answer(useless);
        let answer = setup.auth.verify(&good).await;
        assert!(matches!(answer, Err(ApiError::Unavailable(_))), "there is no key yet: {useless}");
    }

    provider.publish(vec![key.public()]);
    assert!(setup.auth.verify(&good).await.is_ok());
    for useless in useless {
        provider.answer(useless);
        setup.refuses(&Pair::elliptic("unknown").sign(&setup.claims()), useless).await;
        assert!(setup.auth.verify(&good).await.is_ok(), "{useless}");
    }
    assert_eq!(provider.requests(), 2 * useless.len() + 1, "each was fetched");
}

#[tokio::test]
async fn an_outdated_set_is_renewed_beside_the_tokens_and_used_for_a_bounded_time() {
    let provider = Provider::start().await;
    let (first, second) = (Pair::elliptic("first"), Pair::elliptic("second"));
    provider.publish(vec![first.public()]);
    let setup = fetching(&provider, jwks::Pauses { keep: Duration::ZERO, ..without_pauses() });
    let (of_first, of_second) = (first.sign(&setup.claims()), second.sign(&setup.claims()));
    assert!(setup.auth.verify(&of_first).await.is_ok());

    // The key is used while the set is fetched, and refused once the new set lacks it.
    provider.held.send_replace(true);
    provider.publish(vec![second.public()]);
    assert!(setup.auth.verify(&of_first).await.is_ok());
    provider.asked(2).await;
    assert!(setup.auth.verify(&of_first).await.is_ok());
    provider.held.send_replace(false);
    assert!(setup.auth.verify(&of_second).await.is_ok());
    setup.refuses(&of_first, "withdrawn").await;

    // After the grace an older set is not used.
    let pauses = jwks::Pauses { keep: Duration::ZERO, grace: Duration::ZERO, ..without_pauses() };
    let setup = fetching(&provider, pauses);
    provider.answer("");
    let answer = setup.auth.verify(&of_second).await;
    assert!(matches!(answer, Err(ApiError::Unavailable(_))), "{answer:?}");
}

#[tokio::test]
async fn a_key_that_takes_over_a_name_is_found() {
    let provider = Provider::start().await;
    let (old, new, of_another_kind) = (Pair::elliptic("key"), Pair::elliptic("key"), Pair::rsa("key"));
    provider.publish(vec![old.public()]);
    let setup = fetching(&provider, without_pauses());
    let claims = setup.claims();
    assert!(setup.auth.verify(&old.sign(&claims)).await.is_ok());
    for key in [new, of_another_kind] {
        provider.publish(vec![key.public()]);
        assert!(setup.auth.verify(&key.sign(&claims)).await.is_ok());
        assert!(setup.auth.verify(&key.sign(&claims)).await.is_ok());
    }
    assert_eq!(provider.requests(), 3);
    setup.refuses(&old.sign(&claims), "its name is another's").await;
}

#[tokio::test]
async fn forged_signatures_make_one_request_a_minute() {
    let provider = Provider::start().await;
    let key = Pair::elliptic("key");
    provider.publish(vec![key.public()]);
    let setup = fetching(&provider, jwks::Pauses::default());
    let claims = setup.claims();
    assert!(setup.auth.verify(&key.sign(&claims)).await.is_ok());
    let forged = [Pair::elliptic("key"), Pair::rsa("key")].map(|key| key.sign(&claims));
    for _ in 0..10 {
        for forged in &forged {
            setup.refuses(forged, "forged").await;
        }
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn a_token_without_a_key_name_fits_one_key_and_none_of_several() {
    let provider = Provider::start().await;
    let key = Pair::elliptic("key");
    provider.publish(vec![key.public()]);
    let setup = fetching(&provider, without_pauses());
    let nameless = jsonwebtoken::encode(&Header::new(key.algorithm), &setup.claims(), &key.sign).unwrap();
    assert!(setup.auth.verify(&nameless).await.is_ok());

    provider.publish(vec![key.public(), Pair::rsa("other").public()]);
    setup.refuses(&Pair::elliptic("unknown").sign(&setup.claims()), "fetches the set").await;
    let requests = provider.requests();
    setup.refuses(&nameless, "one of two").await;
    assert_eq!(provider.requests(), requests, "no newer set would tell");
}

#[tokio::test]
async fn keys_that_are_not_understood_spoil_no_other() {
    let provider = Provider::start().await;
    let key = Pair::elliptic("key");
    let ours = serde_json::to_string(&key.public()).unwrap();
    provider
        .answer(&format!(r#"{{"keys":[null,7,{{}},{{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}},{ours}]}}"#));
    let setup = fetching(&provider, jwks::Pauses::default());
    assert!(setup.auth.verify(&key.sign(&setup.claims())).await.is_ok());
}
