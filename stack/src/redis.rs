//! Redis: one node, or three that form a cluster.

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

/// Nodes of a cluster: the fewest that Redis takes.
pub(super) const CLUSTER_NODES: usize = 3;

/// Slots of a Redis Cluster.
const SLOTS: usize = 16_384;

/// The URL of one node.
pub(super) fn url(state: &State, node: usize) -> String {
    url_at(state, "redis", state.ports.redis.get(node))
}

/// The same for the first node over TLS.
pub(super) fn url_over_tls(state: &State) -> String {
    url_at(state, "rediss", state.ports.redis_tls.first())
}

/// The URL of a server at this port that has the stack's password.
pub(super) fn url_of(state: &State, port: u16) -> String {
    url_at(state, "redis", Some(&port))
}

fn url_at(state: &State, scheme: &str, port: Option<&u16>) -> String {
    let port = port.copied().unwrap_or_default();
    // A cluster has database 0 only.
    let database = u8::from(!state.redis_cluster);
    format!("{scheme}://:{}@127.0.0.1:{port}/{database}", state.redis_password)
}

/// Finds free ports: one a node, in a cluster one more each for the nodes' own talk, and where it is wanted one for TLS.
pub(super) fn settle_ports(state: &mut State, options: &StackOptions) {
    let nodes = if state.redis_cluster { CLUSTER_NODES } else { 1 };
    state.ports.redis.resize(if state.redis_cluster { 2 * nodes } else { 1 }, 0);
    state.ports.redis_tls.resize(if options.secure_redis.is_some() { nodes } else { 0 }, 0);
    state.ports.redis.iter_mut().chain(&mut state.ports.redis_tls).for_each(settle_port);
}

/// Writes the node's settings and says how to start it.
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

/// Says how to start a server beside the one that the application uses, over the data files that are in `folder`.
pub(super) fn prepare_beside(folder: PathBuf, port: u16, state: &State) -> Result<Launch, StackError> {
    let mut settings = settings(&folder, port, state);
    // Redis waits 5 s by default for more replicas to come.
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

/// Writes key and certificates into `folder`, and says what `redis.conf` has beside the plaintext port's settings.
fn tls_settings(
    folder: &Path,
    state: &State,
    certificate: &ServerCertificate,
    node: usize,
) -> Result<String, StackError> {
    let [chain, key, authority] = certificate.write(folder)?;
    let port = state.ports.redis_tls.get(node).copied().unwrap_or_default();
    // Clients are known by their password, not by a certificate.
    let mut settings = format!(
        "tls-port {port}\ntls-auth-clients no\ntls-cert-file \"{}\"\ntls-key-file \"{}\"\ntls-ca-cert-file \"{}\"\n",
        chain.display(),
        key.display(),
        authority.display()
    );
    if state.redis_cluster {
        // Without it the nodes do not know each other's TLS ports, to send clients there.
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

/// Debian's package `redis-tools` has the server as `redis-check-rdb`: one program that goes by the name it is called.
/// Its package `redis-server` adds only the other name, and a service that starts at once and takes port 6379.
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

/// Makes a cluster of nodes that do not know each other yet; does nothing where they do.
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
            // Each needs an epoch of its own; a fresh node takes it only while it knows nobody.
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
