//! Settings from AWS Secrets Manager, read once at a cold start. A password in a function's environment could be read
//! by everybody who may look at the function.
//!
//! Two variables name secrets; both are optional. A setting that is in the environment itself wins over the one in a
//! secret.
//! - `SETTINGS_SECRET_ARN`: a JSON object of settings, such as `{"REDIS_URL": "…", "MYSQL_URL": "…"}`;
//! - `KAFKA_SASL_SECRET_ARN`: `{"username": "…", "password": "…"}`, the form of a secret that an MSK cluster shares
//!   with its clients. It gives `KAFKA_SASL_USERNAME` and `KAFKA_SASL_PASSWORD`.
//!
//! The call is signed by hand (`signature.rs`), since the SDK would be most of the binary. The Lambda extension
//! for secrets is no way either: it answers only after the first invocation has begun.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use crate::clock::Clock;
use crate::outbound::{self, HttpClient};
use crate::signature::{SignFailure, Signer};

/// The variable that names the secret with settings.
pub const SETTINGS: &str = "SETTINGS_SECRET_ARN";
/// The variable that names the secret with Kafka's user.
pub const KAFKA_SASL: &str = "KAFKA_SASL_SECRET_ARN";
/// The address of Secrets Manager, if it is not the usual one. AWS's own tools know this variable too.
const ENDPOINT: &str = "AWS_ENDPOINT_URL_SECRETS_MANAGER";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The limit of one try. Three tries fit into the 10 s that Lambda allows a cold start.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: u32 = 3;
/// The most bytes of an answer. A secret has 64 KiB at most.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// A secret could not be read. The error never holds any of the secret.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct SecretError {
    variable: &'static str,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("must be the ARN of a secret")]
    NoArn,
    #[error("the process has no credentials for AWS and no region (AWS_REGION)")]
    NoCredentials,
    #[error("Secrets Manager does not answer: {0}")]
    Away(String),
    #[error("Secrets Manager answers {0}: {1}")]
    Refused(StatusCode, String),
    #[error("the secret must be a JSON object of texts{0}")]
    Form(&'static str),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error("the request cannot be signed: {0}")]
    Sign(#[from] SignFailure),
}

impl Reason {
    /// True if another try can end differently.
    fn may_pass(&self) -> bool {
        match self {
            Self::Away(_) => true,
            Self::Refused(status, _) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }
}

/// Settings by the names of their variables. They cannot be printed.
pub struct Secrets(Found);

impl Secrets {
    /// The value of a variable, if a secret has one.
    pub fn get(&self, variable: &str) -> Option<String> {
        self.0.get(variable).map(|value| value.expose_secret().to_owned())
    }
}

/// Reads the secrets that the variables of `lookup` name, with the credentials for AWS in `lookup`. An empty value
/// counts as not set. Takes 6 s at most, and nothing if no secret is named.
pub async fn settings(lookup: impl Fn(&str) -> Option<String>) -> Result<Secrets, SecretError> {
    let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let (mut settings, kafka) = future::try_join(
        named_by(SETTINGS, &lookup, parse_settings),
        named_by(KAFKA_SASL, &lookup, parse_kafka_user),
    )
    .await?;
    settings.extend(kafka);
    Ok(Secrets(settings))
}

type Found = BTreeMap<String, SecretString>;

async fn named_by(
    variable: &'static str,
    lookup: &impl Fn(&str) -> Option<String>,
    parse: fn(&str) -> Result<Found, Reason>,
) -> Result<Found, SecretError> {
    let Some(arn) = lookup(variable) else {
        return Ok(Found::new());
    };
    let found = read(lookup, &arn).await.and_then(|text| parse(text.expose_secret()));
    found.map_err(|reason| SecretError { variable, reason })
}

// serde's own words may quote the secret, so they are not repeated.

fn parse_settings(text: &str) -> Result<Found, Reason> {
    let settings: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|_| Reason::Form(", each named as its variable"))?;
    Ok(settings.into_iter().map(|(name, value)| (name, value.into())).collect())
}

fn parse_kafka_user(text: &str) -> Result<Found, Reason> {
    #[derive(Deserialize)]
    struct KafkaUser {
        username: String,
        password: String,
    }
    let user: KafkaUser = serde_json::from_str(text).map_err(|_| Reason::Form(", username and password"))?;
    Ok(Found::from([
        ("KAFKA_SASL_USERNAME".to_owned(), user.username.into()),
        ("KAFKA_SASL_PASSWORD".to_owned(), user.password.into()),
    ]))
}

/// Reads one secret, with as many tries as fit into a cold start.
async fn read(lookup: &impl Fn(&str) -> Option<String>, arn: &str) -> Result<SecretString, Reason> {
    let signer = Signer::from_lookup(lookup, Clock::system()).ok_or(Reason::NoCredentials)?;
    let endpoint = match lookup(ENDPOINT) {
        Some(endpoint) => endpoint,
        None => usual_endpoint(arn, signer.region())?,
    };
    let client = outbound::client(CONNECT_TIMEOUT);
    let mut tries = 1;
    loop {
        let answer = tokio::time::timeout(TRY_TIMEOUT, ask(&client, &signer, &endpoint, arn)).await;
        let reason = match answer {
            Ok(Ok(text)) => return Ok(text),
            Ok(Err(reason)) => reason,
            Err(_elapsed) => Reason::Away("no answer within 2 s".to_owned()),
        };
        if !reason.may_pass() || tries == TRIES {
            return Err(reason);
        }
        tries += 1;
    }
}

/// The address of Secrets Manager in the function's region. China has a domain of its own.
fn usual_endpoint(arn: &str, region: &str) -> Result<String, Reason> {
    match arn.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", partition, "secretsmanager", ..] => {
            let domain = if *partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
            Ok(format!("https://secretsmanager.{region}.{domain}"))
        }
        _ => Err(Reason::NoArn),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    secret_string: String,
}

/// One call of `GetSecretValue`.
async fn ask(
    client: &HttpClient,
    signer: &Signer,
    endpoint: &str,
    arn: &str,
) -> Result<SecretString, Reason> {
    let body = Bytes::from(json!({ "SecretId": arn }).to_string());
    let mut request = Request::post(format!("{}/", endpoint.trim_end_matches('/')))
        .header(http::header::CONTENT_TYPE, "application/x-amz-json-1.1")
        .header("x-amz-target", "secretsmanager.GetSecretValue")
        .body(Full::new(body.clone()))?;
    signer.sign("secretsmanager", &mut request, &body)?;
    let response = client.request(request).await.map_err(|error| Reason::Away(error.to_string()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| Reason::Away(error.to_string()))?
        .to_bytes();
    if !status.is_success() {
        return Err(Reason::Refused(status, refusal(&body)));
    }
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| Reason::Form(", kept as text"))?;
    Ok(answer.secret_string.into())
}

/// AWS's kind and message of an error; neither holds any of the secret.
fn refusal(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Refusal {
        #[serde(rename = "__type")]
        kind: String,
        #[serde(rename = "Message", alias = "message")]
        message: String,
    }
    let Refusal { kind, message } = serde_json::from_slice(body).unwrap_or_default();
    format!("{kind} {message}").trim().to_owned()
}

#[cfg(test)]
mod tests;
