//! MySQL where it is installed, MariaDB otherwise.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::mysql::MySqlConnectOptions;

use super::error::{Doing as _, StackError};
use super::files::{State, find_program, make_folder, run_tool, short_name, write_private};
use super::options::StackOptions;
use super::process::Launch;
use super::server_kind::ServerKind;

/// The settings that the native server and compose.yaml share.
pub(super) const SETTINGS: &str = include_str!("../servers/mysql.cnf");

/// The application's user, and its database. It may also make databases whose name begins so: tests do.
pub(super) const NAME: &str = "hongyan";

/// The application's URL.
pub(super) fn url(state: &State) -> String {
    format!("mysql://{NAME}:{}@127.0.0.1:{}/{NAME}", state.mysql_password, state.ports.mysql)
}

/// How an administrator comes in, by the socket: the application's user may not change what concerns the whole server.
pub(super) fn administrator(stack: &Path, state: &State) -> MySqlConnectOptions {
    let socket = socket(&stack.join("mysql"));
    MySqlConnectOptions::new().socket(socket).username("root").password(&state.mysql_root_password)
}

/// Makes the data folder where there is none, writes the settings, and says how to start the server.
pub(super) async fn prepare(
    stack: &Path,
    state: &State,
    options: &StackOptions,
) -> Result<Launch, StackError> {
    let folder = stack.join("mysql");
    make_folder(&folder)?;
    let program = find_program(&["mysqld", "mariadbd"])?;
    // As root the server insists on being told whose files these are; they are its starter's.
    let root = fs::metadata(&folder).doing(|| format!("cannot read {}", folder.display()))?.uid() == 0;
    // A server that starts removes what looks like a left-over temporary table from its folder for them. In the machine's
    // common one that may be another server's that is just being made.
    let temporary = folder.join("tmp");
    make_folder(&temporary)?;
    let settings = folder.join("my.cnf");
    let mut own = format!(
        "{SETTINGS}\nbind_address = 127.0.0.1\nport = {}\ntmpdir = {}\nsocket = {}\npid_file = {}\n{}",
        state.ports.mysql,
        temporary.display(),
        socket(&folder).display(),
        folder.join("mysqld.pid").display(),
        if root { "user = root\n" } else { "" }
    );
    if let Some(certificate) = &options.secure_mysql {
        let [chain, key, authority] = certificate.write(&folder)?.map(|path| path.display().to_string());
        let secure = format!(
            "require_secure_transport = ON\nssl_cert = {chain}\nssl_key = {key}\nssl_ca = {authority}\n"
        );
        own.push_str(&secure);
    }
    write_private(&settings, own.as_bytes())?;
    let accounts = folder.join("accounts.sql");
    write_private(&accounts, accounts_sql(state).as_bytes())?;
    let data = folder.join("data");
    if !data.exists() {
        initialise(&program, &settings, &data).await?;
    }
    let arguments = vec![
        option("--defaults-file=", &settings),
        option("--datadir=", &data),
        option("--init-file=", &accounts),
    ];
    Ok(Launch { kind: ServerKind::MySql, folder, program, arguments })
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

/// The system gives a socket's path 107 bytes; a deep checkout needs a shorter one elsewhere.
fn socket(folder: &Path) -> PathBuf {
    let near = folder.join("sock");
    if near.as_os_str().len() <= 100 {
        return near;
    }
    std::env::temp_dir().join(short_name(folder)).with_extension("sock")
}

/// Runs at every start, before anybody can connect. One statement a line, as MySQL wants it.
///
/// A fresh server has a root without a password, and MariaDB's may have a nameless user that would win over ours.
fn accounts_sql(state: &State) -> String {
    let (user, root) = (&state.mysql_password, &state.mysql_root_password);
    format!(
        "CREATE DATABASE IF NOT EXISTS `{NAME}`;\n\
         DROP USER IF EXISTS ''@'localhost';\n\
         ALTER USER IF EXISTS 'root'@'localhost' IDENTIFIED BY '{root}';\n\
         CREATE USER IF NOT EXISTS '{NAME}'@'%' IDENTIFIED BY '{user}';\n\
         ALTER USER '{NAME}'@'%' IDENTIFIED BY '{user}';\n\
         GRANT ALL PRIVILEGES ON `{NAME}%`.* TO '{NAME}'@'%';\n"
    )
}

/// Makes a new data folder; it gets its name only when it is complete.
async fn initialise(program: &Path, settings: &Path, data: &Path) -> Result<(), StackError> {
    let fresh = data.with_extension("new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).doing(|| format!("cannot remove {}", fresh.display()))?;
    }
    let mut command = if is_mariadb(program).await? {
        let mut command = Command::new(find_program(&["mariadb-install-db", "mysql_install_db"])?);
        command.arg(option("--defaults-file=", settings)).args([
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            "--skip-name-resolve",
        ]);
        command
    } else {
        let mut command = Command::new(program);
        command.arg(option("--defaults-file=", settings)).arg("--initialize-insecure");
        command
    };
    command.arg(option("--datadir=", &fresh));
    run_tool("making MySQL's data folder", command).await?;
    fs::rename(&fresh, data).doing(|| format!("cannot rename {}", fresh.display()))
}

/// Debian's MariaDB is also called `mysqld`, so the name does not tell.
async fn is_mariadb(program: &Path) -> Result<bool, StackError> {
    let mut command = Command::new(program);
    command.arg("--version");
    Ok(run_tool("mysqld --version", command).await?.contains("MariaDB"))
}
