//! What the end-to-end tests share: three real servers for each test binary, and an application of its own for each test.

pub mod servers;
