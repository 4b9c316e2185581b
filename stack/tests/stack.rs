//! Tests of the stack on real servers.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests, outside of the functions that clippy knows as such"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use hongyan_stack::{Place, ServerKind, Stack, StackError, StackOptions, TopicSpec, down, saved_env, status};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use redis::AsyncCommands as _;
use sqlx::Connection as _;

/// Each stack takes much memory, so at most two run at a time.
static STACKS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(2);

fn setting(stack: &Stack, name: &str) -> String {
    stack.env().into_iter().find(|(key, _)| *key == name).map(|(_, value)| value).unwrap()
}

async fn redis(stack: &Stack) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(setting(stack, "REDIS_URL")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn write_to_redis(stack: &Stack) {
    let mut connection = redis(stack).await;
    let () = connection.set("kept", "by Redis").await.unwrap();
    let policy: Vec<String> =
        redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(&mut connection).await.unwrap();
    assert_eq!(policy[1], "volatile-lru");
    // With `everysec`, writes older than a second are in the file. Not every version of Redis has WAITAOF.
    let mut synced = false;
    while !synced {
        let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut connection).await.unwrap();
        synced = info.contains("aof_pending_bio_fsync:0") && info.contains("aof_buffer_length:0");
    }
}

async fn mysql(url: &str) -> sqlx::MySqlConnection {
    sqlx::MySqlConnection::connect(url).await.unwrap()
}

fn kafka(stack: &Stack) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", setting(stack, "KAFKA_BOOTSTRAP_SERVERS"));
    config
}

async fn produce(stack: &Stack, value: &str) {
    let producer: FutureProducer = kafka(stack).set("acks", "all").create().unwrap();
    let record = FutureRecord::to("im-message-private").key("1_2").payload(value).partition(3);
    producer.send(record, Duration::from_secs(10)).await.unwrap();
}

