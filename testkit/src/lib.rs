//! The test kit that end-to-end tests, drills and benchmarks share: three real servers for each test binary, and an
//! application for each test.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "a test harness: a missing server or file ends the test"
)]

pub mod app;
pub mod certificates;
pub mod client;
pub mod description;
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
