//! An exhaustive model of Hongyan's protocol: senders, recallers, the consumer, the compensator and a query work on
//! Redis, one Kafka partition and MySQL, one input or output a step, while consumers crash, old instances live on,
//! Redis loses its memory and each store refuses now and then. `docs/model.md` says what it shows and how to run it.

mod consumer;
pub mod model;
pub mod properties;
pub mod rules;
pub mod state;
mod steps;

pub use model::{Action, Protocol};
pub use rules::{Bounds, Rules, TombstoneRead};
