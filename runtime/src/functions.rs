//! The table of the functions: name, routes, event and handler of each, and the host that calls them in this process.
//!
//! The gateway's routes and the dispatch derive from [`FUNCTIONS`]. The tests hold `docs/openapi.yaml`, `template.yaml`,
//! `functions/` and `events/` against it.

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::{Arc, LazyLock};

use aws_lambda_events::apigw::{
    ApiGatewayProxyResponse, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
    ApiGatewayWebsocketProxyRequest,
};
use aws_lambda_events::eventbridge::EventBridgeEvent;
use futures_util::FutureExt;
use hongyan::app::App;
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan::trace;
use hongyan::traced::Traced;
use hongyan_scheduled_compensator::Summary;
use http::Method;
use lambda_runtime::Error;

use crate::host::{Function, FunctionHost, Handler, HttpFunction, Invocation, InvokeError};

/// The table: one row a function.
pub static FUNCTIONS: Functions = Functions {
    http: &[
        http("send", &["POST /messages"], |app, event| hongyan_send::handle(app, event).boxed()),
        http("recall", &["POST /messages/{id}/recall"], |app, event| {
            hongyan_recall::handle(app, event).boxed()
        }),
        http(
            "delete",
            &["DELETE /messages/{id}", "DELETE /conversations/{peerId}/messages"],
            |app, event| hongyan_delete::handle(app, event).boxed(),
        ),
        http(
            "query",
            &[
                "GET /messages/{id}",
                "GET /conversations",
                "GET /conversations/{peerId}",
                "GET /conversations/{peerId}/messages",
                "GET /conversations/{peerId}/changes",
            ],
            |app, event| hongyan_query::handle(app, event).boxed(),
        ),
        http("read", &["POST /conversations/{peerId}/read", "GET /unread"], |app, event| {
            hongyan_read::handle(app, event).boxed()
        }),
        http("block", &["PUT /blocks/{userId}", "DELETE /blocks/{userId}", "GET /blocks"], |app, event| {
            hongyan_block::handle(app, event).boxed()
        }),
    ],
    websocket: Function {
        name: "websocket",
        handle: |app, event| hongyan_websocket::handle(app, event).boxed(),
    },
    kafka: Function {
        name: "kafka-consumer",
        handle: |app, event| hongyan_kafka_consumer::handle(app, event).boxed(),
    },
    schedule: Function {
        name: "scheduled-compensator",
        handle: |app, event| hongyan_scheduled_compensator::handle(app, event).boxed(),
    },
};

/// All functions, by the kind of event that they take.
pub struct Functions {
    /// Requests of the HTTP API.
    pub http: &'static [HttpFunction],
    /// `$connect`, `$default` and `$disconnect` of the WebSocket API.
    pub websocket: Function<ApiGatewayWebsocketProxyRequest, ApiGatewayProxyResponse, Infallible>,
    /// Batches of Kafka records.
    pub kafka: Function<KafkaEvent, KafkaBatchResponse, Error>,
    /// The schedule's events, one a minute.
    pub schedule: Function<EventBridgeEvent, Summary, Error>,
}

const fn http(
    name: &'static str,
    routes: &'static [&'static str],
    handle: Handler<ApiGatewayV2httpRequest, ApiGatewayV2httpResponse, Infallible>,
) -> HttpFunction {
    HttpFunction { name, routes, handle }
}

/// A route of the HTTP API.
pub struct Route {
    /// The route's key: method, space, path.
    pub key: &'static str,
    /// The method.
    pub method: Method,
    /// The path; `{name}` is a parameter, one segment that is not empty.
    pub path: &'static str,
    /// The function that answers.
    pub function: &'static HttpFunction,
}

impl Functions {
    /// The names of all functions.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let others = [self.websocket.name, self.kafka.name, self.schedule.name];
        self.http.iter().map(|function| function.name).chain(others)
    }
}

/// The routes of the HTTP API, in the order of the table.
pub fn routes() -> &'static [Route] {
    static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
        let keys = FUNCTIONS
            .http
            .iter()
            .flat_map(|function| function.routes.iter().map(move |key| (*key, function)));
        keys.map(|(key, function)| {
            let (method, path) = key.split_once(' ').unwrap_or((key, ""));
            Route { key, method: method.parse().unwrap_or_default(), path, function }
        })
        .collect()
    });
    &ROUTES
}

/// The functions over one [`App`], called in this process: the same handlers that run in Lambda, with no HTTP hop between.
pub struct InProcess(Arc<App>);

impl InProcess {
    /// Functions that work with `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    fn call<E, R, X>(&self, name: &'static str, handle: Handler<E, R, X>, event: E) -> Invocation<R>
    where
        E: Traced + Send + 'static,
        R: Send + 'static,
        X: Display + Send + 'static,
    {
        let app = self.0.clone();
        async move {
            let trace = event.trace();
            let work = handle(&app, event);
            let outcome = match trace {
                Some(trace) => trace::scope(trace, work).await,
                None => work.await,
            };
            outcome.map_err(|error| InvokeError::new(name, error))
        }
        .boxed()
    }
}

impl FunctionHost for InProcess {
    fn http(
        &self,
        function: &'static HttpFunction,
        event: ApiGatewayV2httpRequest,
    ) -> Invocation<ApiGatewayV2httpResponse> {
        self.call(function.name, function.handle, event)
    }

    fn websocket(&self, event: ApiGatewayWebsocketProxyRequest) -> Invocation<ApiGatewayProxyResponse> {
        self.call(FUNCTIONS.websocket.name, FUNCTIONS.websocket.handle, event)
    }

    fn kafka(&self, event: KafkaEvent) -> Invocation<KafkaBatchResponse> {
        self.call(FUNCTIONS.kafka.name, FUNCTIONS.kafka.handle, event)
    }

    fn schedule(&self, event: EventBridgeEvent) -> Invocation<Summary> {
        self.call(FUNCTIONS.schedule.name, FUNCTIONS.schedule.handle, event)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_function_is_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions");
        let folders = std::fs::read_dir(folder).unwrap();
        let folders: BTreeSet<String> =
            folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(folders, FUNCTIONS.names().map(str::to_owned).collect());
    }

    #[test]
    fn every_route_has_a_method_and_a_path_and_one_function() {
        let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        for route in routes() {
            assert!(methods.contains(&route.method), "{}", route.key);
            assert!(route.path.starts_with('/'), "{}", route.key);
            assert_eq!(routes().iter().filter(|other| other.key == route.key).count(), 1, "{}", route.key);
        }
    }
}
