//! Reads in an epoch, in round trips that several requests share ([`super::shared_reads`]).

use redis::{RedisError, Value};
use tokio::runtime::Handle;

use super::Cache;
use super::epoch::{Epoch, failed};
use super::shared_reads::{Request, Turn};
use super::step::Step;
use crate::error::ServerError;

/// The answers to some reads, in their order, and the epoch right after them.
pub(super) type InEpoch = (Vec<Result<Value, ServerError>>, Epoch);

/// A round trip of one request. When the round trip ends, or its caller goes away, those that wait get their turn.
struct OwnTurn<'a>(&'a Cache);

impl Drop for OwnTurn<'_> {
    fn drop(&mut self) {
        let Some(requests) = self.0.shared_reads.next() else { return };
        match Handle::try_current() {
            // A task of its own: no caller that goes away takes the others' answers along.
            Ok(runtime) => drop(runtime.spawn(self.0.clone().answer_all(requests))),
            // The process ends. The requests that wait end with an error.
            Err(_) => self.0.shared_reads.give_back(),
        }
    }
}

impl Cache {
    /// Runs `reads`, then reads the epoch, in one round trip (two in a cluster). The epoch is read last: if it ended in
    /// between, the data is stale in the epoch that is returned.
    ///
    /// Fails if Redis refuses writes: a Redis that may have refused a recall must not answer a page.
    pub(super) async fn in_epoch(
        &self,
        action: &'static str,
        reads: Vec<Step>,
    ) -> Result<InEpoch, ServerError> {
        let answers = match self.shared_reads.begin_or_wait(action, reads) {
            Turn::Now(reads) => {
                let _turn = OwnTurn(self);
                Box::pin(self.read_in_epoch(action, reads)).await
            }
            Turn::Later(answer) => match answer.await {
                Ok(answers) => answers,
                Err(_closed) => Err(failed("the process ends")),
            },
        };
        let (answers, epoch) = answers?;
        Ok((answers, self.epoch_of(epoch)?))
    }

    /// Answers these requests, then those that came meanwhile, until nobody waits.
    async fn answer_all(self, requests: Vec<Request>) {
        let mut next = Some(requests);
        while let Some(mut requests) = next {
            let counts: Vec<usize> = requests.iter().map(|request| request.reads.len()).collect();
            let reads = requests.iter_mut().flat_map(|request| std::mem::take(&mut request.reads)).collect();
            match Box::pin(self.read_in_epoch("cache.shared_reads", reads)).await {
                Ok((answers, epoch)) => {
                    let mut answers = answers.into_iter();
                    for (request, count) in requests.into_iter().zip(counts) {
                        let own = answers.by_ref().take(count).collect();
                        // A caller that has gone away needs no answer.
                        let _ = request.answer.send(Ok((own, epoch.clone())));
                    }
                }
                Err(error) => {
                    for request in requests {
                        let _ = request.answer.send(Err(same_error(request.action, &error)));
                    }
                }
            }
            next = self.shared_reads.next();
        }
    }
}

/// The error of a round trip, for one of its requests.
fn same_error(action: &'static str, error: &ServerError) -> ServerError {
    let source: Box<dyn std::error::Error + Send + Sync> = match error.source.downcast_ref::<RedisError>() {
        Some(source) => Box::new(source.clone()),
        None => error.source.to_string().into(),
    };
    ServerError { server: error.server, action, retry: error.retry, source }
}
