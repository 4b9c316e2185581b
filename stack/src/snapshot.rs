//! Snapshots of Redis: kept aside while Redis runs, and put back later, as if Redis had lost its latest data.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::error::{Doing as _, StackError};
use super::files::{free_port, make_folder};
use super::probe::Target;
use super::server::Node;
use super::server_kind::ServerKind;
use super::stack::Stack;
use super::{redis, wait};

/// The folder with the append-only file.
const APPEND_ONLY: &str = "appendonlydir";
const DUMP: &str = "dump.rdb";

/// How often a copy is tried. Redis may rewrite its append-only file during a copy.
const COPIES: usize = 3;

/// How long Redis may take to load the snapshot from the other server.
const LOAD_LIMIT: Duration = Duration::from_secs(30);

/// The data of Redis at one moment, as files.
#[derive(Debug)]
pub struct RedisSnapshot {
    folder: PathBuf,
}

impl Stack {
    /// True if snapshots are possible: Redis is one server, and a process of this machine.
    pub fn has_redis_snapshots(&self) -> bool {
        self.compose.is_none() && !self.options.is_given(ServerKind::Redis) && !self.state.redis_cluster
    }

    /// Copies the files of the running Redis.
    pub fn redis_snapshot(&self) -> Result<RedisSnapshot, StackError> {
        self.refuse_unless_snapshots()?;
        let folder = self.folder.join("redis-snapshot");
        let doing = || format!("copying Redis' files to {}", folder.display());
        let mut tries = 0;
        loop {
            tries += 1;
            remove(&folder).doing(doing)?;
            match copy_data(&self.folder.join("redis"), &folder) {
                Ok(()) => return Ok(RedisSnapshot { folder }),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && tries < COPIES => {}
                Err(error) => return Err(error).doing(doing),
            }
        }
    }

    /// Kills Redis and starts it with a snapshot, as after a restore from a backup.
    pub async fn restart_redis_with(&self, older: RedisSnapshot) -> Result<(), StackError> {
        let server = self.server(ServerKind::Redis);
        server.kill().await?;
        let folder = self.folder.join("redis");
        replace_data(&older.folder, &folder)
            .doing(|| format!("putting back Redis' files in {}", folder.display()))?;
        server.start().await
    }

    /// Loads a snapshot into the running Redis while all connections to it stay. Redis becomes the replica of a
    /// server that holds the snapshot, and then a master again, as after a failover behind one address.
    pub async fn load_into_redis(&self, older: RedisSnapshot) -> Result<(), StackError> {
        self.refuse_unless_snapshots()?;
        let folder = self.folder.join(redis::OLDER);
        make_folder(&folder)?;
        replace_data(&older.folder, &folder)
            .doing(|| format!("putting Redis' files into {}", folder.display()))?;
        let port = free_port();
        let launch = redis::prepare_beside(folder, port, &self.state)?;
        let other = Node::new(launch, port, None, self.guard.clone());
        other.spawn().await?;
        let loaded = async {
            let url = redis::url_of(&self.state, port);
            other.wait(&Target::Redis { url, cluster: false }).await?;
            follow_once(&redis::url(&self.state, 0), port)
                .await
                .map_err(|reason| StackError::Tool { what: "giving Redis an older state".into(), reason })
        };
        let loaded = loaded.await;
        other.end(Signal::SIGKILL).await?;
        loaded
    }

    fn refuse_unless_snapshots(&self) -> Result<(), StackError> {
        if self.has_redis_snapshots() {
            return Ok(());
        }
        Err(StackError::Tool {
            what: "a snapshot of Redis".into(),
            reason: "Redis must be one server and a process of this machine".into(),
        })
    }
}

/// The Redis at `url` replicates the server at `port` once, and is its own master again afterwards.
async fn follow_once(url: &str, port: u16) -> Result<(), String> {
    let follow = async {
        let mut redis = ::redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        let mut replica_of = ::redis::cmd("REPLICAOF");
        replica_of.arg("127.0.0.1").arg(port).exec_async(&mut redis).await?;
        let loaded = wait::until(LOAD_LIMIT, || {
            let mut redis = redis.clone();
            async move {
                let info: String = ::redis::cmd("INFO").arg("replication").query_async(&mut redis).await?;
                let loaded = info.contains("master_link_status:up");
                let reason = || format!("not loaded within {} s", LOAD_LIMIT.as_secs());
                Ok::<_, ::redis::RedisError>(loaded.then_some(()).ok_or_else(reason))
            }
        });
        let loaded = loaded.await?;
        ::redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut redis).await?;
        Ok::<_, ::redis::RedisError>(loaded)
    };
    match follow.await {
        Ok(loaded) => loaded,
        Err(error) => Err(error.to_string()),
    }
}

/// Removes a folder or a file, if it is there.
fn remove(path: &Path) -> std::io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn replace_data(from: &Path, to: &Path) -> std::io::Result<()> {
    remove(&to.join(APPEND_ONLY))?;
    remove(&to.join(DUMP))?;
    copy_data(from, to)
}

/// Copies the parts of the append-only file, and the snapshot file. Redis only appends to its files. If the last
/// command was copied in part, Redis ignores it when it loads the copy.
fn copy_data(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to.join(APPEND_ONLY))?;
    let mut parts: Vec<_> = fs::read_dir(from.join(APPEND_ONLY))?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<_>>()?;
    // Copy the manifest first: all parts that it names must exist in the copy.
    parts.sort_by_key(|name| !name.to_string_lossy().ends_with(".manifest"));
    for name in parts {
        fs::copy(from.join(APPEND_ONLY).join(&name), to.join(APPEND_ONLY).join(&name))?;
    }
    if from.join(DUMP).exists() {
        fs::copy(from.join(DUMP), to.join(DUMP))?;
    }
    Ok(())
}
