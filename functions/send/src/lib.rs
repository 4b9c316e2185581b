//! `POST /messages`: accepts a message once it cannot be lost any more, and answers in milliseconds.
//!
//! A send is accepted when one durable place has it: Redis first, Kafka second (`docs/protocol.md`, R4). The consumer
//! writes it to MySQL.

mod accept;
mod request;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Instant;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::http::{HeaderName, HeaderValue};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, MessageView, Reply};
use hongyan::telemetry::metric;

use accept::{Accepted, Steps};
use request::SendRequest;

/// Tells a client how long the stores took, for example to show the way of a message.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Answers one request. Every failure is an answer too.
#[tracing::instrument(name = "send", skip_all)]
pub async fn handle(
    app: &App,
    event: ApiGatewayV2httpRequest,
) -> Result<ApiGatewayV2httpResponse, Infallible> {
    let began = Instant::now();
    let mut steps = Steps::default();
    let sent = send(app, &event, &mut steps).await;
    let outcome = match &sent {
        Ok(Reply::Ok(_)) => "repeated",
        Ok(_) => "accepted",
        Err(error) if error.status() < 500 => "refused",
        Err(_) => "failed",
    };
    metrics::counter!(metric::SENDS, "outcome" => outcome).increment(1);
    metrics::histogram!(metric::SEND_SECONDS).record(began.elapsed().as_secs_f64());
    let mut response = http::respond_to("send", "POST /messages", sent);
    if let Some(timing) = server_timing(steps) {
        response.headers.insert(SERVER_TIMING, timing);
    }
    Ok(response)
}

/// The value of `Server-Timing`: each store that has acknowledged the message, with the milliseconds that it took.
fn server_timing(steps: Steps) -> Option<HeaderValue> {
    let mut value = String::new();
    for (store, took) in [("redis", steps.redis), ("kafka", steps.kafka)] {
        let Some(took) = took else { continue };
        let separator = if value.is_empty() { "" } else { ", " };
        // Writing into a string cannot fail.
        let _ = write!(value, "{separator}{store};dur={:.1}", took.as_secs_f64() * 1_000.0);
    }
    if value.is_empty() { None } else { HeaderValue::from_str(&value).ok() }
}

async fn send(
    app: &App,
    event: &ApiGatewayV2httpRequest,
    steps: &mut Steps,
) -> Result<Reply<MessageView>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let request = SendRequest::parse(event, caller, app.rules.max_content_bytes)?;
    Ok(match accept::accept_once(app, request).await? {
        Accepted::New(message, took) => {
            *steps = took;
            Reply::Created(MessageView::of(message, caller))
        }
        Accepted::Before(message) => Reply::Ok(MessageView::of(message, caller)),
    })
}
