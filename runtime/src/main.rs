//! The binary `hongyan`. The script `./dev` hands most of its commands over to this program.

use std::process::ExitCode;

fn main() -> ExitCode {
    hongyan_runtime::cli::main()
}
