//! `POST /messages`: accepts a message once it cannot be lost any more, and answers in milliseconds.
//!
//! A send is accepted when one durable place has it: Redis first, Kafka second (`docs/protocol.md`, R4). The consumer
//! writes it to MySQL.

mod accept;
mod request;

use std::convert::Infallible;
use std::time::Instant;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::error::ApiError;
use hongyan::http::{self, MessageView, Reply};
use hongyan::telemetry::metric;

use accept::Accepted;
use request::SendRequest;

/// Answers one request. Every failure is an answer too.
#[tracing::instrument(name = "send", skip_all)]
pub async fn handle(
    app: &App,
    event: ApiGatewayV2httpRequest,
) -> Result<ApiGatewayV2httpResponse, Infallible> {
    let began = Instant::now();
    let sent = send(app, &event).await;
    let outcome = match &sent {
        Ok(Reply::Ok(_)) => "repeated",
        Ok(_) => "accepted",
        Err(error) if error.status() < 500 => "refused",
        Err(_) => "failed",
    };
    metrics::counter!(metric::SENDS, "outcome" => outcome).increment(1);
    metrics::histogram!(metric::SEND_SECONDS).record(began.elapsed().as_secs_f64());
    Ok(http::respond_to("send", "POST /messages", sent))
}

async fn send(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<MessageView>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let request = SendRequest::parse(event, caller, app.rules.max_content_bytes)?;
    Ok(match accept::accept_once(app, request).await? {
        Accepted::New(message) => Reply::Created(MessageView::of(message, caller)),
        Accepted::Before(message) => Reply::Ok(MessageView::of(message, caller)),
    })
}
