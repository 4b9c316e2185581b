//! The public keys of an identity provider (RFC 7517): a set of keys that is fetched in the background and kept.
//!
//! A token whose key is known never waits for a fetch. A token that needs a newer set waits for one fetch, which all
//! such tokens share. Tokens cause at most one fetch a minute
//! (`docs/decisions/0040-keys-are-fetched-beside-requests.md`).

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::error::ApiError;
use crate::outbound::{self, HttpClient};
use crate::telemetry::limiter::Limiter;

/// The times after which the set is fetched again or not used any more.
pub(super) struct Pauses {
    /// The shortest time between two fetches while there are keys (1 min). An unknown key may be a new one, but a
    /// forged token is not worth a request each.
    pub(super) refetch: Duration,
    /// The shortest time between two fetches while there are no keys (1 s). Nobody gets in without keys, so the next
    /// try comes sooner.
    pub(super) without_keys: Duration,
    /// The age at which a set is fetched again (1 h), so that a withdrawn key is forgotten.
    pub(super) keep: Duration,
    /// How much longer an older set is used if the provider gives no new one (24 h).
    pub(super) grace: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            refetch: Duration::from_mins(1),
            without_keys: Duration::from_secs(1),
            keep: Duration::from_hours(1),
            grace: Duration::from_hours(24),
        }
    }
}

/// The longest that one fetch takes, and that a token waits for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// The most bytes of a set.
const MAX_BYTES: usize = 1024 * 1024;
/// The most keys of a set that are kept; providers publish a handful.
const MAX_KEYS: usize = 100;
/// The shortest time between two warnings that the set cannot be fetched.
const WARN_EVERY: Duration = Duration::from_mins(1);

type FetchError = Box<dyn std::error::Error + Send + Sync>;

/// A public key and its only algorithm.
pub(super) struct PublicKey {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) check: DecodingKey,
}

/// The keys at one address. Cheap to clone.
#[derive(Clone)]
pub(super) struct Jwks(Arc<Inner>);

struct Inner {
    url: Url,
    client: HttpClient,
    pauses: Pauses,
    /// The newest set. It is replaced as a whole, so a reader holds the lock only for a clone.
    current: RwLock<Option<Arc<KeySet>>>,
    fetches: Mutex<Fetches>,
    warnings: Limiter,
}

/// The usable keys of one answer of the provider, at least one.
struct KeySet {
    keys: Vec<Arc<PublicKey>>,
    fetched: Instant,
}

/// The fetches so far.
#[derive(Default)]
struct Fetches {
    /// When the last fetch began.
    begun: Option<Instant>,
    /// Closed when the last fetch has ended.
    running: Option<watch::Receiver<()>>,
}

impl Jwks {
    pub(super) fn new(url: Url, pauses: Pauses) -> Self {
        Self(Arc::new(Inner {
            url,
            client: outbound::client(FETCH_TIMEOUT),
            pauses,
            current: RwLock::default(),
            fetches: Mutex::default(),
            warnings: Limiter::new(WARN_EVERY),
        }))
    }

    /// The key named `id`; without a name, the set's only key. Returns at once if the key is known, and waits at most 3
    /// s if a newer set may have it. [`ApiError::Unavailable`] if there is no set that may be used.
    pub(super) async fn key(&self, id: Option<&str>) -> Result<Option<Arc<PublicKey>>, ApiError> {
        let pauses = &self.0.pauses;
        if let Some(set) = self.usable_set() {
            let found = set.find(id);
            let outdated = set.fetched.elapsed() >= pauses.keep;
            // A token without a key name cannot choose among several keys, and a newer set would not change that.
            if found.is_some() || id.is_none() {
                if outdated {
                    let _ = self.fetch_if_due();
                }
                return Ok(found);
            }
        }
        if let Some(fetch) = self.fetch_if_due() {
            wait_for(fetch).await;
        }
        let set = self.usable_set().ok_or(ApiError::Unavailable(None))?;
        Ok(set.find(id))
    }

    /// The key that has replaced `old` under the same name, if there is one: for a token whose signature does not match
    /// `old`. Waits at most 3 s.
    pub(super) async fn successor(&self, id: Option<&str>, old: &Arc<PublicKey>) -> Option<Arc<PublicKey>> {
        let newer = || self.usable_set()?.find(id).filter(|key| !Arc::ptr_eq(key, old));
        if let Some(key) = newer() {
            return Some(key);
        }
        wait_for(self.fetch_if_due()?).await;
        newer()
    }

