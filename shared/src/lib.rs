//! The code that the functions of Hongyan share.
//!
//! The domain ([`id`], [`message`], [`event`]) is plain data and rules and does no I/O; [`ids`] makes message ids. The
//! I/O modules know the domain: [`cache`] is Redis, [`queue`] is Kafka, [`store`] is MySQL, [`push`] reaches connected
//! clients. [`app::App`] builds them once per cold start; every handler gets it by reference.

pub mod app;
pub mod auth;
pub mod blocks;
pub mod cache;
pub mod clock;
pub mod config;
pub mod error;
pub mod event;
pub mod http;
pub mod id;
pub mod ids;
pub mod json;
pub mod lambda;
pub mod lookup;
pub mod message;
mod outbound;
pub mod push;
pub mod queue;
pub mod random;
pub mod redact;
pub mod secret;
mod signature;
pub mod store;
pub mod telemetry;
pub mod trace;
pub mod traced;
