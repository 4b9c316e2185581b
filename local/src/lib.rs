//! Hongyan on one machine: the gateway, the Kafka trigger, the schedule and the three servers.

pub mod gateway;
pub mod stack;
pub mod trigger;
