//! Redis, MySQL and Kafka on one machine, for development and tests: started, watched, killed and restarted.
//!
//! [`Stack::start`] starts the three servers over one data folder, which keeps their data, ports and passwords from
//! one start to the next. The servers end with the calling process, even if it is killed, unless they were started
//! [in the background](StackOptions::in_background).

mod background;
#[cfg(test)]
mod compose_tests;
mod docker;
pub mod emulator;
mod error;
mod files;
mod guard;
mod kafka;
mod mysql;
mod native;
mod options;
mod probe;
mod process;
mod redis;
mod secure_kafka;
mod server;
mod server_kind;
mod snapshot;
mod stack;
mod targets;
mod wait;

pub use background::{ServerStatus, down, installed_versions, saved_env, status};
pub use error::StackError;
pub use files::free_port;
pub use options::{Place, ServerCertificate, StackOptions, TopicSpec};
pub use secure_kafka::SecureKafka;
pub use server::Server;
pub use server_kind::ServerKind;
pub use snapshot::RedisSnapshot;
pub use stack::Stack;
