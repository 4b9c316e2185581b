//! The binary behind `./dev bench`.

use std::process::ExitCode;

use hongyan_bench::service;

fn main() -> ExitCode {
    if service::is_asked_for() {
        // This process is the measured service, started by another process of this binary.
        service::end_with_parent();
        return hongyan_runtime::cli::main();
    }
    hongyan_bench::main()
}
