//! The binary behind `./dev bench`.

use std::process::ExitCode;

use hongyan_bench::service;

/// The service that is measured has the allocator of the binary `hongyan`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if service::is_asked_for() {
        // This process is the service that another one of this binary measures.
        return hongyan_runtime::cli::main();
    }
    hongyan_bench::main()
}
