//! The functions by name, and called in this process: the same handlers that run in Lambda, with no HTTP hop between.

use std::sync::Arc;

use aws_lambda_events::apigw::{
    ApiGatewayProxyResponse, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
    ApiGatewayWebsocketProxyRequest,
};
use aws_lambda_events::eventbridge::EventBridgeEvent;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hongyan::app::App;
use hongyan::queue::{KafkaBatchResponse, KafkaEvent};
use hongyan_scheduled_compensator::Summary;
use lambda_runtime::Error;

use crate::gateway::{Functions, HttpFunction, InvokeError};
use crate::trigger;

/// The function behind the WebSocket API.
pub const WEBSOCKET: &str = "websocket";
/// The function behind Kafka.
pub const CONSUMER: &str = "kafka-consumer";
/// The function behind the schedule.
pub const COMPENSATOR: &str = "scheduled-compensator";

/// Every function, by the name of its binary, as in `template.yaml` and `functions/`.
pub const NAMES: [&str; 8] = [
    HttpFunction::Send.name(),
    HttpFunction::Recall.name(),
    HttpFunction::Delete.name(),
    HttpFunction::Query.name(),
    HttpFunction::Read.name(),
    WEBSOCKET,
    CONSUMER,
    COMPENSATOR,
];

/// What a runtime needs of whoever hosts the functions.
pub trait AllFunctions: Functions + trigger::Invoke + Clone {
    /// A run of the compensator.
    fn compensate(&self, event: EventBridgeEvent) -> BoxFuture<'static, Result<Summary, Error>>;
}

/// The functions over one [`App`]. Cheap to clone.
#[derive(Clone)]
pub struct InProcess(Arc<App>);

impl InProcess {
    /// Functions that work with `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

impl Functions for InProcess {
    fn http(
        &self,
        function: HttpFunction,
        event: ApiGatewayV2httpRequest,
    ) -> BoxFuture<'static, Result<ApiGatewayV2httpResponse, InvokeError>> {
        let app = self.0.clone();
        async move {
            match function {
                HttpFunction::Send => hongyan_send::handle(&app, event).await,
                HttpFunction::Recall => hongyan_recall::handle(&app, event).await,
                HttpFunction::Delete => hongyan_delete::handle(&app, event).await,
                HttpFunction::Query => hongyan_query::handle(&app, event).await,
                HttpFunction::Read => hongyan_read::handle(&app, event).await,
            }
            .map_err(|error| InvokeError { function: function.name(), reason: error.to_string() })
        }
        .boxed()
    }

    fn websocket(
        &self,
        event: ApiGatewayWebsocketProxyRequest,
    ) -> BoxFuture<'static, Result<ApiGatewayProxyResponse, InvokeError>> {
        let app = self.0.clone();
        async move {
            let Ok(answer) = hongyan_websocket::handle(&app, event).await;
            Ok(answer)
        }
        .boxed()
    }
}

impl trigger::Invoke for InProcess {
    fn invoke(
        &self,
        event: KafkaEvent,
    ) -> impl Future<Output = Result<KafkaBatchResponse, trigger::InvokeError>> + Send + 'static {
        let app = self.0.clone();
        async move { Ok(hongyan_kafka_consumer::handle(&app, event).await?) }
    }
}

impl AllFunctions for InProcess {
    fn compensate(&self, event: EventBridgeEvent) -> BoxFuture<'static, Result<Summary, Error>> {
        let app = self.0.clone();
        async move { hongyan_scheduled_compensator::handle(&app, event).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_function_has_its_name_here() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions");
        let folders = std::fs::read_dir(folder).unwrap();
        let folders: BTreeSet<String> =
            folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(folders, NAMES.into_iter().map(str::to_owned).collect());
    }
}
