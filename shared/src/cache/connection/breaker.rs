//! A Redis that answers and refuses is away (`docs/protocol.md`, R21).

use redis::RedisError;

/// Why the circuit breaker of a connection is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The server does not answer, or lets writes wait (`CLIENT PAUSE WRITE`).
    Silent,
    /// `maxmemory` is reached and nothing may be evicted. Commands that free memory are taken.
    Full,
    /// The server takes no write: READONLY, NOREPLICAS or MISCONF.
    NoWrites(&'static str),
}

impl Refusal {
    /// Whether `error` says that the server takes no writes, by its own answer or because the circuit breaker is open.
    ///
    /// Redis before 7 wraps what a command within a script answers: `ERR Error running script … -OOM command not allowed …`.
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

    /// What a command answers that is not sent at all.
    pub(super) fn error(self) -> RedisError {
        std::io::Error::new(std::io::ErrorKind::TimedOut, Open(self)).into()
    }
}

/// The error of a command that an open circuit breaker has kept back.
#[derive(Debug, thiserror::Error)]
#[error("the circuit breaker is open: {}", .0.reason())]
struct Open(Refusal);

/// The codes by which a server refuses every write.
const NO_WRITES: [&str; 3] = ["READONLY", "NOREPLICAS", "MISCONF"];

/// Whether `error` answers a probe in a way that says: no writes yet.
pub(super) fn cannot_write(error: &RedisError) -> bool {
    Refusal::of(error).is_some() || matches!(error.code(), Some("LOADING" | "MASTERDOWN" | "BUSY"))
}
