//! `lambda`: the functions run behind `cargo lambda watch` instead of in this process.

use std::net::SocketAddr;
use std::sync::Arc;

use super::settings;
use crate::cli::place::project;
use crate::runtime::own_endpoint;
use hongyan_stack::emulator::{self, Emulator, EmulatorError, EmulatorOptions};

/// The beginning of a line in CloudWatch's embedded metric format. Each invocation prints some of these; the terminal
/// does not show them.
const METRICS: &str = r#"{"_aws":"#;

/// The options of the command line.
#[derive(Clone, Copy)]
pub(super) struct Lambda {
    pub(super) invoke_port: u16,
}

impl Lambda {
    /// Checks, before any server is started, that `cargo lambda watch` can be started.
    pub(super) async fn check(self) -> Result<(), EmulatorError> {
        emulator::check(self.invoke_port).await
    }

    /// Starts `cargo lambda watch`. Its functions use the servers of `env` and push through the gateway at `gateway`.
    pub(super) async fn start(
        self,
        env: &[(&'static str, String)],
        gateway: SocketAddr,
    ) -> Result<Emulator, EmulatorError> {
        let sink = |line: &str| {
            if !line.starts_with(METRICS) {
                println!("{line}");
            }
        };
        Emulator::start(EmulatorOptions {
            project: project(),
            port: self.invoke_port,
            starts_functions: true,
            environment: settings::of_functions(env, own_endpoint(gateway).as_str()),
            sink: Arc::new(sink),
        })
        .await
    }
}
