//! Clients that break every rule. The whole runtime on real servers neither panics nor answers 500, and goes on
//! serving.
//!
//! `./dev fuzz` runs the same for longer, by `HONGYAN_FUZZ_MINUTES` and `HONGYAN_FUZZ_SEED`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test; the helpers beside it are part of it")]

mod frames;
mod http;
mod websocket;

use std::time::Duration;

/// The length and the seed of the run, from `./dev fuzz`. By default a short run with a fixed seed.
struct Effort {
    time: Option<Duration>,
    seed: u64,
}

impl Effort {
    fn asked() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
        };
        let effort = Self {
            time: number("HONGYAN_FUZZ_MINUTES").map(Duration::from_mins),
            seed: number("HONGYAN_FUZZ_SEED").unwrap_or(1),
        };
        eprintln!("seed {}", effort.seed);
        effort
    }
}
