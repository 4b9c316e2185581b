//! The functions, called in this process: the same handlers that run in Lambda, with no HTTP hop between.

use std::sync::Arc;

use aws_lambda_events::apigw::{
    ApiGatewayProxyResponse, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
    ApiGatewayWebsocketProxyRequest,
};
use aws_lambda_events::kafka::KafkaEvent;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hongyan::app::App;
use hongyan::queue::KafkaBatchResponse;

use crate::gateway::{Functions, HttpFunction, InvokeError};
use crate::trigger;

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
