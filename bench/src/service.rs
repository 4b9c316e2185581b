//! The measured service: one started in another process, or one that runs already.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use hongyan::config::{AuthConfig, AuthKey, Config};
use hongyan_runtime::cli::Place;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use url::Url;

use crate::options::Options;
use crate::process::Watched;
use crate::servers;

/// The variable that tells a process of this binary to be the service.
const SERVE: &str = "HONGYAN_BENCH_SERVE";
const STOP_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the servers of a killed service may go on writing into their folder.
const SERVERS_END_WITHIN: Duration = Duration::from_secs(15);

/// True if this process must be the service that another process measures.
pub fn is_asked_for() -> bool {
    std::env::var_os(SERVE).is_some()
}

/// Ends this process, the service, when the measuring process ends, even if that is killed: its end closes the
/// standard input of this process.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        // Like Ctrl-C: the servers are stopped in good order.
        let _ = kill(Pid::this(), Signal::SIGTERM);
    });
}

/// A running service.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) auth: AuthConfig,
    /// The servers with their versions, if known.
    pub(crate) servers: Vec<String>,
    /// How the service reaches its servers, or the reason why that is unknown.
    pub(crate) known: Result<Config, String>,
    own: Option<(Child, TempDir)>,
}

impl Service {
    /// Finds the service of `options.target`, or starts one. `interrupted` ends the start in good order.
    pub(crate) async fn find(
        options: &Options,
        interrupted: impl Future<Output = ()> + Unpin,
    ) -> anyhow::Result<Self> {
        match &options.target {
            Some(target) => Self::at(target, options).await,
            None => Self::start(interrupted).await,
        }
    }

    async fn at(target: &Url, options: &Options) -> anyhow::Result<Self> {
        anyhow::ensure!(target.scheme() == "http", "--target must be such as http://127.0.0.1:8080");
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
                user_claim: variable("JWT_USER_CLAIM").unwrap_or_else(|| "sub".to_owned()),
            },
            None => {
                options.place.settings().context("JWT_SECRET is not set, and no running stack has it")?.auth
            }
        };
        let known = match &options.servers {
            Some(config) => Ok(config.clone()),
            None => options.place.settings().map_err(|error| error.to_string()),
        };
        Ok(Self { address, auth, servers: servers::versions(&known).await, known, own: None })
    }

    /// Starts the servers and the runtime in another process, like `./dev run`, over a new folder.
    async fn start(mut interrupted: impl Future<Output = ()> + Unpin) -> anyhow::Result<Self> {
        eprintln!("Starting Redis, MySQL, Kafka and the service, in a folder of their own.");
        let folder = tempfile::Builder::new().prefix("hongyan-bench-").tempdir()?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["run", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path())
            .env(SERVE, "1")
            // Each send is counted, and none is too many.
            .env("IM_SENDS_PER_SECOND", "1000000")
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()))
            // See `end_with_parent`. Ctrl-C at the terminal must not reach the service: this process stops it after
            // measuring.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().context("the service has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut servers = Vec::new();
        let address = loop {
            let line = tokio::select! {
                line = lines.next_line() => line?,
                () = &mut interrupted => {
                    stop(process, folder).await?;
                    anyhow::bail!("interrupted; nothing is reported");
                }
            };
            let line = line.context("the service did not start; see above")?;
            if let Some(ready) = line.strip_prefix("Hongyan is ready at http://") {
                break ready.split(' ').next().unwrap_or_default().parse()?;
            }
            servers.push(line);
        };
        // Read further output, so that the service is not blocked by a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let config = Place::at(folder.path()).settings()?;
        Ok(Self {
            address,
            auth: config.auth.clone(),
            servers,
            known: Ok(config),
            own: Some((process, folder)),
        })
    }

    /// True if the service was started for this measurement.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// The processes to watch: the service and its servers.
    pub(crate) fn processes(&self) -> Vec<Watched> {
        let service = match &self.own {
            Some((process, _)) => match process.id() {
                Some(pid) => Watched::process("service", pid),
                None => Watched::unknown("service", "it has ended"),
            },
            None => Watched::listening_at("service", self.address),
        };
        std::iter::once(service).chain(servers::processes(&self.known)).collect()
    }

    /// True if the service runs on this machine and shares its cores with the generator.
    pub(crate) fn is_near(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Stops the processes that were started. An error names the one that did not end well.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self.own {
            Some((process, folder)) => stop(process, folder).await,
            None => Ok(()),
        }
    }
}

async fn stop(mut process: Child, folder: TempDir) -> anyhow::Result<()> {
    let died = process.try_wait()?;
    if let (None, Some(id)) = (died, process.id()) {
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
    }
    let ended = tokio::time::timeout(STOP_TIMEOUT, process.wait()).await;
    ended.context("the service does not stop")??;
    remove(folder).await?;
    match died {
        Some(status) => anyhow::bail!("the service died: {status}"),
        None => Ok(()),
    }
}

/// Removes the folder. The servers of a killed service end a moment later, and write until then.
async fn remove(folder: TempDir) -> std::io::Result<()> {
    let path = folder.keep();
    let began = std::time::Instant::now();
    loop {
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                if began.elapsed() > SERVERS_END_WITHIN {
                    return Err(error);
                }
            }
            _ => return Ok(()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
