//! `migrate`: an empty database, two at once, one that is up to date, and a server that is away.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::net::TcpListener;

use crate::program::{ended, failure_of, hongyan, output_of};

/// The files of `migrations/`, as the command shows them.
fn migrations() -> Vec<String> {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".sql")?.replace('_', " "))).collect();
    names.sort();
    names
}

/// `hongyan migrate` with no other setting than `MYSQL_URL`.
fn migrate(folder: &Path, url: &str, arguments: &[&str]) -> tokio::process::Command {
    let mut command = hongyan(folder, ["migrate"].iter().chain(arguments));
    command.env("MYSQL_URL", url);
    command
}

/// The empty database at `url` becomes one that is up to date.
pub(crate) async fn brings_an_empty_database_up_to_date(folder: &Path, url: &str) {
    let all = migrations();
    let lacking: Vec<String> = all.iter().map(|name| format!("{name}: not applied yet")).collect();
    for _ in 0..2 {
        let said = output_of(migrate(folder, url, &["--dry-run"])).await;
        assert_eq!(said.lines().collect::<Vec<_>>(), lacking, "a dry run changes nothing");
    }

    let (one, other) =
        tokio::join!(output_of(migrate(folder, url, &[])), output_of(migrate(folder, url, &[])));
    let mut applied = BTreeMap::<String, usize>::new();
    for line in one.lines().chain(other.lines()) {
        if let Some((name, took)) = line.split_once(": applied in ") {
            assert!(took.strip_suffix(" ms").is_some_and(|took| took.parse::<u64>().is_ok()), "{line}");
            *applied.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(applied, all.iter().map(|name| (name.clone(), 1)).collect(), "each once, by one of the two");
    for said in [&one, &other] {
        assert!(said.lines().last().is_some_and(|line| line.starts_with("The tables ")), "{said}");
    }

    assert_eq!(output_of(migrate(folder, url, &[])).await, "The tables were up to date.\n");
    assert_eq!(output_of(migrate(folder, url, &["--dry-run"])).await, "The tables are up to date.\n");
}

#[tokio::test]
async fn a_server_that_is_away_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    // Taken and given back, so that nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("mysql://hongyan:hunter2@{nobody}/hongyan");
    for (arguments, action) in
        [(&[] as &[&str], "store.migrate"), (&["--dry-run"], "store.pending_migrations")]
    {
        let line = failure_of(migrate(folder.path(), &url, arguments)).await;
        assert!(line.starts_with(&format!("mysql: {action}: ")) && !line.contains("hunter2"), "{line}");
    }
    let none = ended(hongyan(folder.path(), ["migrate"])).await;
    assert_eq!(none.code, Some(1), "{none:?}");
    assert_eq!(none.stderr, "error: MYSQL_URL must be set: an address that begins with mysql://\n");
}
