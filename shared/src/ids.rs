//! Making message ids (`docs/protocol.md`, R3, R6). [`source`] leases a worker number in Redis, [`snowflake`] makes ids
//! with it. The types of ids are in [`crate::id`].

pub mod snowflake;
pub mod source;
pub mod worker;

pub use source::IdSource;
