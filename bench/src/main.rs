//! The binary behind `./dev bench`.

use std::process::ExitCode;

use hongyan_bench::service;

/// The allocator of the binary `hongyan`, so that the measured service has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if service::is_asked_for() {
        // This process is the measured service, started by another process of this binary.
        return hongyan_runtime::cli::main();
    }
    hongyan_bench::main()
}
