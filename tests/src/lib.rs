//! What the end-to-end tests share: three real servers for each test binary, and an application of its own for each test.

#[expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test harness: what fails here fails the test"
)]
pub mod kafka;
#[expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test harness: what fails here fails the test"
)]
pub mod proxy;
pub mod servers;
