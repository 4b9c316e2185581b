//! The binary `hongyan`: what `./dev` hands its commands over to.

use std::process::ExitCode;

/// A send allocates some hundred times on several threads, and frees on others: this allocator takes less time for that than
/// the system's (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hongyan_runtime::cli::main()
}
