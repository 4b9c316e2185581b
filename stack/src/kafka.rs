//! Apache Kafka in KRaft mode, from its Maven artifacts, on the Java of this machine.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use super::error::{Doing as _, StackError};
use super::files::{State, find_program, make_folder, run_tool, write_private};
use super::options::{StackOptions, TopicSpec};
use super::process::Launch;
use super::server_kind::ServerKind;
use super::{probe, wait};

/// The settings that the native server and compose.yaml share.
pub(super) const SETTINGS: &str = include_str!("../servers/kafka.properties");
const POM: &str = include_str!("../servers/pom.xml");
const LOGGING: &str = include_str!("../servers/log4j2.xml");

/// The version that `pom.xml` names.
pub(super) const VERSION: &str = "4.3.1";

/// A heap for a laptop. The serial collector starts fastest and needs the least memory beside the heap.
const JAVA: [&str; 5] =
    ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true"];

/// Makes Java compile quickly instead of well. Starting a server runs most code only once, so this halves the time,
/// and also the time of Kafka's tools.
const COMPILE_QUICKLY: &str = "-XX:TieredStopAtLevel=1";

/// The bootstrap address.
pub(super) fn bootstrap(state: &State) -> String {
    format!("127.0.0.1:{}", state.ports.kafka)
}

/// The ports that Kafka needs.
pub(super) fn ports<'a>(state: &'a mut State, options: &StackOptions) -> Vec<&'a mut u16> {
    let ports = &mut state.ports;
    let mut all = vec![&mut ports.kafka, &mut ports.kafka_controller];
    if options.secure_kafka.is_some() {
        all.extend([&mut ports.kafka_tls, &mut ports.kafka_scram]);
    }
    if options.kafka_proxy.is_some() {
        all.push(&mut ports.kafka_proxied);
    }
    all
}

/// Fetches the jars if they are missing, writes the settings, formats a new storage folder, and returns the command
/// that starts the server.
pub(super) async fn prepare(
    stack: &Path,
    state: &State,
    options: &StackOptions,
) -> Result<Launch, StackError> {
    let folder = stack.join("kafka");
    make_folder(&folder)?;
    let java = java()?;
    let jars = jars(stack).await?;
    let settings = folder.join("server.properties");
    let (port, controller) = (state.ports.kafka, state.ports.kafka_controller);
    let advertised = format!("PLAINTEXT://127.0.0.1:{port}");
    let listeners = format!("{advertised},CONTROLLER://127.0.0.1:{controller}");
    let mut own = format!(
        "{SETTINGS}\nlisteners={listeners}\nadvertised.listeners={advertised}\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={}\n",
        folder.join("data").display()
    );
    if let Some(proxy) = options.kafka_proxy {
        own.push_str(&behind_proxy(state, proxy, &listeners, &advertised));
    }
    let secure = options.secure_kafka.as_ref();
    if let Some(secure) = secure {
        own.push_str(&secure.settings(&folder, state, &listeners, &advertised)?);
    }
    write_private(&settings, own.as_bytes())?;
    let logging = folder.join("log4j2.xml");
    write_private(&logging, LOGGING.as_bytes())?;

    let mut arguments: Vec<std::ffi::OsString> = JAVA.map(Into::into).to_vec();
    if options.remove {
        // A test's server ends before well compiled code has paid off.
        arguments.push(COMPILE_QUICKLY.into());
    }
    arguments.push(format!("-Dlog4j2.configurationFile={}", logging.display()).into());
    arguments.push("-cp".into());
    arguments.push(jars.join("*").into());
    if !folder.join("data/meta.properties").exists() {
        let mut command = Command::new(&java);
        command.arg(COMPILE_QUICKLY).args(&arguments);
        command.args([
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            &state.kafka_cluster_id,
            "--config",
        ]);
        command.arg(&settings).args(secure.iter().flat_map(|secure| secure.format_arguments()));
        run_tool("formatting Kafka's storage", command).await?;
    }
    arguments.push("kafka.Kafka".into());
    arguments.push(settings.into());
    Ok(Launch { kind: ServerKind::Kafka, folder, program: java, arguments })
}

