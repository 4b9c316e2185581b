//! Authentication: JSON Web Tokens (RFC 7519), checked like the JWT authorizer of an HTTP API.
//!
//! The configuration alone decides the algorithm. The algorithm in a token's header is only compared with it, so
//! neither `alg: none` nor a public key used as a shared secret gets through.

mod handshake;
mod jwks;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::{Clock, TimestampMs};
use crate::config::{AuthConfig, AuthKey};
use crate::error::ApiError;
use crate::id::UserId;
pub use handshake::{Handshake, SUBPROTOCOL};
use jwks::Jwks;

/// The most that the clocks of two machines differ, seconds.
const LEEWAY_SECONDS: f64 = 5.0;

/// The longest token that is read, bytes: as much as fits into one header.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Verifies tokens, and issues them if there is a shared secret. Cheap to clone.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    key: Key,
    issuer: Option<String>,
    audience: Option<String>,
    user_claim: String,
    clock: Clock,
}

enum Key {
    Secret { check: DecodingKey, secret: SecretString },
    Jwks(Jwks),
}

/// A verified token.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The caller.
    pub user: UserId,
    /// The moment from which the token is not accepted any more, ms since 1970 UTC: its `exp` plus 5 s for clocks that
    /// differ.
    pub ends_at: TimestampMs,
    /// All claims as text, as API Gateway passes them to a function.
    pub claims: BTreeMap<String, String>,
}

/// A token cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum CannotIssue {
    /// The identity provider behind `JWT_JWKS_URL` issues the tokens.
    #[error("JWT_JWKS_URL is set: tokens come from that identity provider, not from here")]
    NotOurKey,
    /// The library could not sign it.
    #[error("the token cannot be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

impl Auth {
    /// Prepares the checks. Keys at an address are fetched when the first token arrives.
    pub fn new(config: &AuthConfig, clock: Clock) -> Self {
        let key = match &config.key {
            AuthKey::Secret(secret) => Key::Secret {
                check: DecodingKey::from_secret(secret.expose_secret().as_bytes()),
                secret: secret.clone(),
            },
            AuthKey::Jwks(url) => Key::Jwks(Jwks::new(url.clone(), jwks::Pauses::default())),
        };
        let (issuer, audience) = (config.issuer.clone(), config.audience.clone());
        Self(Arc::new(Inner { key, issuer, audience, user_claim: config.user_claim.clone(), clock }))
    }

    /// The claim with the caller's user id: `JWT_USER_CLAIM`.
    pub fn user_claim(&self) -> &str {
        &self.0.user_claim
    }

    /// The user of a token. [`ApiError::Unauthorized`] if the token is not valid; [`ApiError::Unavailable`] if the keys
    /// to verify it cannot be fetched.
    pub async fn verify(&self, token: &str) -> Result<UserId, ApiError> {
        Ok(self.check(token).await?.user)
    }