async fn first_record(stack: &Stack) -> String {
    let config = kafka(stack);
    let read = move || {
        let consumer: BaseConsumer =
            config.clone().set("group.id", "t").set("auto.offset.reset", "earliest").create().unwrap();
        let mut assignment = rdkafka::TopicPartitionList::new();
        assignment.add_partition_offset("im-message-private", 3, rdkafka::Offset::Beginning).unwrap();
        consumer.assign(&assignment).unwrap();
        let record = consumer.poll(Duration::from_secs(20)).expect("a record").unwrap();
        String::from_utf8(record.payload().unwrap().to_vec()).unwrap()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// The processes with this folder on their command line, the guard's shell included.
fn pids(folder: &Path) -> Vec<(u32, String)> {
    let folder = folder.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid = path.file_name()?.to_str()?.parse().ok()?;
            let line = std::fs::read(path.join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        })
        .filter(|(_, line)| line.contains(folder))
        .collect()
}

fn processes(folder: &Path) -> Vec<String> {
    pids(folder).into_iter().map(|(_, line)| line).collect()
}

/// The folders of the temporary stacks that this process made.
fn temporary_folders() -> Vec<std::path::PathBuf> {
    let own = format!("process {}", std::process::id());
    let mut folders: Vec<_> = std::fs::read_dir(std::env::temp_dir())
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| std::fs::read_to_string(path.join("lock")).is_ok_and(|owner| owner == own))
        .collect();
    folders.sort();
    folders
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited 30 s until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn all_three_answer_and_keep_their_data_through_crashes_and_a_restart() {
    let _turn = STACKS.acquire().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = || StackOptions::new(folder.path()).at(Place::Native);
    let start = Instant::now();
    let stack = Stack::start(options()).await.unwrap();
    eprintln!("cold start {:?}\n{}", start.elapsed(), stack.versions().await.join("\n"));

    write_to_redis(&stack).await;
    let url = setting(&stack, "MYSQL_URL");
    let mut connection = mysql(&url).await;
    for statement in [
        "CREATE TABLE kept (id BIGINT PRIMARY KEY, text VARCHAR(50))",
        "INSERT INTO kept VALUES (1, '鸿雁 🪿')",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    let other = stack.create_database("hongyan_other").await.unwrap();
    mysql(&other).await;
    produce(&stack, "by Kafka").await;
    stack.create_topic("another", 4).await.unwrap();

    let check = async |stack: &Stack| {
        let text: String = redis(stack).await.get("kept").await.unwrap();
        assert_eq!(text, "by Redis");
        let query = sqlx::query_scalar("SELECT text FROM kept");
        let text: String = query.fetch_one(&mut mysql(&url).await).await.unwrap();
        assert_eq!(text, "鸿雁 🪿");
        assert_eq!(first_record(stack).await, "by Kafka");
    };
    for kind in ServerKind::ALL {
        let server = stack.server(kind);
        server.kill().await.unwrap();
        assert!(!server.is_running().await);
        assert!(server.answers().await.is_err());
        let start = Instant::now();
        server.start().await.unwrap();
        eprintln!("{kind} after SIGKILL {:?}", start.elapsed());
    }
    check(&stack).await;

    let server = stack.server(ServerKind::Redis);
    server.pause().await.unwrap();
    assert!(server.is_running().await);
    assert!(server.answers().await.is_err());
    server.resume().await.unwrap();
    server.answers().await.unwrap();

    let before = stack.env();
    let start = Instant::now();
    stack.stop().await.unwrap();
    eprintln!("stop {:?}", start.elapsed());
    assert_eq!(processes(folder.path()), Vec::<String>::new());
    assert!(matches!(saved_env(folder.path()), Err(StackError::NotUp { .. })));

    let start = Instant::now();
    let stack = Stack::start(options()).await.unwrap();
    eprintln!("warm start {:?}", start.elapsed());
    assert_eq!(stack.env(), before, "the same addresses and passwords as before");
    check(&stack).await;
    let message = Stack::start(options()).await.unwrap_err().to_string();
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");

    // Dropping the stack closes the pipe to the guard, as the death of the process does. No server is stopped in good
    // order.
    drop(stack);
    until("the guard has stopped all", || processes(folder.path()).is_empty()).await;

    let topics = vec![TopicSpec::new("another", 5, "KAFKA_PARTITIONS")];
    let message = Stack::start(options().with_topics(topics)).await.unwrap_err().to_string();
    assert_eq!(message, "KAFKA_PARTITIONS: topic another has 4 partitions, fewer than the 5 configured");
    assert_eq!(processes(folder.path()), Vec::<String>::new(), "nothing is left of a failed start");
}

#[tokio::test]
async fn a_stack_in_the_background_stays_is_used_as_it_is_and_goes_down() {
    let _turn = STACKS.acquire().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = || StackOptions::new(folder.path()).at(Place::Native);
    drop(Stack::start(options().in_background()).await.unwrap());
    let pids = processes(folder.path()).len();
    assert_eq!(pids, 3);
    for server in status(folder.path()).await.unwrap() {
        assert!(server.answer.is_ok(), "{server:?}");
    }

    let guest = Stack::start(options()).await.unwrap();
    let env: Vec<(String, String)> =
        guest.env().into_iter().map(|(name, value)| (name.into(), value)).collect();
    assert_eq!(saved_env(folder.path()).unwrap(), env);
    assert!(matches!(down(folder.path()).await, Err(StackError::Busy { .. })));

    // Given servers are checked and otherwise left alone.
    let wrong = guest.env().into_iter().map(|(name, value)| {
        let value = if name == "REDIS_URL" { value.replace("redis://:", "redis://:wrong") } else { value };
        (name.to_owned(), value)
    });
    let before = temporary_folders();
    let second = StackOptions::temporary().with_environment(wrong).unwrap();
    let message = Stack::start(second).await.unwrap_err().to_string();
    assert!(message.starts_with("REDIS_URL: Redis refuses the user or the password"), "{message}");
    assert_eq!(temporary_folders(), before, "a failed start removes its folder");
    let second = StackOptions::temporary()
        .with_environment(guest.env().into_iter().map(|(name, value)| (name.to_owned(), value)))
        .unwrap();
    let second = Stack::start(second).await.unwrap();
    assert_eq!(second.env(), guest.env());
    assert!(matches!(second.server(ServerKind::Kafka).kill().await, Err(StackError::NotOurs { .. })));
    second.stop().await.unwrap();

    guest.stop().await.unwrap();
    assert_eq!(processes(folder.path()).len(), pids);
    down(folder.path()).await.unwrap();
    assert_eq!(processes(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn servers_left_behind_with_no_guard_are_replaced_at_the_next_start() {
    let _turn = STACKS.acquire().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = || StackOptions::new(folder.path()).at(Place::Native);
    // In a spawned task: a stack may be started from any task.
    let stack = tokio::spawn(Stack::start(options())).await.unwrap().unwrap();
    write_to_redis(&stack).await;
    let all = pids(folder.path());
    assert_eq!(all.len(), 4, "three servers and the guard");
    let guard = all.iter().find(|(_, line)| line.contains("hongyan-guard")).unwrap().0;
    std::process::Command::new("kill").args(["-9", &guard.to_string()]).status().unwrap();
    drop(stack);

    let stack = Stack::start(options()).await.unwrap();
    let text: String = redis(&stack).await.get("kept").await.unwrap();
    assert_eq!(text, "by Redis");
    let now = pids(folder.path());
    assert_eq!(now.len(), 4);
    assert!(now.iter().all(|(pid, _)| all.iter().all(|(old, _)| old != pid)), "none of the old ones runs");
    stack.stop().await.unwrap();
    assert_eq!(processes(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_redis_cluster_has_three_nodes_and_comes_back_as_one() {
    let _turn = STACKS.acquire().await.unwrap();
    // This test needs only Redis; the other two settings lead nowhere.
    let elsewhere =
        [("MYSQL_URL", "mysql://nobody@127.0.0.1:1/x"), ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")];
    let elsewhere = elsewhere.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = StackOptions::temporary().with_environment(elsewhere).unwrap().with_redis_cluster();
    let message = Stack::start(options).await.unwrap_err().to_string();
    assert!(message.starts_with("MYSQL_URL: no answer within 10 s"), "{message}");

    let stack = Stack::start(StackOptions::temporary().with_redis_cluster()).await.unwrap();
    let folder = stack.folder().to_owned();
    let write = async |text: &str| {
        let client = redis::cluster::ClusterClient::new([setting(&stack, "REDIS_URL")]).unwrap();
        let mut connection = client.get_async_connection().await.unwrap();
        for number in 0..50 {
            let () = connection.set(format!("key{number}"), text).await.unwrap();
        }
    };
    write("before").await;
    stack.server(ServerKind::Redis).kill().await.unwrap();
    stack.server(ServerKind::Redis).start().await.unwrap();
    write("after").await;
    stack.stop().await.unwrap();
    assert!(!folder.exists());
    assert_eq!(processes(&folder), Vec::<String>::new());
}
