//! The binary `hongyan`: what `./dev` hands its commands over to.

use std::process::ExitCode;

fn main() -> ExitCode {
    hongyan_runtime::cli::main()
}
