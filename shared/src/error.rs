//! Errors as types: whether trying again can help ([`Retry`]), and what a caller of the API is told ([`ApiError`]).

use std::time::Duration;

use crate::id::InvalidId;
use crate::message::InvalidMessage;

/// The prospect of doing the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// A server is away or busy. The same action works later.
    Transient,
    /// The server refuses the value, and will refuse it again.
    Permanent,
}

/// One of the three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The cache.
    Redis,
    /// The queue.
    Kafka,
    /// The store.
    MySql,
}

impl Server {
    /// The server's name in logs, metrics and `/health`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Kafka => "kafka",
            Self::MySql => "mysql",
        }
    }
}

/// An error of one of the three servers.
#[derive(Debug, thiserror::Error)]
#[error("{}: {action}: {source}", server.as_str())]
pub struct ServerError {
    /// The server.
    pub server: Server,
    /// The action that failed, with the name of its span (`cache.send`, `store.persist`).
    pub action: &'static str,
    /// The prospect of trying again.
    pub retry: Retry,
    /// The client library's error.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl ServerError {
    /// True if the server is away or busy, and has not refused the value.
    pub fn is_transient(&self) -> bool {
        self.retry == Retry::Transient
    }

    /// True if Redis is the one that is away or busy. Where MySQL can answer alone, the caller then asks MySQL.
    pub fn is_redis_away(&self) -> bool {
        self.server == Server::Redis && self.is_transient()
    }
}

/// An error for the caller of the API: one row of the table "Errors" in `docs/contract.md`.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: the request is malformed. The text says what is wrong.
    #[error("{0}")]
    InvalidRequest(String),
    /// 401: no token, or a bad or expired one.
    #[error("a valid bearer token is needed")]
    Unauthorized,
    /// 403: the receiver tried to recall the message.
    #[error("only the sender of a message can recall it")]
    NotSender,
    /// 404: no such message or route, or the caller is not in its conversation.
    #[error("{0}")]
    NotFound(&'static str),
    /// 405: the path exists with other methods.
    #[error("this path has no such method")]
    MethodNotAllowed,
    /// 409: the recall came after the recall window.
    #[error("a message can be recalled only within {} s of its sending", .0.as_secs())]
    RecallWindowClosed(Duration),
    /// 409: the `clientMsgId` stands for another message.
    #[error("this clientMsgId was used before for another receiver or content")]
    ClientMsgIdConflict,
    /// 413: the content has more bytes than `IM_MAX_CONTENT_BYTES`.
    #[error("content has more than {max_bytes} bytes of UTF-8")]
    ContentTooLarge {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// 403: the receiver has blocked the sender.
    #[error("the receiver takes no messages from you")]
    Blocked,
    /// 409: the user has blocked as many users as they may.
    #[error("you have blocked {0} users already; unblock one first")]
    TooManyBlocks(u32),
    /// 429: the user sends faster than `IM_SENDS_PER_SECOND`.
    #[error("too many messages a second; try again later")]
    RateLimited {
        /// The time after which one more is accepted.
        retry_after: Duration,
    },
    /// 503: no store could take or answer the request. Trying again helps.
    #[error("the service cannot take this request right now")]
    Unavailable(#[source] Option<ServerError>),
    /// 500: a fault of ours. The cause is logged and never told to the caller.
    #[error("an internal error occurred")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ApiError {
    /// 404 for a message. The answer is the same whether there is no such message or it is not the caller's, so that
    /// nobody learns which.
    pub fn no_such_message() -> Self {
        Self::NotFound("there is no such message in your conversations")
    }

    /// The table of all errors: status, code, title.
    fn row(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::InvalidRequest(_) => (400, "invalid_request", "Invalid request"),
            Self::Unauthorized => (401, "unauthorized", "Unauthorized"),
            Self::NotSender => (403, "not_sender", "Not the sender"),
            Self::NotFound(_) => (404, "not_found", "Not found"),
            Self::MethodNotAllowed => (405, "method_not_allowed", "Method not allowed"),
            Self::RecallWindowClosed(_) => (409, "recall_window_closed", "Recall window closed"),
            Self::ClientMsgIdConflict => (409, "client_msg_id_conflict", "clientMsgId conflict"),
            Self::ContentTooLarge { .. } => (413, "content_too_large", "Content too large"),
            Self::Blocked => (403, "blocked", "Blocked"),
            Self::TooManyBlocks(_) => (409, "too_many_blocks", "Too many blocks"),
            Self::RateLimited { .. } => (429, "rate_limited", "Too many messages"),
            Self::Internal(_) => (500, "internal", "Internal error"),
            Self::Unavailable(_) => (503, "unavailable", "Unavailable"),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.row().0
    }

    /// The stable code that a client may branch on.
    pub fn code(&self) -> &'static str {
        self.row().1
    }

    /// A short title, the same for every error of this code.
    pub fn title(&self) -> &'static str {
        self.row().2
    }
}

impl From<ServerError> for ApiError {
    fn from(error: ServerError) -> Self {
        match error.retry {
            Retry::Transient => Self::Unavailable(Some(error)),
            Retry::Permanent => Self::Internal(Box::new(error)),
        }
    }
}

impl From<InvalidId> for ApiError {
    fn from(error: InvalidId) -> Self {
        Self::InvalidRequest(error.to_string())
    }
}

impl From<InvalidMessage> for ApiError {
    fn from(error: InvalidMessage) -> Self {
        Self::InvalidRequest(error.to_string())
    }
}
