//! Hongyan on one machine: the gateway, the Kafka trigger, the schedule and the three servers.

pub mod cli;
pub mod dlq;
pub mod emulator;
pub mod functions;
pub mod gateway;
pub mod invoke_api;
pub mod prometheus;
pub mod runtime;
pub mod schedule;
pub mod stack;
pub mod trigger;
