//! The measured service: one started in another process, or one that runs already.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use hongyan::config::{AuthConfig, AuthKey};
use hongyan_runtime::cli::Place;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use url::Url;

use crate::options::Options;

/// The variable that tells a process of this binary to be the service.
const SERVE: &str = "HONGYAN_BENCH_SERVE";
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// True if this process must be the service that another process measures.
pub fn is_asked_for() -> bool {
    std::env::var_os(SERVE).is_some()
}

/// A running service.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) auth: AuthConfig,
    /// The servers with their versions, if known.
    pub(crate) servers: Vec<String>,
    own: Option<(Child, TempDir)>,
}

impl Service {
    pub(crate) async fn find(options: &Options) -> anyhow::Result<Self> {
        match &options.target {
            Some(target) => Self::at(target, options),
            None => Self::start().await,
        }
    }

    fn at(target: &Url, options: &Options) -> anyhow::Result<Self> {
        anyhow::ensure!(target.scheme() == "http", "--target must look like http://127.0.0.1:8080");
        let host = target.host_str().context("--target has no host")?;
        let port = target.port_or_known_default().unwrap_or(80);
        let address =
            (host, port).to_socket_addrs()?.next().with_context(|| format!("{host} has no address"))?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let auth = match &options.secret {
            Some(secret) => AuthConfig {
                key: AuthKey::Secret(secret.clone().into()),
                issuer: variable("JWT_ISSUER"),
                audience: variable("JWT_AUDIENCE"),
            },
            None => {
                options.place.settings().context("JWT_SECRET is not set, and no running stack has it")?.auth
            }
        };
        Ok(Self { address, auth, servers: Vec::new(), own: None })
    }

    /// Starts the servers and the runtime in another process, like `./dev run`, over a new folder.
    async fn start() -> anyhow::Result<Self> {
        eprintln!("Starting Redis, MySQL, Kafka and the service, in a new folder.");
        let folder = tempfile::Builder::new().prefix("hongyan-bench-").tempdir()?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["run", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path())
            .env(SERVE, "1")
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().context("the service has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut servers = Vec::new();
        let address = loop {
            let line = lines.next_line().await?.context("the service did not start; see above")?;
            if let Some(ready) = line.strip_prefix("Hongyan is ready at http://") {
                break ready.split(' ').next().unwrap_or_default().parse()?;
            }
            servers.push(line);
        };
        // Read further output, so that the service is not blocked by a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let auth = Place::at(folder.path()).settings()?.auth;
        Ok(Self { address, auth, servers, own: Some((process, folder)) })
    }

    /// True if the service runs on this machine and shares its cores with the generator.
    pub(crate) fn is_near(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Stops the processes that were started.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        if let Some((mut process, folder)) = self.own {
            if let Some(id) = process.id() {
                kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
            }
            let ended = tokio::time::timeout(STOP_TIMEOUT, process.wait()).await;
            ended.context("the service does not stop")??;
            folder.close()?;
        }
        Ok(())
    }
}
