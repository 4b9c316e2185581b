//! Looks up in MySQL which send a sender's `clientMsgId` stands for, before a send with that name is accepted.
//!
//! Every send with a name asks. Questions that arrive while a statement runs are asked together in the next one, so the
//! cost of a question falls as the load rises.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Store;
use super::sends::NamedSend;
use super::silence::Silence;
use crate::error::{Retry, Server, ServerError};
use crate::id::UserId;
use crate::message::ClientMessageId;

/// The most names in one statement.
const MOST: usize = 100;

/// A question that waits for its answer.
struct Question {
    name: (UserId, ClientMessageId),
    answer: oneshot::Sender<Vec<NamedSend>>,
}

/// Asks for names. Cheap to clone; clones share the statements.
#[derive(Clone)]
pub struct NameLookup {
    questions: mpsc::Sender<Question>,
    silence: Silence,
    longest_wait: Duration,
}

impl NameLookup {
    /// Asks `store`; a caller waits at most `longest_wait`, and not at all in a `silence`. Must be called in a Tokio runtime.
    pub fn new(store: Store, longest_wait: Duration, silence: Silence) -> Self {
        let (questions, asked) = mpsc::channel(1_024);
        tokio::spawn(answer_all(store, asked));
        Self { questions, silence, longest_wait }
    }

    /// The sends in MySQL with this name of the sender; usually none. A transient error means that MySQL did not answer
    /// in time. The unique key then decides when the message is written.
    pub async fn look_up(&self, from: UserId, name: &ClientMessageId) -> Result<Vec<NamedSend>, ServerError> {
        if self.silence.is_recent() {
            return Err(unknown("not asked: MySQL did not answer a moment ago"));
        }
        let (answer, answered) = oneshot::channel();
        let question = Question { name: (from, name.clone()), answer };
        let asked = async {
            self.questions.send(question).await.ok()?;
            answered.await.ok()
        };
        match timeout(self.longest_wait, asked).await {
            Ok(Some(sends)) => Ok(sends),
            failed => {
                self.silence.begin();
                Err(unknown(if failed.is_err() { "no answer in time" } else { "MySQL does not answer" }))
            }
        }
    }
}

fn unknown(reason: &'static str) -> ServerError {
    ServerError {
        server: Server::MySql,
        action: "store.named_sends",
        retry: Retry::Transient,
        source: reason.into(),
    }
}

/// Takes the questions that have arrived, asks once and answers each. Ends when every [`NameLookup`] is dropped.
async fn answer_all(store: Store, mut asked: mpsc::Receiver<Question>) {
    let mut questions = Vec::with_capacity(MOST);
    while asked.recv_many(&mut questions, MOST).await > 0 {
        // A caller that has stopped waiting needs no answer.
        questions.retain(|question| !question.answer.is_closed());
        if questions.is_empty() {
            continue;
        }
        let names: Vec<_> = questions.iter().map(|question| question.name.clone()).collect();
        match store.named_sends(&names).await {
            Ok(found) => answer(&mut questions, &found),
            Err(error) => {
                tracing::warn!(%error, "store.named_sends: MySQL does not answer; the consumer recognises retries when it writes them");
                // Dropping a question tells its caller that there is no answer.
                questions.clear();
            }
        }
    }
}

fn answer(questions: &mut Vec<Question>, found: &HashMap<(UserId, ClientMessageId), Vec<NamedSend>>) {
    for question in questions.drain(..) {
        let sends = found.get(&question.name).cloned().unwrap_or_default();
        // The caller may have stopped waiting.
        let _ = question.answer.send(sends);
    }
}
