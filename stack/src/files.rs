//! Folders, secrets, ports and programs: the things that servers need before they start.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};

use super::error::{Doing as _, StackError};

/// The state that a data folder keeps from one start to the next. Only the owner can read the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// The servers were started in the background (`./dev stack up`), so a later start uses them as they are.
    pub(super) background: bool,
    /// True if the servers run in Docker and their data is there. `None` before the first start.
    pub(super) docker: Option<bool>,
    pub(super) redis_cluster: bool,
    pub(super) ports: Ports,
    pub(super) redis_password: String,
    pub(super) mysql_password: String,
    pub(super) mysql_root_password: String,
    pub(super) kafka_cluster_id: String,
    pub(super) jwt_secret: String,
    /// The settings that [`super::Stack::env`] returned last.
    pub(super) env: Vec<(String, String)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ports {
    /// One port, or for a Redis Cluster six: three for clients and three for the cluster bus.
    pub(super) redis: Vec<u16>,
    /// One port for each node, only with [`super::StackOptions::with_secure_redis`].
    pub(super) redis_tls: Vec<u16>,
    pub(super) mysql: u16,
    pub(super) kafka: u16,
    pub(super) kafka_controller: u16,
    /// This and the next only with [`super::SecureKafka`].
    pub(super) kafka_tls: u16,
    pub(super) kafka_scram: u16,
    /// Only with [`super::StackOptions::with_kafka_proxy`].
    pub(super) kafka_proxied: u16,
}

impl State {
    /// Reads the state in `folder`; `None` if there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, StackError> {
        let path = folder.join("state.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(std::io::Error::from)
                .doing(|| format!("cannot read {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("cannot read {}", path.display())),
        }
    }

    /// Reads the state in `folder`, and makes up passwords and secrets that are missing.
    pub(super) fn read_or_new(folder: &Path) -> Result<Self, StackError> {
        let mut state = Self::read(folder)?.unwrap_or_default();
        for (secret, length) in [
            (&mut state.redis_password, 32),
            (&mut state.mysql_password, 32),
            (&mut state.mysql_root_password, 32),
            (&mut state.jwt_secret, 64),
            // Kafka's form of a UUID is 16 bytes in base64: 22 letters, of which the last carries only two bits.
            (&mut state.kafka_cluster_id, 21),
        ] {
            if secret.is_empty() {
                *secret = random_text(length);
            }
        }
        if state.kafka_cluster_id.len() == 21 {
            state.kafka_cluster_id.push('Q');
        }
        Ok(state)
    }

    /// Writes the state in one step, so that a crash leaves the old state or the new one.
    pub(super) fn write(&self, folder: &Path) -> Result<(), StackError> {
        let text =
            serde_json::to_vec_pretty(self).map_err(std::io::Error::from).doing(|| "state.json".into())?;
        write_private(&folder.join("state.json"), &text)
    }
}

/// Random letters and digits. They need no quoting in URLs and in the files of the servers.
pub(super) fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

/// Writes a file that only its owner can read. Replaces an older file in one step.
pub(super) fn write_private(path: &Path, contents: &[u8]) -> Result<(), StackError> {
    let fresh = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().doing(|| format!("cannot write {}", path.display()))
}

/// Makes a folder that only its owner can enter.
pub(super) fn make_folder(path: &Path) -> Result<(), StackError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
        .doing(|| format!("cannot make the folder {}", path.display()))
}

/// Locks the folder for this process. The lock is released when the file is closed, so also when the process dies.
pub(super) fn lock(folder: &Path) -> Result<File, StackError> {
    let path = folder.join("lock");
    let doing = || format!("cannot lock {}", path.display());
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).doing(doing)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).doing(doing)?;
            write!(file, "process {}", std::process::id()).doing(doing)?;
            Ok(file)
        }
        Err(fs::TryLockError::WouldBlock) => {
            let owner = fs::read_to_string(&path).unwrap_or_default();
            let owner = if owner.is_empty() { "another process".into() } else { owner };
            Err(StackError::Busy { folder: folder.to_owned(), owner })
        }
        Err(fs::TryLockError::Error(error)) => Err(error).doing(doing),
    }
}

/// True if a server could listen on this port of 127.0.0.1 now.
pub(super) fn port_is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Keeps the remembered port if it is free, and otherwise takes a new one.
///
/// New ports lie below the range that the system uses for outgoing connections (from 32768 on Linux, 49152 on macOS).
/// Otherwise, while a server is down for a moment, a client that tries to reach it could get the server's port for
/// its own end.
pub(super) fn settle_port(port: &mut u16) {
    // The ports that this process has taken before. Their servers may not listen yet.
    static FOUND: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    while *port == 0 || !port_is_free(*port) {
        let other = rand::rng().random_range(20_000..32_000);
        let is_new = FOUND.lock().insert(other);
        *port = if is_new { other } else { 0 };
    }
}

/// A free port of 127.0.0.1 below the range that the system uses for outgoing connections. So no client gets the port
/// for its own end while the server on it is down.
pub fn free_port() -> u16 {
    let mut port = 0;
    settle_port(&mut port);
    port
}

/// Finds a program on the path, or in the folders where Debian keeps servers.
pub(super) fn find_program(names: &[&'static str]) -> Result<PathBuf, StackError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .collect();
    names
        .iter()
        .flat_map(|name| places.iter().map(move |place| place.join(name)))
        .find(|file| {
            fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .ok_or(StackError::Missing { program: names.first().copied().unwrap_or_default() })
}

/// Runs a tool to its end and returns its standard output. The error has the end of the tool's output.
pub(super) async fn run_tool(what: &str, command: std::process::Command) -> Result<String, StackError> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = command.output().await.doing(|| what.to_owned())?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let words = if stderr.trim().is_empty() { stdout.as_str() } else { &stderr };
    Err(StackError::Tool {
        what: what.to_owned(),
        reason: format!("{}\n{}", output.status, last_lines(words, 12)),
    })
}

/// The last lines of a text.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A short name for a folder, always the same for the same folder (FNV-1a). Used for sockets and Docker projects.
pub(super) fn short_name(folder: &Path) -> String {
    let hash = folder.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("hongyan-{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_private_and_comes_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::read_or_new(folder.path()).unwrap();
        state.write(folder.path()).unwrap();
        assert_eq!(State::read_or_new(folder.path()).unwrap(), state);
        let mode = fs::metadata(folder.path().join("state.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(state.kafka_cluster_id.len(), 22);
    }

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        let message = lock(folder.path()).unwrap_err().to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        drop(first);
        lock(folder.path()).unwrap();
    }

    #[test]
    fn a_remembered_port_is_kept_while_it_is_free() {
        let mut port = 0;
        settle_port(&mut port);
        let first = port;
        settle_port(&mut port);
        assert_eq!(port, first);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        settle_port(&mut port);
        assert_ne!(port, first);
        drop(taken);
    }
}
