//! The functions as Lambda has them: each a process of its own, invoked through Lambda's Invoke API, which
//! `cargo lambda watch` serves too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::apigw::{
    ApiGatewayProxyResponse, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
    ApiGatewayWebsocketProxyRequest,
};
use aws_lambda_events::eventbridge::EventBridgeEvent;
use bytes::Bytes;
use futures_util::FutureExt;
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan_scheduled_compensator::Summary;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use url::Url;

use crate::functions::FUNCTIONS;
use crate::host::{FunctionHost, HttpFunction, Invocation, InvokeError};

/// How many invocations of one function are under way at most. `cargo lambda watch` queues 100 of a function; with one
/// more it stands still, for every function.
const AT_A_TIME: usize = 64;

/// How long an invocation may take. `cargo lambda watch` never answers for a process that did not build or has ended.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Lambda says with it that the answer is an error of the function; `cargo lambda watch` says it with status 500.
const FUNCTION_ERROR: &str = "x-amz-function-error";

/// The functions behind one address of the Invoke API. Cheap to clone.
#[derive(Clone)]
pub struct InvokeApi(Arc<Inner>);

struct Inner {
    client: Client<HttpConnector, Full<Bytes>>,
    base: Url,
    turns: HashMap<&'static str, Semaphore>,
}

/// How a function says that it failed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionError {
    error_type: String,
    error_message: String,
}

impl InvokeApi {
    /// The functions at `base`, e.g. `http://127.0.0.1:9000`. Nothing is asked yet.
    pub fn new(base: Url) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let turns = FUNCTIONS.names().map(|name| (name, Semaphore::new(AT_A_TIME))).collect();
        Self(Arc::new(Inner { client, base, turns }))
    }

    /// Invokes `function` and waits for its answer, at most a minute.
    pub fn invoke<E: Serialize, R: DeserializeOwned>(
        &self,
        function: &'static str,
        event: &E,
    ) -> impl Future<Output = Result<R, InvokeError>> + Send + 'static + use<E, R> {
        let failed = move |reason: String| InvokeError::new(function, reason);
        let event =
            serde_json::to_vec(event).map_err(|error| failed(format!("no JSON of the event: {error}")));
        let inner = self.0.clone();
        async move {
            let asked = tokio::time::timeout(TIMEOUT, inner.post(function, event?.into())).await;
            let answer = asked.map_err(|_| failed(NO_ANSWER.to_owned()))?.map_err(failed)?;
            serde_json::from_slice(&answer)
                .map_err(|error| failed(format!("its answer is not of the form expected here: {error}")))
        }
    }
}

const NO_ANSWER: &str =
    "no answer within a minute; what it printed says whether it did not build, has ended, or is slow";

impl Inner {
    async fn post(&self, function: &str, event: Bytes) -> Result<Bytes, String> {
        let _turn = match self.turns.get(function) {
            Some(turns) => Some(turns.acquire().await.map_err(|error| error.to_string())?),
            None => None,
        };
        let mut url = self.base.clone();
        url.set_path(&format!("/2015-03-31/functions/{function}/invocations"));
        let request = Request::post(url.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(event))
            .map_err(|error| error.to_string())?;
        let unreachable = |error: &dyn std::error::Error| {
            format!("{} does not answer (is `cargo lambda watch` there?): {error}", self.base)
        };
        let (head, body) =
            self.client.request(request).await.map_err(|error| unreachable(&error))?.into_parts();
        let body = body.collect().await.map_err(|error| unreachable(&error))?.to_bytes();
        if head.status.is_success() && !head.headers.contains_key(FUNCTION_ERROR) {
            return Ok(body);
        }
        Err(refusal(head.status, &body))
    }
}

/// The error in an answer that is not the function's result.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice(body) {
        Ok(FunctionError { error_type, error_message }) => format!("{error_message} ({error_type})"),
        Err(_) => format!("the Invoke API answered {status}: {}", String::from_utf8_lossy(body)),
    }
}

impl FunctionHost for InvokeApi {
    fn http(
        &self,
        function: &'static HttpFunction,
        event: ApiGatewayV2httpRequest,
    ) -> Invocation<ApiGatewayV2httpResponse> {
        self.invoke(function.name, &event).boxed()
    }

    fn websocket(&self, event: ApiGatewayWebsocketProxyRequest) -> Invocation<ApiGatewayProxyResponse> {
        self.invoke(FUNCTIONS.websocket.name, &event).boxed()
    }

    fn kafka(&self, event: KafkaEvent) -> Invocation<KafkaBatchResponse> {
        self.invoke(FUNCTIONS.kafka.name, &event).boxed()
    }

    fn schedule(&self, event: EventBridgeEvent) -> Invocation<Summary> {
        self.invoke(FUNCTIONS.schedule.name, &event).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_in_the_words_of_whoever_made_it() {
        let of_function = br#"{"errorType":"SendFailure","errorMessage":"no records"}"#;
        assert_eq!(refusal(StatusCode::OK, of_function), "no records (SendFailure)");
        assert_eq!(refusal(StatusCode::NOT_FOUND, b"who?"), "the Invoke API answered 404 Not Found: who?");
    }

    #[tokio::test]
    async fn without_an_invoke_api_the_error_says_who_does_not_answer() {
        // Nobody listens on port 1.
        let functions = InvokeApi::new("http://127.0.0.1:1".parse().unwrap());
        let error = functions
            .invoke::<EventBridgeEvent, Summary>(FUNCTIONS.schedule.name, &EventBridgeEvent::default())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(
                "the function scheduled-compensator failed: http://127.0.0.1:1/ does not answer"
            ),
            "{text}"
        );
    }
}
