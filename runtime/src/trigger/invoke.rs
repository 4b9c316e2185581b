//! How a batch reaches the consumer.

use std::future::Future;
use std::pin::Pin;

use hongyan::queue::{KafkaBatchResponse, KafkaEvent};

/// Why an invocation has no answer: the function failed, or what it answered is not a batch response. Lambda then counts
/// the whole batch as failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvokeError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// How a batch reaches the consumer: in this process, or through Lambda's Invoke API. Every closure of this shape is one.
pub trait Invoke: Send + Sync + 'static {
    /// Hands over a batch and waits for the answer.
    fn invoke(
        &self,
        event: KafkaEvent,
    ) -> impl Future<Output = Result<KafkaBatchResponse, InvokeError>> + Send + 'static;
}

impl<F, R> Invoke for F
where
    F: Fn(KafkaEvent) -> R + Send + Sync + 'static,
    R: Future<Output = Result<KafkaBatchResponse, InvokeError>> + Send + 'static,
{
    fn invoke(
        &self,
        event: KafkaEvent,
    ) -> impl Future<Output = Result<KafkaBatchResponse, InvokeError>> + Send + 'static {
        self(event)
    }
}

/// An invocation under way.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<KafkaBatchResponse, InvokeError>> + Send>>;
