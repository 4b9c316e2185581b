//! The seam between the runtime and the functions: the form of a function, and the host that calls it in this process or
//! through Lambda's Invoke API.

use std::convert::Infallible;
use std::fmt::Display;

use aws_lambda_events::apigw::{
    ApiGatewayProxyResponse, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
    ApiGatewayWebsocketProxyRequest,
};
use aws_lambda_events::eventbridge::EventBridgeEvent;
use futures_util::future::BoxFuture;
use hongyan::app::App;
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan_scheduled_compensator::Summary;

/// A handler of the event `E`: it answers with `R` or fails with `X`.
pub type Handler<E, R, X> = for<'a> fn(&'a App, E) -> BoxFuture<'a, Result<R, X>>;

/// A function that takes the event `E`.
pub struct Function<E, R, X> {
    /// The name of the binary, of the folder in `functions/`, and of the build target in `template.yaml`.
    pub name: &'static str,
    /// The handler that the binary hands to `lambda_runtime`.
    pub handle: Handler<E, R, X>,
}

/// A function behind the HTTP API. Each of its failures is an answer too.
pub struct HttpFunction {
    /// As [`Function::name`].
    pub name: &'static str,
    /// The keys of its routes as API Gateway writes them: method, space, path. A function with several routes tells them apart by
    /// the event's `routeKey`.
    pub routes: &'static [&'static str],
    /// As [`Function::handle`].
    pub handle: Handler<ApiGatewayV2httpRequest, ApiGatewayV2httpResponse, Infallible>,
}

/// A function did not answer: it failed, panicked, or could not be reached. Trying again can help.
#[derive(Debug, thiserror::Error)]
#[error("the function {function} failed: {reason}")]
pub struct InvokeError {
    /// The function's name.
    pub function: &'static str,
    /// The function's own error, or why it could not be reached.
    pub reason: String,
}

impl InvokeError {
    /// The failure of `function` for `reason`.
    pub fn new(function: &'static str, reason: impl Display) -> Self {
        Self { function, reason: reason.to_string() }
    }
}

/// The answer of a function, through its host.
pub type Invocation<R> = BoxFuture<'static, Result<R, InvokeError>>;

/// Hosts the functions: hands each event to the function that is there for it.
///
/// A call does not borrow the host, so that it can run in a task of its own.
pub trait FunctionHost: Send + Sync + 'static {
    /// Hands a request of the HTTP API to `function`.
    fn http(
        &self,
        function: &'static HttpFunction,
        event: ApiGatewayV2httpRequest,
    ) -> Invocation<ApiGatewayV2httpResponse>;

    /// Hands over an event of the WebSocket API.
    fn websocket(&self, event: ApiGatewayWebsocketProxyRequest) -> Invocation<ApiGatewayProxyResponse>;

    /// Hands over a batch of Kafka records.
    fn kafka(&self, event: KafkaEvent) -> Invocation<KafkaBatchResponse>;

    /// Hands over an event of the schedule.
    fn schedule(&self, event: EventBridgeEvent) -> Invocation<Summary>;
}
