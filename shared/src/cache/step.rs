//! A step: one command, or one script on one key, as it is sent to Redis.

use std::sync::OnceLock;

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};

use super::keys;

/// The answer to one step: a value, or the error of this step alone.
pub(super) type Answer = Result<Value, RedisError>;

/// True if a server has refused a step because it does not know the script.
pub(super) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// A script. It touches `KEYS[1]` only.
pub struct Script {
    source: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    /// The script with this text.
    pub(super) const fn new(source: &'static str) -> Self {
        Self { source, hash: OnceLock::new() }
    }

    /// The text, as EVAL takes it.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// The SHA-1 of the text in hex, as EVALSHA takes it.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.source).get_hash().to_owned())
    }

    /// The step that runs this script on `key` with `arguments`.
    pub fn on(&'static self, key: String, arguments: Vec<String>) -> Step {
        Step::Script { script: self, key, arguments }
    }
}

/// One command, or one script on one key.
#[derive(Clone)]
pub enum Step {
    /// A plain command.
    Command(Cmd),
    /// A script of [`super::scripts`]: run by its hash. A server that does not know it gets the text.
    Script {
        /// The script.
        script: &'static Script,
        /// `KEYS[1]`.
        key: String,
        /// `ARGV`.
        arguments: Vec<String>,
    },
}

impl From<Cmd> for Step {
    fn from(command: Cmd) -> Self {
        Self::Command(command)
    }
}

impl Step {
    /// The key of the step: the first argument of every command that this service sends to a key.
    pub(super) fn key(&self) -> Option<String> {
        match self {
            Self::Script { key, .. } => Some(key.clone()),
            Self::Command(command) => match command.args_iter().nth(1) {
                Some(redis::Arg::Simple(key)) => String::from_utf8(key.to_vec()).ok(),
                _ => None,
            },
        }
    }

    pub(super) fn command(&self, by_hash: bool) -> Cmd {
        match self {
            Self::Command(command) => command.clone(),
            Self::Script { script, key, arguments } => {
                let mut command = redis::cmd(if by_hash { "EVALSHA" } else { "EVAL" });
                command.arg(if by_hash { script.hash() } else { script.source() }).arg(1).arg(key);
                for argument in arguments {
                    command.arg(argument);
                }
                command
            }
        }
    }
}

/// A write without effect. The server takes it, or refuses it like every other write; nothing goes to its file or its
/// replicas.
pub(super) fn write_probe() -> Cmd {
    let mut probe = redis::cmd("SETRANGE");
    probe.arg(keys::WRITE_PROBE).arg(0).arg("");
    probe
}

/// A command with its arguments, as a step.
macro_rules! step {
    ($name:literal $(, $argument:expr)* $(,)?) => {{
        let mut command = redis::cmd($name);
        $(command.arg($argument);)*
        $crate::cache::step::Step::Command(command)
    }};
}
pub(crate) use step;