    /// The newest set, unless its age exceeds `keep` plus `grace`.
    fn usable_set(&self) -> Option<Arc<KeySet>> {
        let set = self.0.current.read().clone()?;
        (set.fetched.elapsed() < self.0.pauses.keep + self.0.pauses.grace).then_some(set)
    }

    /// The running fetch, or a new one if the last began long enough ago.
    fn fetch_if_due(&self) -> Option<watch::Receiver<()>> {
        let pause =
            if self.usable_set().is_some() { self.0.pauses.refetch } else { self.0.pauses.without_keys };
        let mut fetches = self.0.fetches.lock();
        // A channel whose sender is dropped returns an error: that fetch has ended.
        if let Some(running) = fetches.running.as_ref().filter(|running| running.has_changed().is_ok()) {
            return Some(running.clone());
        }
        if fetches.begun.is_some_and(|begun| begun.elapsed() < pause) {
            return None;
        }
        fetches.begun = Some(Instant::now());
        let (done, running) = watch::channel(());
        fetches.running = Some(running.clone());
        let inner = self.0.clone();
        // A task of its own, since the request that starts the fetch may be cancelled.
        tokio::spawn(async move {
            inner.refresh().await;
            drop(done);
        });
        Some(running)
    }
}

/// Waits until the fetch has ended, or its time limit has passed.
async fn wait_for(mut fetch: watch::Receiver<()>) {
    let _ = timeout(FETCH_TIMEOUT, fetch.changed()).await;
}

impl Inner {
    /// Replaces the set by the provider's. If that has no usable key, the known keys stay: a provider that is away or
    /// answers nonsense must not lock everybody out.
    async fn refresh(&self) {
        let answer = timeout(FETCH_TIMEOUT, self.fetch()).await;
        match answer.unwrap_or_else(|_| Err("no answer within 3 s".into())) {
            Ok(keys) => {
                tracing::info!(url = %self.url, keys = keys.len(), "auth.jwks: keys fetched");
                let set = Arc::new(KeySet { keys, fetched: Instant::now() });
                *self.current.write() = Some(set);
            }
            Err(error) => {
                if let Some(left_out) = self.warnings.admit("unreadable") {
                    tracing::warn!(url = %self.url, %error, left_out, "auth.jwks: JWT_JWKS_URL cannot be read; will try again");
                }
            }
        }
    }

    /// The usable keys of the provider's answer. An answer without any is an error.
    async fn fetch(&self) -> Result<Vec<Arc<PublicKey>>, FetchError> {
        let request = http::Request::get(self.url.as_str()).body(Full::default())?;
        let response = self.client.request(request).await?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("answered {}", response.status()).into());
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await?.to_bytes();
        let set: Published = serde_json::from_slice(&body)?;
        let all = set.keys.len();
        // RFC 7517, 5: a key that is not understood is ignored.
        let read = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: Vec<_> = read.filter_map(|key| usable(&key)).take(MAX_KEYS).map(Arc::new).collect();
        if keys.is_empty() {
            return Err(format!("none of its {all} keys can be used (RS256 or ES256, for signatures)").into());
        }
        Ok(keys)
    }
}

/// The provider's answer.
#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl KeySet {
    fn find(&self, id: Option<&str>) -> Option<Arc<PublicKey>> {
        match (id, &self.keys[..]) {
            (Some(_), keys) => keys.iter().find(|key| key.id.as_deref() == id).cloned(),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        }
    }
}

/// The key, if it can be used: RS256 for RSA, ES256 for P-256, and not marked for another purpose. The algorithm comes
/// from the key, never from a token.
fn usable(key: &Jwk) -> Option<PublicKey> {
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let stated = match key.common.key_algorithm {
        None => true,
        Some(KeyAlgorithm::RS256) => algorithm == Algorithm::RS256,
        Some(KeyAlgorithm::ES256) => algorithm == Algorithm::ES256,
        Some(_) => false,
    };
    let signs = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
    if !stated || !signs {
        return None;
    }
    Some(PublicKey { id: key.common.key_id.clone(), algorithm, check: DecodingKey::from_jwk(key).ok()? })
}
