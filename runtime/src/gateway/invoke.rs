//! The one seam between the gateway and the functions: in this process, or behind Lambda's Invoke API.

use aws_lambda_events::apigw::{
    ApiGatewayProxyResponse, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
    ApiGatewayWebsocketProxyRequest,
};
use futures_util::future::BoxFuture;

/// The functions behind the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpFunction {
    /// Takes a message.
    Send,
    /// Takes one back.
    Recall,
    /// Hides one from its caller.
    Delete,
    /// Reads history.
    Query,
    /// Marks read, counts unread.
    Read,
}

impl HttpFunction {
    /// The function's name, as in `template.yaml` and `functions/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Recall => "recall",
            Self::Delete => "delete",
            Self::Query => "query",
            Self::Read => "read",
        }
    }
}

/// A function did not answer: it failed, panicked, or could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("the function {function} failed: {reason}")]
pub struct InvokeError {
    /// Which function.
    pub function: &'static str,
    /// What happened.
    pub reason: String,
}

/// Invokes functions, as API Gateway invokes Lambda.
pub trait Functions: Send + Sync + 'static {
    /// A request of the HTTP API.
    fn http(
        &self,
        function: HttpFunction,
        event: ApiGatewayV2httpRequest,
    ) -> BoxFuture<'static, Result<ApiGatewayV2httpResponse, InvokeError>>;

    /// An event of the WebSocket API.
    fn websocket(
        &self,
        event: ApiGatewayWebsocketProxyRequest,
    ) -> BoxFuture<'static, Result<ApiGatewayProxyResponse, InvokeError>>;
}