/// The settings of a listener behind a proxy. A listener advertises one address to all its clients, so clients of the
/// proxy need one of their own.
fn behind_proxy(state: &State, proxy: SocketAddr, listeners: &str, advertised: &str) -> String {
    format!(
        "listeners={listeners},PROXIED://127.0.0.1:{}\nadvertised.listeners={advertised},PROXIED://{proxy}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT\n",
        state.ports.kafka_proxied
    )
}

fn java() -> Result<PathBuf, StackError> {
    if let Some(home) = std::env::var_os("JAVA_HOME") {
        let java = Path::new(&home).join("bin/java");
        if java.exists() {
            return Ok(java);
        }
    }
    find_program(&["java"])
}

/// The folder with Kafka's jars. Maven fills it at the first start on this machine.
async fn jars(stack: &Path) -> Result<PathBuf, StackError> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .filter(|folder| folder.is_absolute())
        .unwrap_or_else(|| stack.join("cache"))
        .join("hongyan");
    let folder = cache.join(format!("kafka-{VERSION}"));
    // The pom is copied beside the jars, so that a changed pom makes Maven fetch again.
    let complete = || fs::read_to_string(folder.join("pom.xml")).is_ok_and(|pom| pom == POM);
    if complete() {
        return Ok(folder);
    }
    fs::create_dir_all(&cache).doing(|| format!("cannot make {}", cache.display()))?;
    // Two stacks may start at once: one fetches, and the other waits for the lock.
    let lock = cache.join("lock");
    let lock = tokio::task::spawn_blocking(move || -> std::io::Result<File> {
        let file = File::create(lock)?;
        file.lock()?;
        Ok(file)
    })
    .await
    .map_err(std::io::Error::other)
    .and_then(|lock| lock)
    .doing(|| format!("cannot lock {}", cache.display()))?;
    if complete() {
        return Ok(folder);
    }
    let fresh = cache.join(format!("kafka-{VERSION}.new"));
    let clear = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    clear(&fresh)
        .and_then(|()| fs::create_dir(&fresh))
        .and_then(|()| fs::write(fresh.join("pom.xml"), POM))
        .doing(|| format!("cannot make {}", fresh.display()))?;
    tracing::info!(folder = %folder.display(), version = VERSION, "stack.fetch_kafka");
    let mut maven = Command::new(find_program(&["mvn"])?);
    maven
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(fresh.join("pom.xml"))
        .args([
            "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
            "-DincludeScope=runtime",
        ])
        .arg(format!("-DoutputDirectory={}", fresh.display()));
    run_tool("fetching Kafka's jars by Maven", maven).await?;
    clear(&folder)
        .and_then(|()| fs::rename(&fresh, &folder))
        .doing(|| format!("cannot rename {}", fresh.display()))?;
    drop(lock);
    Ok(folder)
}

/// Creates missing topics, waits until every partition has a leader, and refuses a topic that is too small.
///
/// `create` is false for a Kafka that the caller has given: there a missing topic is an error.
pub(super) async fn ensure_topics(
    bootstrap: &str,
    topics: &[TopicSpec],
    create: bool,
) -> Result<(), StackError> {
    if create {
        create_topics(bootstrap, topics).await?;
    }
    let there = wait::until(ADMIN_LIMIT, || async {
        match probe::topics(bootstrap, ASK_LIMIT).await {
            Ok(there) => missing(topics, &there, create),
            Err(reason) => Ok(Err(reason)),
        }
    });
    there.await?.map_err(|reason| StackError::Tool { what: "making Kafka's topics".into(), reason })
}

/// Compares the wanted topics with those that exist. `Ok(Err(…))` names a topic that is not ready yet. A topic that
/// is too small, or missing and not to be created, is an error.
fn missing(
    wanted: &[TopicSpec],
    there: &[probe::Topic],
    create: bool,
) -> Result<Result<(), String>, StackError> {
    let mut not_yet = Ok(());
    for wanted in wanted {
        match there.iter().find(|topic| topic.name == wanted.name) {
            Some(topic) if topic.ready && topic.partitions < wanted.partitions => {
                return Err(StackError::TooFewPartitions {
                    setting: wanted.setting,
                    topic: wanted.name.clone(),
                    has: topic.partitions,
                    wanted: wanted.partitions,
                });
            }
            Some(topic) if topic.ready => {}
            None if !create => {
                return Err(StackError::External {
                    variable: "KAFKA_BOOTSTRAP_SERVERS",
                    reason: format!(
                        "there is no topic {}; make it there, with {} partitions",
                        wanted.name, wanted.partitions
                    ),
                });
            }
            _ => not_yet = Err(format!("topic {} is not ready", wanted.name)),
        }
    }
    Ok(not_yet)
}

