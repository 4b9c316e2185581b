//! The three servers as processes of this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::docker::Compose;
use super::error::StackError;
use super::files::{State, port_is_free, settle_port};
use super::guard::Guard;
use super::options::StackOptions;
use super::probe::Target;
use super::process::{Launch, Process};
use super::server::{Node, Runs, Server, Started};
use super::server_kind::ServerKind;
use super::targets::{ensure_topics, given_targets, own_target};
use super::{kafka, mysql, redis};

/// How often a start is tried with new ports. Another program may take a port between the check and the start of the
/// server.
const PORT_TRIES: usize = 3;

/// How servers that run already over this folder are treated.
#[derive(Debug)]
pub(super) struct Plan {
    /// The servers must outlive this process.
    pub(super) stays: bool,
}

impl Plan {
    /// Looks for running servers, stops those that a killed process left behind, and chooses ports for those that
    /// will start.
    pub(super) async fn make(
        folder: &Path,
        options: &StackOptions,
        state: &mut State,
        docker: bool,
    ) -> Result<Self, StackError> {
        if docker {
            if state.ports.redis.is_empty() || !Compose::new(folder, state)?.is_up().await? {
                settle_all(options, state, folder);
            }
            return Ok(Self { stays: options.background || state.background });
        }
        let found = running(folder);
        let stays = options.background || (state.background && !found.is_empty());
        if state.background && !found.is_empty() {
            if state.redis_cluster != options.redis_cluster && !options.is_given(ServerKind::Redis) {
                return Err(StackError::Setting {
                    variable: "REDIS_CLUSTER",
                    reason: "the servers that run are of the other kind; stop them by `./dev stack down`"
                        .into(),
                });
            }
        } else {
            stop_all(found).await?;
        }
        state.redis_cluster = options.redis_cluster;
        settle_all(options, state, folder);
        Ok(Self { stays })
    }
}

/// The folder of every process that a server may have.
fn folders(stack: &Path) -> Vec<PathBuf> {
    // In the order in which the processes are stopped: servers that others fill come last.
    let cluster = (1..=redis::CLUSTER_NODES).map(|node| format!("redis-cluster-{node}"));
    ["kafka", "mysql", redis::OLDER, "redis"]
        .map(str::to_owned)
        .into_iter()
        .chain(cluster)
        .map(|name| stack.join(name))
        .collect()
}

/// The running servers over this folder, no matter which process started them.
pub(super) fn running(stack: &Path) -> Vec<(PathBuf, Process)> {
    folders(stack)
        .into_iter()
        .filter_map(|folder| Process::find(&folder).map(|process| (folder, process)))
        .collect()
}

/// Stops the processes one after the other.
pub(super) async fn stop_all(found: Vec<(PathBuf, Process)>) -> Result<(), StackError> {
    for (_, mut process) in found {
        process.stop().await?;
    }
    Ok(())
}

/// Chooses a port for each server that will start and does not run yet.
fn settle_all(options: &StackOptions, state: &mut State, folder: &Path) {
    let runs = |name: &str| Process::find(&folder.join(name)).is_some();
    if !options.is_given(ServerKind::Redis)
        && !runs(if state.redis_cluster { "redis-cluster-1" } else { "redis" })
    {
        redis::settle_ports(state, options);
    }
    if !options.is_given(ServerKind::MySql) && !runs("mysql") {
        settle_port(&mut state.ports.mysql);
    }
    if !options.is_given(ServerKind::Kafka) && !runs("kafka") {
        settle_kafka(state, options);
    }
}

fn settle_kafka(state: &mut State, options: &StackOptions) {
    for port in kafka::ports(state, options) {
        settle_port(port);
    }
}

