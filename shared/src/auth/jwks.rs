//! The public keys of an identity provider (RFC 7517), fetched when needed and kept.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use crate::error::ApiError;
use crate::outbound::{self, HttpClient};

/// When the set is fetched again.
pub(super) struct Pauses {
    /// A key that is not known may be new, but not every forged token is worth a request (1 min).
    pub(super) refetch: Duration,
    /// As long as there are no keys at all nobody gets in, so the next try comes sooner (1 s).
    pub(super) without_keys: Duration,
    /// A key that was withdrawn must be forgotten some day (1 h).
    pub(super) keep: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            refetch: Duration::from_mins(1),
            without_keys: Duration::from_secs(1),
            keep: Duration::from_hours(1),
        }
    }
}

/// The longest wait for the set.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// The most bytes that a set may have.
const MAX_BYTES: usize = 1024 * 1024;

/// A public key and the one algorithm that it is for.
pub(super) struct PublicKey {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) check: DecodingKey,
}

/// The keys behind one address.
pub(super) struct Jwks {
    url: Url,
    client: HttpClient,
    pauses: Pauses,
    // Held while fetching, so that many callers wait for one fetch.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Vec<Arc<PublicKey>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

impl Jwks {
    pub(super) fn new(url: Url, pauses: Pauses) -> Self {
        Self { url, client: outbound::client(FETCH_TIMEOUT), pauses, state: Mutex::default() }
    }

    /// The key named `id`; without a name, the only one there is. [`ApiError::Unavailable`] if no keys could be had.
    pub(super) async fn key(&self, id: Option<&str>) -> Result<Option<Arc<PublicKey>>, ApiError> {
        let mut state = self.state.lock().await;
        let found = find(&state.keys, id);
        let outdated = state.fetched.is_none_or(|at| at.elapsed() >= self.pauses.keep);
        if found.is_some() && !outdated {
            return Ok(found);
        }
        let pause = if state.fetched.is_some() { self.pauses.refetch } else { self.pauses.without_keys };
        if state.tried.is_none_or(|at| at.elapsed() >= pause) {
            state.tried = Some(Instant::now());
            match self.fetch().await {
                Ok(keys) => {
                    tracing::info!(url = %self.url, keys = keys.len(), "auth.jwks: keys fetched");
                    state.keys = keys;
                    state.fetched = Some(Instant::now());
                }
                // Known keys go on being used: an identity provider that is away must not lock everybody out.
                Err(error) => {
                    tracing::warn!(url = %self.url, %error, "auth.jwks: JWT_JWKS_URL cannot be read; will try again");
                }
            }
        }
        if state.fetched.is_none() {
            return Err(ApiError::Unavailable(None));
        }
        Ok(find(&state.keys, id))
    }

    async fn fetch(&self) -> Result<Vec<Arc<PublicKey>>, Box<dyn std::error::Error + Send + Sync>> {
        let request = http::Request::get(self.url.as_str()).body(Full::default())?;
        let body = tokio::time::timeout(FETCH_TIMEOUT, async {
            let response = self.client.request(request).await?;
            if response.status() != http::StatusCode::OK {
                return Err(format!("answered {}", response.status()).into());
            }
            Limited::new(response.into_body(), MAX_BYTES).collect().await
        })
        .await??
        .to_bytes();
        let set: JwkSet = serde_json::from_slice(&body)?;
        Ok(set.keys.iter().filter_map(usable).map(Arc::new).collect())
    }
}

fn find(keys: &[Arc<PublicKey>], id: Option<&str>) -> Option<Arc<PublicKey>> {
    match (id, keys) {
        (Some(_), _) => keys.iter().find(|key| key.id.as_deref() == id).cloned(),
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    }
}

/// RS256 for an RSA key, ES256 for one on P-256; any other key, or one that says it is for something else, is not for
/// us. The algorithm comes from the key, never from a token.
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
