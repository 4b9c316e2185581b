//! An exhaustive model of Hongyan's protocol. Senders, recallers, the consumer, the compensator, queries, a client of
//! changes and a receiver who reads work on Redis, one Kafka partition and MySQL, one input or output a step. Meanwhile
//! consumers crash, old instances live on, Redis loses its data or refuses writes, and each store fails now and then.
//! `docs/model.md` says what the model shows and how to run it.

pub mod action;
mod client;
mod compensator;
mod consumer;
mod conversation;
mod model;
pub mod properties;
mod protocol;
mod query;
mod recaller;
mod redis;
pub mod rules;
mod sender;
pub mod state;

pub use action::Action;
pub use protocol::Protocol;
pub use rules::{Bounds, LateUnread, Rules};
