//! What the end-to-end tests share: three real servers for each test binary, and an application of its own for each test.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "a test harness: what it needs and does not get ends the test"
)]

pub mod app;
pub mod certificates;
pub mod client;
pub mod kafka;
pub mod lambda;
pub mod proxy;
pub mod redis;
pub mod servers;
pub mod socket;
pub mod yaml;

pub use app::{TestApp, TestAppBuilder};
pub use client::{Answer, Caller};
pub use socket::Socket;
