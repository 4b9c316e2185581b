//! `lambda`: what `run` has in its own process is here behind `cargo lambda watch`.

use std::net::SocketAddr;
use std::sync::Arc;

use super::settings;
use crate::cli::place::project;
use crate::runtime::own_endpoint;
use hongyan_stack::emulator::{self, Emulator, EmulatorError, EmulatorOptions};

/// How each line of CloudWatch's embedded metric format begins. There are some for each invocation.
const METRICS: &str = r#"{"_aws":"#;

/// What the command line says.
#[derive(Clone, Copy)]
pub(super) struct Lambda {
    pub(super) invoke_port: u16,
}

impl Lambda {
    /// Finds out before any server is started whether this can work.
    pub(super) async fn check(self) -> Result<(), EmulatorError> {
        emulator::check(self.invoke_port).await
    }

    /// Starts `cargo lambda watch`, whose functions use the servers of `env` and push through the gateway at `gateway`.
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