/// Starts the three servers at the same time.
pub(super) async fn start(
    folder: &Path,
    options: &StackOptions,
    state: &mut State,
    plan: Plan,
) -> Result<Started, StackError> {
    let guard = if plan.stays { None } else { Some(Arc::new(Guard::start(folder, options.remove)?)) };
    let one = |kind: ServerKind, state: State| {
        let guard = guard.clone();
        async move { start_one(kind, folder, options, state, guard).await }
    };
    let (redis, mysql, kafka) = tokio::join!(
        one(ServerKind::Redis, state.clone()),
        one(ServerKind::MySql, state.clone()),
        one(ServerKind::Kafka, state.clone())
    );
    match (redis, mysql, kafka) {
        (Ok((redis, redis_state)), Ok((mysql, mysql_state)), Ok((kafka, kafka_state))) => {
            state.ports = kafka_state.ports;
            (state.ports.redis, state.ports.redis_tls) =
                (redis_state.ports.redis, redis_state.ports.redis_tls);
            state.ports.mysql = mysql_state.ports.mysql;
            Ok(([redis, mysql, kafka], guard, None))
        }
        (redis, mysql, kafka) => {
            let mut first = None;
            for result in [redis, mysql, kafka] {
                match result {
                    Ok((server, _)) => server.undo().await?,
                    Err(error) => first = first.or(Some(error)),
                }
            }
            if let Some(guard) = &guard {
                guard.dismiss()?;
            }
            Err(first.unwrap_or(StackError::Missing { program: "a server" }))
        }
    }
}

/// Starts one server and waits until it works. `state` is a copy for this server, of which only its ports may change.
async fn start_one(
    kind: ServerKind,
    folder: &Path,
    options: &StackOptions,
    mut state: State,
    guard: Option<Arc<Guard>>,
) -> Result<(Server, State), StackError> {
    if options.is_given(kind) {
        let server = Server::new(kind, Runs::Elsewhere, given_targets(kind, options));
        server.wait().await?;
        if kind == ServerKind::Kafka {
            ensure_topics(options, &state).await?;
        }
        return Ok((server, state));
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let server = prepare(kind, folder, options, &state, guard.as_ref()).await?;
        let ready = async {
            server.spawn().await?;
            if kind == ServerKind::Redis && state.redis_cluster {
                server.wait_for_nodes(&state).await?;
                redis::form_cluster(&state).await?;
            }
            server.wait().await?;
            if kind == ServerKind::Kafka { ensure_topics(options, &state).await } else { Ok(()) }
        };
        let Err(error) = ready.await else {
            return Ok((server, state));
        };
        server.undo().await?;
        let lost_its_port = match kind {
            ServerKind::Redis => {
                let mut ports = state.ports.redis.iter().chain(&state.ports.redis_tls);
                !ports.all(|port| port_is_free(*port))
            }
            ServerKind::MySql => !port_is_free(state.ports.mysql),
            ServerKind::Kafka => {
                let ports = kafka::ports(&mut state, options);
                !ports.into_iter().all(|port| port_is_free(*port))
            }
        };
        if !lost_its_port || tries == PORT_TRIES {
            return Err(error);
        }
        match kind {
            ServerKind::Redis => redis::settle_ports(&mut state, options),
            ServerKind::MySql => settle_port(&mut state.ports.mysql),
            ServerKind::Kafka => settle_kafka(&mut state, options),
        }
    }
}

/// Makes the files and folders of a server, and finds its process if it runs already.
async fn prepare(
    kind: ServerKind,
    folder: &Path,
    options: &StackOptions,
    state: &State,
    guard: Option<&Arc<Guard>>,
) -> Result<Server, StackError> {
    let node = |launch: Launch, port: u16| {
        let process = Process::find(&launch.folder);
        Node::new(launch, port, process, guard.cloned())
    };
    let (nodes, targets) = match kind {
        ServerKind::Redis => {
            let count = if state.redis_cluster { redis::CLUSTER_NODES } else { 1 };
            let mut nodes = Vec::with_capacity(count);
            for (number, port) in state.ports.redis.iter().take(count).enumerate() {
                nodes.push(node(redis::prepare(folder, state, options, number)?, *port));
            }
            let targets = (0..count)
                .map(|number| Target::Redis { url: redis::url(state, number), cluster: state.redis_cluster })
                .collect();
            (nodes, targets)
        }
        ServerKind::MySql => (
            vec![node(mysql::prepare(folder, state, options).await?, state.ports.mysql)],
            vec![own_target(kind, state)],
        ),
        ServerKind::Kafka => (
            vec![node(kafka::prepare(folder, state, options).await?, state.ports.kafka)],
            vec![own_target(kind, state)],
        ),
    };
    Ok(Server::new(kind, Runs::Here(nodes), targets))
}