/// Waits until consumer groups can join.
pub(super) async fn ensure_groups(bootstrap: &str, topics: &[TopicSpec]) -> Result<(), StackError> {
    let Some(topic) = topics.first() else { return Ok(()) };
    let asked = wait::until(ADMIN_LIMIT, || async {
        Ok(probe::group_offsets(bootstrap, &topic.name, ASK_LIMIT).await)
    });
    let what = || "waiting for Kafka's group coordinator".into();
    asked.await?.map_err(|reason| StackError::Tool { what: what(), reason })
}

/// How long Kafka may take for a change of topics.
const ADMIN_LIMIT: Duration = Duration::from_secs(30);

/// How long Kafka may take for one answer.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// Deletes a topic, and waits until Kafka does not list it any more.
pub(super) async fn delete_topic(bootstrap: &str, name: &str) -> Result<(), StackError> {
    let failed = |reason: String| StackError::Tool { what: format!("deleting Kafka's topic {name}"), reason };
    let client = administrator(bootstrap).map_err(failed)?;
    let deleted = client.delete_topics(&[name], &admin_options()).await;
    for result in deleted.map_err(|error| failed(error.to_string()))? {
        result.map_err(|(_, code)| failed(code.to_string()))?;
    }
    let gone = wait::until(ADMIN_LIMIT, || async {
        let there = probe::topics(bootstrap, ASK_LIMIT).await;
        Ok(there.and_then(|there| {
            let gone = there.iter().all(|topic| topic.name != name);
            gone.then_some(()).ok_or_else(|| "it is still there".to_owned())
        }))
    });
    gone.await?.map_err(failed)
}

/// Sets the largest batch that a topic takes, in bytes. `None` removes the topic's own limit.
pub(super) async fn limit_topic(
    bootstrap: &str,
    name: &str,
    max_message_bytes: Option<u32>,
) -> Result<(), StackError> {
    let failed = |reason: String| StackError::Tool { what: format!("limiting Kafka's topic {name}"), reason };
    let bytes = max_message_bytes.map(|bytes| bytes.to_string());
    let mut config = AlterConfig::new(ResourceSpecifier::Topic(name));
    if let Some(bytes) = &bytes {
        config = config.set("max.message.bytes", bytes);
    }
    let client = administrator(bootstrap).map_err(failed)?;
    let altered = client.alter_configs(&[config], &admin_options()).await;
    for result in altered.map_err(|error| failed(error.to_string()))? {
        result.map_err(|(_, code)| failed(code.to_string()))?;
    }
    Ok(())
}

fn administrator(bootstrap: &str) -> Result<AdminClient<probe::Quiet>, String> {
    probe::kafka_config(bootstrap).create_with_context(probe::Quiet).map_err(|error| error.to_string())
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(ADMIN_LIMIT)).request_timeout(Some(ADMIN_LIMIT))
}

async fn create_topics(bootstrap: &str, topics: &[TopicSpec]) -> Result<(), StackError> {
    let failed = |reason: String| StackError::Tool { what: "making Kafka's topics".into(), reason };
    let client = administrator(bootstrap).map_err(failed)?;
    let largest: Vec<Option<String>> =
        topics.iter().map(|topic| topic.max_message_bytes.map(|bytes| bytes.to_string())).collect();
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .zip(&largest)
        .map(|(topic, largest)| {
            let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
            let new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(1));
            match largest {
                Some(bytes) => new.set("max.message.bytes", bytes),
                None => new,
            }
        })
        .collect();
    let results =
        client.create_topics(&new, &admin_options()).await.map_err(|error| failed(error.to_string()))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(failed(format!("{topic}: {code}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_poms() {
        assert!(super::POM.contains(&format!("<kafka.version>{}</kafka.version>", super::VERSION)));
    }
}
