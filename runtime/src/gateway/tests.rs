//! Tests of the gateway on a real socket. The functions behind it only record their events.

mod http_api;
mod page;
mod websocket;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_lambda_events::apigw::{
    ApiGatewayProxyResponse, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
    ApiGatewayWebsocketProxyRequest,
};
use aws_lambda_events::encodings::Body as EventBody;
use aws_lambda_events::eventbridge::EventBridgeEvent;
use bytes::Bytes;
use futures_util::FutureExt;
use hongyan::auth::{Auth, Handshake};
use hongyan::clock::Clock;
use hongyan::config::{AuthConfig, AuthKey};
use hongyan::error::{Retry, Server, ServerError};
use hongyan::id::UserId;
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan_scheduled_compensator::Summary;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use super::*;
use crate::host::{FunctionHost, HttpFunction, Invocation};

/// Records all events. Answers every HTTP event with 201 and a small body, and a ping with PONG.
#[derive(Default)]
struct Recorder {
    http: Mutex<Vec<(&'static str, ApiGatewayV2httpRequest)>>,
    websocket: Mutex<Vec<ApiGatewayWebsocketProxyRequest>>,
    /// The answer to the next HTTP event, in place of the usual one.
    answer: Mutex<Option<ApiGatewayV2httpResponse>>,
    /// While true, HTTP events wait for their answer.
    held: watch::Sender<bool>,
    /// How many HTTP events have arrived.
    arrived: watch::Sender<usize>,
    /// While true, `$connect` waits for its answer.
    connect_held: watch::Sender<bool>,
    /// How many `$disconnect` events have arrived.
    disconnected: watch::Sender<usize>,
}

struct Recorded(Arc<Recorder>);

impl FunctionHost for Recorded {
    fn http(
        &self,
        function: &'static HttpFunction,
        event: ApiGatewayV2httpRequest,
    ) -> Invocation<ApiGatewayV2httpResponse> {
        let recorder = self.0.clone();
        async move {
            assert_ne!(event.body.as_deref(), Some("panic"), "asked to panic");
            recorder.http.lock().push((function.name, event));
            recorder.arrived.send_modify(|count| *count += 1);
            let _ = recorder.held.subscribe().wait_for(|held| !held).await;
            Ok(recorder.answer.lock().take().unwrap_or_else(|| {
                let mut answer = ApiGatewayV2httpResponse::default();
                answer.status_code = 201;
                answer.body = Some(EventBody::Text("{}".to_owned()));
                answer
            }))
        }
        .boxed()
    }

    fn websocket(&self, event: ApiGatewayWebsocketProxyRequest) -> Invocation<ApiGatewayProxyResponse> {
        let recorder = self.0.clone();
        async move {
            let mut answer = ApiGatewayProxyResponse::default();
            answer.status_code = 200;
            match event.request_context.route_key.as_deref() {
                Some("$connect") => {
                    let in_query = event.query_string_parameters.first("token");
                    let handshake = Handshake::read(&event.multi_value_headers, in_query);
                    if let Some(subprotocol) = handshake.subprotocol {
                        let selected = http::HeaderValue::from_static(subprotocol);
                        answer.headers.insert("sec-websocket-protocol", selected);
                    }
                    let token = handshake.token.unwrap_or_default();
                    // A token with two dots was issued by the test.
                    if token != "good" && token.split('.').count() != 3 {
                        answer.status_code = 401;
                    }
                }
                Some("$default") => answer.body = Some(EventBody::Text("pong".to_owned())),
                _ => {}
            }
            let ended = event.request_context.route_key.as_deref() == Some("$disconnect");
            let begun = event.request_context.route_key.as_deref() == Some("$connect");
            recorder.websocket.lock().push(event);
            if begun {
                let _ = recorder.connect_held.subscribe().wait_for(|held| !held).await;
            }
            if ended {
                recorder.disconnected.send_modify(|count| *count += 1);
            }
            Ok(answer)
        }
        .boxed()
    }

    fn kafka(&self, _: KafkaEvent) -> Invocation<KafkaBatchResponse> {
        unreachable!("the gateway hands over no Kafka records")
    }

    fn schedule(&self, _: EventBridgeEvent) -> Invocation<Summary> {
        unreachable!("the gateway hands over no event of the schedule")
    }
}

/// A gateway on a free port.
struct Running {
    gateway: Gateway,
    recorder: Arc<Recorder>,
    auth: Auth,
    clock: Clock,
    /// By how many ms the gateway's clock is ahead.
    ahead_ms: Arc<AtomicI64>,
}

async fn start(options: GatewayOptions) -> Running {
    start_with(options, Vec::new()).await
}

async fn start_with(options: GatewayOptions, away: Vec<Server>) -> Running {
    let key = AuthKey::Secret("0123456789abcdef0123456789abcdef".to_owned().into());
    let ahead_ms = Arc::<AtomicI64>::default();
    let clock = Clock::shifted(ahead_ms.clone());
    let user_claim = "sub".to_owned();
    let auth = Auth::new(&AuthConfig { key, issuer: None, audience: None, user_claim }, clock.clone());
    let recorder = Arc::new(Recorder::default());
    let health: HealthCheck = Arc::new(move || {
        let asked = [Server::Redis, Server::Kafka, Server::MySql].map(|server| ServerHealth {
            server,
            answer: if away.contains(&server) {
                let source = "a secret host".into();
                Err(ServerError { server, action: "test", retry: Retry::Transient, source })
            } else {
                Ok(())
            },
        });
        async move { asked.into_iter().collect() }.boxed()
    });
    let behind = Behind {
        functions: Arc::new(Recorded(recorder.clone())),
        auth: auth.clone(),
        clock: clock.clone(),
        health,
        metrics: None,
    };
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let gateway = Gateway::start(listener, None, options, behind).unwrap();
    Running { gateway, recorder, auth, clock, ahead_ms }
}

impl Running {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.addr())
    }

    fn token(&self) -> String {
        let now = self.clock.now_ms();
        self.auth.issue(UserId::new(9_007_199_254_740_993).unwrap(), now, Duration::from_mins(1)).unwrap()
    }

    /// Sends a request with a valid token.
    async fn request(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Response<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(self.url(path))
            .header("authorization", format!("Bearer {}", self.token()))
            .body(Full::new(body.into()))
            .unwrap();
        send(request).await
    }
}

async fn send(request: Request<Full<Bytes>>) -> Response<Bytes> {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let (parts, body) = client.request(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

fn json(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

/// Limits the wait, so that a failing test ends.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen"))
}
