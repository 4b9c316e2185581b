//! Hongyan on one machine: the gateway, the Kafka trigger, the schedule and the three servers.

pub mod dlq;
pub mod gateway;
pub mod schedule;
pub mod stack;
pub mod trigger;
