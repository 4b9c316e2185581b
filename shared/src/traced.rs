//! The trace that an event of AWS brings.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayWebsocketProxyRequest};
use aws_lambda_events::eventbridge::EventBridgeEvent;
use aws_lambda_events::http::HeaderMap;

use crate::queue::KafkaEvent;
use crate::trace::{TRACEPARENT, Trace, XRAY};

/// An event that a function handles in a trace.
pub trait Traced {
    /// The trace to handle the event in: the event's own or a new one; `None` if each part of the event has its own.
    fn trace(&self) -> Option<Trace>;
}

impl Traced for ApiGatewayV2httpRequest {
    fn trace(&self) -> Option<Trace> {
        Some(of_headers(&self.headers))
    }
}

impl Traced for ApiGatewayWebsocketProxyRequest {
    fn trace(&self) -> Option<Trace> {
        Some(of_headers(&self.headers))
    }
}

/// Each record has a trace of its own.
impl Traced for KafkaEvent {
    fn trace(&self) -> Option<Trace> {
        None
    }
}

impl Traced for EventBridgeEvent {
    fn trace(&self) -> Option<Trace> {
        Some(Trace::new())
    }
}

/// The trace of a request with these headers. Several values of `traceparent` count as malformed.
pub fn of_headers(headers: &HeaderMap) -> Trace {
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?.to_str().ok();
        values.next().map_or(first, |_| None)
    };
    Trace::of_request(one(TRACEPARENT), one(XRAY)).child()
}
