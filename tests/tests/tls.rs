//! A Redis like ElastiCache's: over TLS, by a user with limited rights, as one server and as a cluster. A MySQL like
//! Aurora's: over TLS only.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use std::path::{Path, PathBuf};

use hongyan::config::{Config, MySqlConfig};
use hongyan::store::Store;
use hongyan_stack::{ServerCertificate, ServerKind, Stack, StackOptions};
use hongyan_testkit::certificates::Authority;
use hongyan_testkit::{TestApp, TestAppBuilder, servers};
use tempfile::TempDir;

/// The user that `docs/deploy-lambda.md` describes.
const USER: &str = "hongyan";
const PASSWORD: &str = "not-the-default-users";

/// The rights of a Redis user (`docs/deploy-lambda.md`).
fn rights() -> Vec<String> {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/deploy-lambda.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let line = guide.lines().map(str::trim).find(|line| line.starts_with("on ~msg:* ")).unwrap();
    line.split(' ').map(str::to_owned).collect()
}

/// A stack with one server that speaks TLS, two shared servers, and PEM files of the authority that signed its
/// certificate and of another one.
struct Secure {
    stack: Stack,
    authority: PathBuf,
    stranger: PathBuf,
    _folder: TempDir,
}

impl Secure {
    async fn start(
        own: ServerKind,
        make: impl FnOnce(StackOptions, ServerCertificate) -> StackOptions,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("the authority of a test");
        let (chain, key) = authority.issue("127.0.0.1");
        let certificate = ServerCertificate { chain, key, authority: authority.certificate.clone() };
        let options = make(servers::beside_shared(own).await, certificate);
        Self {
            stack: Stack::start(options).await.unwrap(),
            authority: authority.write(folder.path(), "authority.pem"),
            stranger: Authority::new("another").write(folder.path(), "stranger.pem"),
            _folder: folder,
        }
    }
}

/// Redis over TLS by a user with limited rights.
struct Redis(Secure);

impl Redis {
    /// The `REDIS_URL` over TLS for that user.
    fn url(&self) -> String {
        let mut url = url::Url::parse(&self.0.stack.redis_over_tls()).unwrap();
        url.set_username(USER).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        url.into()
    }

    fn app(&self, authority: Option<&Path>) -> TestAppBuilder {
        let app = TestApp::builder().redis_at(self.url());
        authority.into_iter().fold(app, |app, path| app.set("REDIS_TLS_CA", path.to_str().unwrap()))
    }

    /// Creates the user on every node.
    async fn add_user(&self, test: &TestApp) {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(USER).arg(format!(">{PASSWORD}")).arg(rights());
        command.exec_async(&mut test.redis().await).await.unwrap();
    }
}

/// All requests of a user, and all commands that the functions need for them.
async fn everything_works(test: &TestApp) {
    let (alice, bob) = (test.user(1), test.user(2));
    let mut socket = bob.connect().await;
    let first = alice.sent(2, "over TLS").await;
    assert_eq!(socket.hear().await["data"]["content"], "over TLS");
    let second = alice.sent(2, "taken back").await;
    test.drain().await;
    assert_eq!(alice.recall(&second).await.status, 200);
    test.drain().await;
    assert_eq!(bob.history(1, "").await.ids(), [first.as_str()]);
    assert_eq!(bob.unread().await.body["total"], 1);
    assert_eq!(bob.read(1, &first).await.status, 200);
    assert_eq!(bob.delete(&first).await.status, 204);
    assert_eq!(bob.history(1, "").await.ids(), Vec::<String>::new());
    assert_eq!(test.row(&first).await.unwrap().content, "over TLS");
    assert_eq!(test.app().cache.pending_count().await.unwrap(), 0);
    test.compensate().await;
    socket.close().await;
}

async fn works_over_tls_by_a_limited_user(redis: &Redis) {
    let test = redis.app(Some(&redis.0.authority)).start_on(&redis.0.stack).await;
    redis.add_user(&test).await;
    everything_works(&test).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_over_tls_by_a_limited_user() {
    let redis = Redis(Secure::start(ServerKind::Redis, StackOptions::with_secure_redis).await);
    works_over_tls_by_a_limited_user(&redis).await;

    // A client refuses a server whose certificate is of an unknown authority.
    for authority in [Some(redis.0.stranger.as_path()), None] {
        let test = redis.app(authority).start_on(&redis.0.stack).await;
        let error = test.app().cache.ping().await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
        test.stop().await;
    }
    redis.0.stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_over_tls_by_a_limited_user() {
    let cluster =
        |options: StackOptions, certificate| options.with_redis_cluster().with_secure_redis(certificate);
    let redis = Redis(Secure::start(ServerKind::Redis, cluster).await);
    works_over_tls_by_a_limited_user(&redis).await;
    redis.0.stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_that_takes_tls_only() {
    let mysql = Secure::start(ServerKind::MySql, StackOptions::with_secure_mysql).await;
    let app = |authority: &Path| TestApp::builder().set("MYSQL_TLS_CA", authority.to_str().unwrap());
    let test = app(&mysql.authority).start_on(&mysql.stack).await;
    everything_works(&test).await;

    // A wrong setting is reported, and no message is affected.
    let config = |url: &str, authority: &Path| MySqlConfig {
        url: url.into(),
        tls_authorities: Some(std::fs::read(authority).unwrap()),
        ..test.config.mysql.clone()
    };
    let url = test.settings["MYSQL_URL"].as_str();
    let (another_name, plain) = (url.replace("127.0.0.1", "localhost"), format!("{url}?ssl-mode=DISABLED"));
    // MySQL and MariaDB refuse a plain connection in different words.
    let plaintext = &["insecure transport", "Access denied"][..];
    for (url, authority, reasons) in [
        (url, &mysql.stranger, &["certificate"][..]),
        (&another_name, &mysql.authority, &["certificate"]),
        (&plain, &mysql.authority, plaintext),
    ] {
        let error = Store::new(&config(url, authority)).unwrap().ping().await.unwrap_err();
        let told = error.to_string();
        assert!(reasons.iter().any(|reason| told.contains(reason)) && error.is_transient(), "{told}");
    }
    test.stop().await;
    mysql.stack.stop().await.unwrap();
}

#[test]
fn a_file_without_certificates_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, missing) = (folder.path().join("empty.pem"), folder.path().join("missing.pem"));
    std::fs::write(&empty, "no certificate").unwrap();
    for (variable, path) in [("REDIS_TLS_CA", &empty), ("MYSQL_TLS_CA", &missing)] {
        let faults =
            Config::from_lookup(|name| (name == variable).then(|| path.to_str().unwrap().to_owned()))
                .unwrap_err()
                .faults;
        let fault = faults.iter().find(|fault| fault.starts_with(variable)).unwrap();
        assert!(fault.contains("must be a PEM file with certificates"), "{fault}");
    }
}
