//! The functions as Lambda runs them: real binaries behind the Runtime API of `cargo lambda watch`.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

mod concurrency;
mod environment;
mod events;
mod figures;
mod malformed;
mod release;

use std::collections::BTreeMap;

use hongyan_testkit::TestApp;
use hongyan_testkit::lambda::{Environment, Lambda};
use serde_json::{Value, json};

/// Some of these tests stop a server or change how it treats connections, so each test has its own servers.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Lambda's APIs over the stores of an application.
struct House {
    /// The application. Its trigger persists the messages that the functions produce.
    test: TestApp,
    lambda: Lambda,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl House {
    async fn open() -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let test = TestApp::builder().in_process().start().await;
        Self { test, lambda: Lambda::start().await, _turn: turn }
    }

    /// Starts a process of the function with the application's settings, except for these.
    fn start<const N: usize>(
        &self,
        function: &'static str,
        settings: [(&'static str, String); N],
    ) -> Environment {
        self.lambda.environment(function, &self.settings(settings), 1)
    }

    fn settings<const N: usize>(
        &self,
        others: [(&'static str, String); N],
    ) -> BTreeMap<&'static str, String> {
        let mut settings = self.test.settings.clone();
        settings.extend(others);
        settings
    }

    /// The port of the server that this setting names.
    fn port(&self, variable: &str) -> u16 {
        let value = &self.test.settings[variable];
        let address = value.rsplit_once('@').map_or(value.as_str(), |(_, address)| address);
        let address = address.split('/').next().unwrap();
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// User 1 sends `content` to user 2, and the send is accepted. Returns the id.
    async fn sent(&self, content: &str) -> String {
        let (status, message) = self.lambda.request("send", &send(content)).await;
        assert_eq!(status, 201, "{message}");
        message["id"].as_str().unwrap().to_owned()
    }

    async fn close(self) {
        self.lambda.stop().await;
        self.test.stop().await;
    }
}

/// A sample of `events/`.
fn sample(name: &str) -> Value {
    let path = format!("{}/../events/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The event of a send from user 1 to user 2.
fn send(content: &str) -> Value {
    let mut event = sample("send.json");
    event["body"] = json!({"toId": "2", "content": content, "msgType": 1}).to_string().into();
    event
}