    /// As [`Self::verify`], with all claims.
    pub async fn check(&self, token: &str) -> Result<Verified, ApiError> {
        let refused = |reason: &dyn fmt::Display| {
            tracing::debug!(reason = %reason, "auth.check: token refused");
            ApiError::Unauthorized
        };
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused(&"longer than 8 KiB"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| refused(&error))?;
        if header.crit.is_some() {
            // RFC 7515, 4.1.11: `crit` names extensions that a reader must understand, and this one understands none.
            return Err(refused(&"has critical extensions"));
        }
        let claims = match &self.0.key {
            Key::Secret { check, .. } => decode(token, check, Algorithm::HS256),
            Key::Jwks(jwks) => {
                let id = header.kid.as_deref();
                let key = jwks.key(id).await?;
                let key = key.ok_or_else(|| refused(&"signed with a key that is not known"))?;
                match decode(token, &key.check, key.algorithm) {
                    // The provider may have given the key's name to another key.
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm
                        ) =>
                    {
                        match jwks.successor(id, &key).await {
                            Some(key) => decode(token, &key.check, key.algorithm),
                            None => Err(error),
                        }
                    }
                    decoded => decoded,
                }
            }
        };
        let claims = claims.map_err(|error| refused(&error))?;
        self.0.examine(claims).map_err(|reason| refused(&reason))
    }

    /// Issues a token for `user`, valid from `now` for `lifetime`. Needs `JWT_SECRET`.
    pub fn issue(&self, user: UserId, now: TimestampMs, lifetime: Duration) -> Result<String, CannotIssue> {
        let Key::Secret { secret, .. } = &self.0.key else {
            return Err(CannotIssue::NotOurKey);
        };
        let now = now / 1_000;
        let expiry = now.saturating_add_unsigned(lifetime.as_secs());
        let mut claims = json!({ "iat": now, "nbf": now, "exp": expiry });
        claims[&self.0.user_claim] = user.to_string().into();
        for (name, value) in [("iss", &self.0.issuer), ("aud", &self.0.audience)] {
            if let Some(value) = value {
                claims[name] = value.as_str().into();
            }
        }
        let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("issuer", &self.0.issuer)
            .field("audience", &self.0.audience)
            .finish_non_exhaustive()
    }
}

type Claims = serde_json::Map<String, Value>;

/// Checks the signature and nothing else: for the times the library would use the machine's clock.
fn decode(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<Claims, jsonwebtoken::errors::Error> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    Ok(jsonwebtoken::decode::<Claims>(token, key, &validation)?.claims)
}

/// `aud` is one text or a list (RFC 7519, 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(audience) => audience == wanted,
            Self::Several(audiences) => audiences.iter().any(|audience| audience == wanted),
        }
    }
}

impl Inner {
    /// Checks the claims of a token whose signature is right.
    fn examine(&self, claims: Claims) -> Result<Verified, &'static str> {
        // A time claim: seconds, possibly with a fraction (RFC 7519, "NumericDate").
        #[expect(clippy::cast_precision_loss, reason = "ms since 1970 stay below 2^53 for 285,000 years")]
        let now = self.clock.now_ms() as f64 / 1_000.0;
        let expiry = claims.get("exp").and_then(Value::as_f64).ok_or("has no exp that is a number")?;
        let end = expiry + LEEWAY_SECONDS;
        if now >= end {
            return Err("has expired");
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a token without an end in sight ends at the last ms there is"
        )]
        let ends_at = (end * 1_000.0) as TimestampMs;
        if let Some(not_before) = claims.get("nbf") {
            let not_before = not_before.as_f64().ok_or("has an nbf that is not a number")?;
            if now < not_before - LEEWAY_SECONDS {
                return Err("is not valid yet");
            }
        }
        if let Some(wanted) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(wanted)
        {
            return Err("is of another issuer");
        }
        if let Some(wanted) = &self.audience {
            // A token without `aud` is judged by its `client_id`, as API Gateway does: Cognito's access tokens have only that.
            let audience = claims.get("aud").or_else(|| claims.get("client_id")).cloned().unwrap_or_default();
            if !serde_json::from_value::<Audience>(audience).is_ok_and(|audience| audience.has(wanted)) {
                return Err("is for another audience");
            }
        }
        let user = claims.get(&self.user_claim).and_then(Value::as_str);
        let user = user.ok_or("has no claim JWT_USER_CLAIM that is a text")?;
        let user = user.parse().map_err(|_| "has a claim JWT_USER_CLAIM that is not a user id")?;
        let claims = claims.into_iter().map(|(name, value)| (name, as_text(value))).collect();
        Ok(Verified { user, ends_at, claims })
    }
}

/// A claim as API Gateway passes it on: `["a","b"]` as `[a b]`, a number as its digits.
fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(items) => {
            let items: Vec<String> = items.into_iter().map(as_text).collect();
            format!("[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
