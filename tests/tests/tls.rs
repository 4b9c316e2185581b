//! Redis as ElastiCache has it: over TLS, by a user whose rights are limited, one server and a cluster.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use std::path::{Path, PathBuf};

use hongyan_local::stack::{ServerCertificate, Stack, StackOptions};
use hongyan_tests::certificates::Authority;
use hongyan_tests::{TestApp, TestAppBuilder, servers};
use tempfile::TempDir;

/// The user that `docs/deploy.md` describes.
const USER: &str = "hongyan";
const PASSWORD: &str = "not-the-default-users";

/// What a Redis user needs (`docs/deploy.md`).
fn rights() -> Vec<String> {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/deploy.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let line = guide.lines().map(str::trim).find(|line| line.starts_with("on ~msg:* ")).unwrap();
    line.split(' ').map(str::to_owned).collect()
}

/// Redis over TLS, with the shared MySQL and Kafka.
struct Redis {
    stack: Stack,
    authority: PathBuf,
    stranger: PathBuf,
    _folder: TempDir,
}

impl Redis {
    async fn start(change: impl FnOnce(StackOptions) -> StackOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, authority: &Authority| {
            let path = folder.path().join(name);
            std::fs::write(&path, &authority.certificate).unwrap();
            path
        };
        let authority = Authority::new("the authority of a test");
        let (chain, key) = authority.issue("127.0.0.1");
        let certificate = ServerCertificate { chain, key, authority: authority.certificate.clone() };
        let options = servers::beside_shared().await.with_secure_redis(certificate);
        Self {
            stack: Stack::start(change(options)).await.unwrap(),
            authority: write("authority.pem", &authority),
            stranger: write("stranger.pem", &Authority::new("another")),
            _folder: folder,
        }
    }

    /// `REDIS_URL` over TLS for the user with the limited rights.
    fn url(&self) -> String {
        let mut url = url::Url::parse(&self.stack.redis_over_tls()).unwrap();
        url.set_username(USER).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        url.into()
    }

    fn app(&self, authority: Option<&Path>) -> TestAppBuilder {
        let app = TestApp::builder().redis_at(self.url());
        authority.into_iter().fold(app, |app, path| app.set("REDIS_TLS_CA", path.to_str().unwrap()))
    }

    /// Makes the user on every node.
    async fn add_user(&self, test: &TestApp) {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(USER).arg(format!(">{PASSWORD}")).arg(rights());
        command.exec_async(&mut test.redis().await).await.unwrap();
    }
}

/// All that a user does, and all that the functions do in Redis for it.
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
    let test = redis.app(Some(&redis.authority)).start_on(&redis.stack).await;
    redis.add_user(&test).await;
    everything_works(&test).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_over_tls_by_a_limited_user() {
    let redis = Redis::start(|options| options).await;
    works_over_tls_by_a_limited_user(&redis).await;

    // Nobody speaks to a server that an unknown authority vouches for: Redis counts as away, and Kafka carries the message.
    for authority in [Some(redis.stranger.as_path()), None] {
        let test = redis.app(authority).start_on(&redis.stack).await;
        let error = test.app().cache.ping().await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
        test.stop().await;
    }
    redis.stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_over_tls_by_a_limited_user() {
    let redis = Redis::start(StackOptions::with_redis_cluster).await;
    works_over_tls_by_a_limited_user(&redis).await;
    redis.stack.stop().await.unwrap();
}
