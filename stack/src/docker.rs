//! The three servers in Docker, from `compose.yaml`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::error::StackError;
use super::files::{State, find_program, run_tool, short_name};
use super::options::StackOptions;
use super::probe::WaitError;
use super::server_kind::ServerKind;

/// One Docker project: `compose.yaml` with the ports and passwords of this folder.
#[derive(Debug)]
pub(super) struct Compose {
    pub(super) project: String,
    docker: PathBuf,
    variables: Vec<(&'static str, String)>,
}

/// True if a Docker engine answers and has `docker compose`.
pub(super) async fn engine_answers() -> bool {
    let Ok(docker) = find_program(&["docker"]) else {
        return false;
    };
    let mut info = Command::new(&docker);
    info.arg("info");
    let mut compose = Command::new(&docker);
    compose.args(["compose", "version"]);
    let ask =
        async { run_tool("docker info", info).await.is_ok() && run_tool("docker", compose).await.is_ok() };
    tokio::time::timeout(Duration::from_secs(5), ask).await.unwrap_or(false)
}

impl Compose {
    pub(super) fn new(folder: &Path, state: &State) -> Result<Self, StackError> {
        let port = |port: u16| port.to_string();
        Ok(Self {
            project: short_name(folder),
            docker: find_program(&["docker"])?,
            variables: vec![
                ("HONGYAN_REDIS_PORT", port(state.ports.redis.first().copied().unwrap_or_default())),
                ("HONGYAN_REDIS_PASSWORD", state.redis_password.clone()),
                ("HONGYAN_MYSQL_PORT", port(state.ports.mysql)),
                ("HONGYAN_MYSQL_PASSWORD", state.mysql_password.clone()),
                ("HONGYAN_MYSQL_ROOT_PASSWORD", state.mysql_root_password.clone()),
                ("HONGYAN_KAFKA_PORT", port(state.ports.kafka)),
                ("HONGYAN_KAFKA_CLUSTER_ID", state.kafka_cluster_id.clone()),
            ],
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.docker);
        command
            .args(["compose", "--project-name", &self.project, "--file"])
            // The compose file, and the settings that it mounts, come from the checkout that this program was built
            // from.
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose.yaml"))
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command
    }

    /// Runs one `docker compose` command to its end.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<(), StackError> {
        let what = format!("docker compose {}", arguments.join(" "));
        run_tool(&what, self.command(arguments)).await.map(|_| ())
    }

    /// True if a container of the project runs.
    pub(super) async fn is_up(&self) -> Result<bool, StackError> {
        let list = run_tool("docker compose ps", self.command(&["ps", "--quiet"])).await?;
        Ok(!list.trim().is_empty())
    }

    /// Starts the servers that the caller has not given.
    pub(super) async fn up(&self, options: &StackOptions) -> Result<(), StackError> {
        let mut arguments = vec!["up", "--detach", "--wait"];
        arguments.extend(
            ServerKind::ALL.into_iter().filter(|kind| !options.is_given(*kind)).map(ServerKind::service),
        );
        self.run(&arguments).await
    }

    /// The error for a container that does not answer, with the end of its log.
    pub(super) async fn silent(&self, server: ServerKind, limit: Duration, error: &WaitError) -> StackError {
        let arguments = ["logs", "--no-color", "--tail", "8", server.service()];
        let tail = run_tool("docker compose logs", self.command(&arguments)).await;
        let (WaitError::Refused(reason) | WaitError::Ended(reason) | WaitError::Silent(reason)) = error;
        StackError::Silent {
            server,
            seconds: limit.as_secs(),
            reason: reason.clone(),
            log: format!("(docker compose --project-name {} logs {})", self.project, server.service()).into(),
            tail: tail.unwrap_or_else(|error| error.to_string()),
        }
    }
}
