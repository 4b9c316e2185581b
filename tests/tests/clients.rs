//! The TypeScript client and the chat page, as their users run them: in Node and in a browser, over real servers with faults.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, outside of the functions that clippy knows as such"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use hongyan_runtime::gateway::{GatewayOptions, Page};
use hongyan_stack::ServerKind;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::{TestApp, servers};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::OnceCell;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Installs the packages of the client and the page as locked, and compiles the client. Once for this test binary.
async fn prepared() {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    PREPARED
        .get_or_init(async || {
            let output = Command::new(root().join("clients/prepare.sh")).output().await.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        })
        .await;
}

/// A service behind a proxy that stays where it is, with a Redis behind another one.
struct Site {
    test: Option<TestApp>,
    front: Proxy,
    redis: Proxy,
}

impl Site {
    async fn start(sends_per_second: &str, with_metrics: bool) -> Self {
        let redis = Proxy::to(&servers::address_of(servers::stack().await, ServerKind::Redis)).await;
        let gateway = GatewayOptions { page: Page::WithTokens, ..GatewayOptions::default() };
        let builder = TestApp::builder().in_process().gateway(gateway).redis_by_way_of(redis.address());
        let builder = builder.set("IM_SENDS_PER_SECOND", sends_per_second);
        let builder = if with_metrics { builder.with_metrics() } else { builder };
        let test = builder.start().await;
        let front = Proxy::to(&format!("http://{}", test.runtime().addr())).await;
        Self { test: Some(test), front, redis }
    }

    fn test(&self) -> &TestApp {
        self.test.as_ref().expect("the service runs")
    }

    async fn cause(&mut self, fault: &str) {
        match fault {
            "cut" => self.front.cut(),
            "empty" => redis::cmd("FLUSHDB").exec_async(&mut self.test().redis().await).await.unwrap(),
            "freeze" => self.redis.freeze(true),
            "thaw" => self.redis.freeze(false),
            "kill" | "restart" => {
                let test = self.test.take().expect("the service runs");
                let test = if fault == "kill" { test.crash().await } else { test.restart().await };
                self.front.lead_to(&format!("http://{}", test.runtime().addr()));
                self.front.cut();
                self.test = Some(test);
            }
            other => panic!("no such fault: {other}"),
        }
    }

    /// Runs a program of Node to its end, and causes the faults that the program asks for. Returns its last lines.
    async fn run(&mut self, program: &Path, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new("node");
        command.arg(program).arg(format!("http://{}", self.front.address())).args(arguments);
        for user in [1, 2, 3] {
            command.env(format!("TOKEN_{user}"), &self.test().user(user).token);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut told = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(fault) = line.strip_prefix("DO ") {
                self.cause(fault).await;
                told.write_all(b"done\n").await.unwrap();
            } else {
                println!("{line}");
                said.push(line);
            }
        }
        let status = child.wait().await.unwrap();
        assert!(status.success(), "{}: {status}", program.display());
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_of_two_users_end_with_the_true_view_whatever_breaks() {
    prepared().await;
    // The devices meet the limit of sends, and wait as they are told.
    let mut site = Site::start("20", false).await;
    let program = root().join("clients/typescript/dist/test/converge.js");
    let said = site.run(&program, &["1", "6"]).await;
    let summary = said.iter().find(|line| line.starts_with("SUMMARY")).expect("a summary");
    assert!(summary.contains("\"divergences\":0"), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_in_a_browser() {
    prepared().await;
    let mut site = Site::start("0", true).await;
    // The folder for new pictures, if they are wanted (`CONTRIBUTING.md`).
    let pictures = std::env::var("HONGYAN_PICTURES").ok();
    let arguments: Vec<&str> = pictures.iter().map(String::as_str).collect();
    let said = site.run(&root().join("web/test/browser.mjs"), &arguments).await;
    assert!(said.iter().any(|line| line == "all steps passed"), "{said:?}");
}

/// The committed files are those that their sources make.
#[tokio::test(flavor = "multi_thread")]
async fn the_built_files_are_up_to_date_and_the_views_of_any_order_are_equal() {
    prepared().await;
    for (folder, arguments, otherwise) in [
        ("web", ["run", "--silent", "check"], "the page does not compile"),
        ("web", ["run", "--silent", "up-to-date"], "type `npm run build` in web/, and commit runtime/page/"),
        (
            "clients/typescript",
            ["run", "--silent", "up-to-date"],
            "type `npm run generate` in clients/typescript/, and commit src/openapi.ts",
        ),
        ("clients/typescript", ["run", "--silent", "test"], "a test of the client fails"),
    ] {
        let output =
            Command::new("npm").args(arguments).current_dir(root().join(folder)).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{otherwise}: {}{}", text(&output.stdout), text(&output.stderr));
    }
}
