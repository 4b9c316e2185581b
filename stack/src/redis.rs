//! Redis: one node, or a cluster of three.

use std::path::{Path, PathBuf};

use super::error::StackError;
use super::files::{State, find_program, make_folder, settle_port, write_private};
use super::options::{ServerCertificate, StackOptions};
use super::process::Launch;
use super::server_kind::ServerKind;

/// The settings that the native server and compose.yaml share.
pub(super) const SETTINGS: &str = include_str!("../servers/redis.conf");

/// The folder of the server that hands an older state to the stack's Redis.
pub(super) const OLDER: &str = "redis-older";

/// The number of nodes of a cluster: the fewest that Redis allows.
pub(super) const CLUSTER_NODES: usize = 3;

/// The number of slots of a Redis Cluster.
const SLOTS: usize = 16_384;

/// The URL of one node.
pub(super) fn url(state: &State, node: usize) -> String {
    url_at(state, "redis", state.ports.redis.get(node))
}

/// The URL of the first node over TLS.
pub(super) fn url_over_tls(state: &State) -> String {
    url_at(state, "rediss", state.ports.redis_tls.first())
}

/// The URL of another server that has the stack's password, on this port.
pub(super) fn url_of(state: &State, port: u16) -> String {
    url_at(state, "redis", Some(&port))
}

fn url_at(state: &State, scheme: &str, port: Option<&u16>) -> String {
    let port = port.copied().unwrap_or_default();
    // A cluster has database 0 only.
    let database = u8::from(!state.redis_cluster);
    format!("{scheme}://:{}@127.0.0.1:{port}/{database}", state.redis_password)
}

/// Chooses free ports: one for each node, in a cluster one more for the cluster bus of each, and one for TLS if it is
/// wanted.
pub(super) fn settle_ports(state: &mut State, options: &StackOptions) {
    let nodes = if state.redis_cluster { CLUSTER_NODES } else { 1 };
    state.ports.redis.resize(if state.redis_cluster { 2 * nodes } else { 1 }, 0);
    state.ports.redis_tls.resize(if options.secure_redis.is_some() { nodes } else { 0 }, 0);
    state.ports.redis.iter_mut().chain(&mut state.ports.redis_tls).for_each(settle_port);
}

/// Writes the settings of a node, and returns the command that starts it.
pub(super) fn prepare(
    stack: &Path,
    state: &State,
    options: &StackOptions,
    node: usize,
) -> Result<Launch, StackError> {
    let name = if state.redis_cluster { format!("redis-cluster-{}", node + 1) } else { "redis".to_owned() };
    let folder = stack.join(name);
    make_folder(&folder)?;
    let port = state.ports.redis.get(node).copied().unwrap_or_default();
    let mut settings = settings(&folder, port, state);
    if state.redis_cluster {
        settings.push_str(&cluster_settings(state, node));
    }
    if let Some(certificate) = &options.secure_redis {
        settings.push_str(&tls_settings(&folder, state, certificate, node)?);
    }
    launch(folder, &settings)
}

/// Writes the settings of an additional server over the data files in `folder`, and returns the command that starts
/// it.
pub(super) fn prepare_beside(folder: PathBuf, port: u16, state: &State) -> Result<Launch, StackError> {
    let mut settings = settings(&folder, port, state);
    // By default Redis waits 5 s for further replicas.
    settings.push_str("repl-diskless-sync-delay 0\n");
    launch(folder, &settings)
}

fn settings(folder: &Path, port: u16, state: &State) -> String {
    format!(
        "{SETTINGS}\nbind 127.0.0.1\nport {port}\ndir \"{}\"\nrequirepass {password}\nmasterauth {password}\n\
         set-proc-title no\n",
        folder.display(),
        password = state.redis_password
    )
}

fn launch(folder: PathBuf, settings: &str) -> Result<Launch, StackError> {
    let file = folder.join("redis.conf");
    write_private(&file, settings.as_bytes())?;
    Ok(Launch { kind: ServerKind::Redis, program: program(&folder)?, folder, arguments: vec![file.into()] })
}

/// Writes key and certificates into `folder`, and returns the lines of `redis.conf` for the TLS port.
fn tls_settings(
    folder: &Path,
    state: &State,
    certificate: &ServerCertificate,
    node: usize,
) -> Result<String, StackError> {
    let [chain, key, authority] = certificate.write(folder)?;
    let port = state.ports.redis_tls.get(node).copied().unwrap_or_default();
    // Clients prove who they are by a password, not by a certificate.
    let mut settings = format!(
        "tls-port {port}\ntls-auth-clients no\ntls-cert-file \"{}\"\ntls-key-file \"{}\"\ntls-ca-cert-file \"{}\"\n",
        chain.display(),
        key.display(),
        authority.display()
    );
    if state.redis_cluster {
        // With this the nodes know each other's TLS ports, and redirect clients there.
        settings.push_str("tls-cluster yes\n");
    }
    Ok(settings)
}

fn cluster_settings(state: &State, node: usize) -> String {
    let bus = state.ports.redis.get(CLUSTER_NODES + node).copied().unwrap_or_default();
    format!(
        "cluster-enabled yes\ncluster-port {bus}\ncluster-config-file nodes.conf\n\
         cluster-node-timeout 5000\ncluster-require-full-coverage no\n"
    )
}

/// Debian's package `redis-tools` has the server under the name `redis-check-rdb`: one program acts by the name it is
/// called with. The package `redis-server` only adds the other name, and a service that takes port 6379 at once.
fn program(folder: &Path) -> Result<PathBuf, StackError> {
    let found = find_program(&["redis-server", "redis-check-rdb"])?;
    if found.file_name().is_some_and(|name| name == "redis-server") {
        return Ok(found);
    }
    let link = folder.join("redis-server");
    let make = || -> std::io::Result<()> {
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(&found, &link)
    };
    make().map_err(|source| StackError::Io { doing: format!("cannot make {}", link.display()), source })?;
    Ok(link)
}

/// Makes a cluster of new nodes. Does nothing if they form one already.
pub(super) async fn form_cluster(state: &State) -> Result<(), StackError> {
    let form = async {
        for node in 0..CLUSTER_NODES {
            let mut connection =
                redis::Client::open(url(state, node))?.get_multiplexed_async_connection().await?;
            let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?;
            if !info.contains("cluster_slots_assigned:0\r") {
                continue;
            }
            redis::cmd("CLUSTER")
                .arg("ADDSLOTSRANGE")
                .arg(SLOTS * node / CLUSTER_NODES)
                .arg(SLOTS * (node + 1) / CLUSTER_NODES - 1)
                .query_async::<()>(&mut connection)
                .await?;
            // Each node needs a config epoch of its own. A new node takes one only before it has met another.
            redis::cmd("CLUSTER")
                .arg("SET-CONFIG-EPOCH")
                .arg(node + 1)
                .query_async::<()>(&mut connection)
                .await?;
        }
        let mut first = redis::Client::open(url(state, 0))?.get_multiplexed_async_connection().await?;
        for node in 1..CLUSTER_NODES {
            redis::cmd("CLUSTER")
                .arg("MEET")
                .arg("127.0.0.1")
                .arg(state.ports.redis[node])
                .arg(state.ports.redis[CLUSTER_NODES + node])
                .query_async::<()>(&mut first)
                .await?;
        }
        Ok::<(), redis::RedisError>(())
    };
    form.await.map_err(|error| StackError::Tool { what: "Redis Cluster".into(), reason: error.to_string() })
}
