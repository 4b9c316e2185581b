//! The functions on one machine: the HTTP and WebSocket gateway, the Kafka trigger, the schedule and the commands of
//! the binary `hongyan`. The feature `stack`, on by default, adds the commands that start and stop the three servers.

pub mod cli;
pub mod dlq;
pub mod functions;
pub mod gateway;
pub mod host;
pub mod invoke_api;
pub mod prometheus;
pub mod runtime;
pub mod schedule;
pub mod settings;
pub mod trigger;
