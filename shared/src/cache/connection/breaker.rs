//! The reasons of an open circuit breaker: a Redis that answers and refuses counts as away (`docs/protocol.md`, R21).

use redis::RedisError;

/// Why the circuit breaker of a connection is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The server does not answer, or makes writes wait (`CLIENT PAUSE WRITE`).
    Silent,
    /// `maxmemory` is reached and nothing may be evicted. The server still takes commands that free memory.
    Full,
    /// The server refuses every write: READONLY, NOREPLICAS or MISCONF.
    NoWrites(&'static str),
}

impl Refusal {
    /// The reason why the server takes no writes, if `error` is such a refusal or comes from an open circuit breaker.
    ///
    /// Redis before 7 wraps the error of a command inside a script: `ERR Error running script … -OOM command not
    /// allowed …`.
    pub(super) fn of(error: &RedisError) -> Option<Self> {
        if let Some(open) = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Open>())
        {
            return Some(open.0);
        }
        let (code, detail) = (error.code()?, error.detail().unwrap_or_default());
        let says =
            |refusal: &str| code == refusal || (code == "ERR" && detail.contains(&format!("-{refusal} ")));
        if says("OOM") {
            return Some(Self::Full);
        }
        NO_WRITES.into_iter().find(|refusal| says(refusal)).map(Self::NoWrites)
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Silent => "no answer in time",
            Self::Full => "OOM",
            Self::NoWrites(code) => code,
        }
    }

    /// The error of a command that is not sent because the circuit breaker is open.
    pub(super) fn error(self) -> RedisError {
        std::io::Error::new(std::io::ErrorKind::TimedOut, Open(self)).into()
    }
}

/// The source of [`Refusal::error`].
#[derive(Debug, thiserror::Error)]
#[error("the circuit breaker is open: {}", .0.reason())]
struct Open(Refusal);

/// The error codes with which a server refuses every write.
const NO_WRITES: [&str; 3] = ["READONLY", "NOREPLICAS", "MISCONF"];

/// True if `error`, the answer to a probe, says that the server takes no writes yet.
pub(super) fn cannot_write(error: &RedisError) -> bool {
    Refusal::of(error).is_some() || matches!(error.code(), Some("LOADING" | "MASTERDOWN" | "BUSY"))
}
