//! MySQL if it is installed, otherwise MariaDB.

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

/// The name of the application's user and of its database. The user may also create databases whose name begins with
/// it, for tests.
pub(super) const NAME: &str = "hongyan";

/// The application's URL.
pub(super) fn url(state: &State) -> String {
    format!("mysql://{NAME}:{}@127.0.0.1:{}/{NAME}", state.mysql_password, state.ports.mysql)
}

/// How an administrator connects, by the socket. The application's user may not change server-wide settings.
pub(super) fn administrator(stack: &Path, state: &State) -> MySqlConnectOptions {
    let socket = socket(&stack.join("mysql"));
    MySqlConnectOptions::new().socket(socket).username("root").password(&state.mysql_root_password)
}

/// Makes a missing data folder, writes the settings, and returns the command that starts the server.
pub(super) async fn prepare(
    stack: &Path,
    state: &State,
    options: &StackOptions,
) -> Result<Launch, StackError> {
    let folder = stack.join("mysql");
    make_folder(&folder)?;
    let program = find_program(&["mysqld", "mariadbd"])?;
    // A server that runs as root must be told so. The files belong to the user who starts the server.
    let root = fs::metadata(&folder).doing(|| format!("cannot read {}", folder.display()))?.uid() == 0;
    // A starting server removes files that look like left-over temporary tables from its folder for temporary files.
    // In the common folder of the machine, such a file may belong to another server that runs.
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

/// The system limits the path of a socket to 107 bytes. A deep checkout gets a shorter path elsewhere.
fn socket(folder: &Path) -> PathBuf {
    let near = folder.join("sock");
    if near.as_os_str().len() <= 100 {
        return near;
    }
    std::env::temp_dir().join(short_name(folder)).with_extension("sock")
}

/// The statements that run at every start before clients can connect. One statement a line, as MySQL requires.
///
/// A new server has a root user without a password. MariaDB may also have an anonymous user, which would match before
/// ours.
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

/// Makes a new data folder under another name and renames it when it is complete.
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

/// Debian's MariaDB also has a program called `mysqld`, so the name of the program does not tell.
async fn is_mariadb(program: &Path) -> Result<bool, StackError> {
    let mut command = Command::new(program);
    command.arg("--version");
    Ok(run_tool("mysqld --version", command).await?.contains("MariaDB"))
}
