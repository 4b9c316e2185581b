//! The life of an execution environment: a cold start, invocations, a freeze, the end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hongyan_stack::ServerKind;
use hongyan_testkit::app::eventually;
use hongyan_testkit::lambda::stop_all;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::servers;
use nix::sys::signal::Signal;
use redis::AsyncCommands as _;

use crate::{House, sample};

/// No server listens here.
const NOWHERE: &str = "127.0.0.1:1";

/// The time limit of an answer that does not wait for a store that is away.
const AT_ONCE: Duration = Duration::from_secs(3);

fn worker_key(id: &str) -> String {
    format!("msg:worker:{}", id.parse::<i64>().unwrap() >> 9 & 8_191)
}

/// Closes all connections of the application at Redis and MySQL, as those servers do with clients that are silent for
/// too long.
async fn close_all_connections(house: &House) {
    let mut admin = house.test.redis().await;
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut admin).await.unwrap();
    let database = house.test.settings["REDIS_URL"].rsplit_once('/').unwrap().1;
    let ours = clients.lines().filter(|client| client.contains(&format!(" db={database} ")));
    for client in ours.filter(|client| !client.contains("cmd=client")) {
        let id = client.split_whitespace().next().and_then(|id| id.strip_prefix("id=")).unwrap();
        redis::cmd("CLIENT").arg(&["KILL", "ID", id]).exec_async(&mut admin).await.unwrap();
    }
    let sql = "SELECT CAST(id AS CHAR) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    let mut mysql = house.test.mysql.acquire().await.unwrap();
    let connections: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *mysql).await.unwrap();
    for connection in connections {
        let sql = sqlx::AssertSqlSafe(format!("KILL CONNECTION {connection}"));
        sqlx::raw_sql(sql).execute(&mut *mysql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_opened_once_and_used_again() {
    let house = House::open().await;
    let (send, query) = (house.start("send", []), house.start("query", []));
    let (redis, mysql, kafka) =
        (house.port("REDIS_URL"), house.port("MYSQL_URL"), house.port("KAFKA_BOOTSTRAP_SERVERS"));
    let open = || {
        let of_send = (send.connections(redis), send.connections(kafka));
        (of_send, query.connections(redis), query.connections(mysql))
    };
    let history = sample("query.json");
    house.sent("the first").await;
    house.test.drain().await;
    assert_eq!(house.lambda.request("query", &history).await.0, 200);
    let before = open();
    let ((redis_of_send, kafka_of_send), redis_of_query, mysql_of_query) = &before;
    assert_eq!((redis_of_send.len(), redis_of_query.len(), mysql_of_query.len()), (1, 1, 1), "{before:?}");
    assert!((1..=2).contains(&kafka_of_send.len()), "one for the broker, one to find it: {before:?}");
    for number in 0..20 {
        house.sent(&format!("message {number}")).await;
        assert_eq!(house.lambda.request("query", &history).await.0, 200);
    }
    assert_eq!(open(), before);
    stop_all(vec![send, query]).await;
    house.close().await;
}

/// Lambda freezes an environment between invocations for any length of time.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_after_a_freeze_works_and_nothing_is_lost() {
    let house = House::open().await;
    let stack = servers::stack().await;
    let lease = Duration::from_secs(3);
    let send = house.start("send", [("IM_WORKER_LEASE_SECONDS", lease.as_secs().to_string())]);
    let query = house.start("query", []);
    let history = sample("query.json");

    let first = house.sent("before the freeze").await;
    house.test.drain().await;
    assert_eq!(house.lambda.request("query", &history).await.0, 200);
    // Kafka does not answer, so the next record stays with the producer.
    stack.server(ServerKind::Kafka).pause().await.unwrap();
    let waiting = house.sent("with the producer").await;
    let leased = Instant::now();
    for environment in [&send, &query] {
        environment.signal(Signal::SIGSTOP);
    }
    stack.server(ServerKind::Kafka).resume().await.unwrap();

    close_all_connections(&house).await;
    let (redis, mysql) = (house.port("REDIS_URL"), house.port("MYSQL_URL"));
    eventually("the connections are closed", Duration::from_secs(10), async || {
        let open = [send.connections(redis), query.connections(redis), query.connections(mysql)];
        open.iter().all(BTreeSet::is_empty)
    })
    .await;
    // The lease has ended too, and another process has the number.
    tokio::time::sleep_until((leased + lease).into()).await;
    let mut admin = house.test.redis().await;
    for id in [&first, &waiting] {
        admin.set::<_, _, ()>(worker_key(id), "somebody else").await.unwrap();
    }
    for environment in [&send, &query] {
        environment.signal(Signal::SIGCONT);
    }
    let after = house.sent("after the freeze").await;
    assert!(![worker_key(&first), worker_key(&waiting)].contains(&worker_key(&after)), "an expired lease");
    assert!(after.parse::<i64>().unwrap() > waiting.parse().unwrap(), "ids rise");
    assert_eq!(house.lambda.request("query", &history).await.0, 200);
    assert_eq!(house.lambda.lines_with("http.unavailable"), 0);

    // The producer sends it, without the compensator.
    eventually("all three are in MySQL", Duration::from_secs(30), async || {
        house.test.count_rows("status = 1").await == 3
    })
    .await;
    stop_all(vec![send, query]).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_flushes_the_producer_and_gives_the_worker_number_back() {
    let house = House::open().await;
    let stack = servers::stack().await;
    let send = house.start("send", []);
    house.sent("so that the producer is connected").await;
    house.test.drain().await;
    stack.server(ServerKind::Kafka).pause().await.unwrap();
    let id = house.sent("with the producer").await;
    send.signal(Signal::SIGTERM);
    stack.server(ServerKind::Kafka).resume().await.unwrap();
    assert!(send.stop().await.success());
    // The compensator has not run, so the producer sent it.
    house.test.drain().await;
    assert_eq!(house.test.row(&id).await.unwrap().content, "with the producer");
    // The number cannot be taken for a minute, and then is free.
    let lease: String = house.test.redis().await.get(worker_key(&id)).await.unwrap();
    let ends: i64 = lease.rsplit_once(' ').unwrap().1.parse().unwrap();
    let left = ends - house.test.clock().now_ms();
    assert!((1..=60_000).contains(&left), "{left} ms");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_with_a_store_away_answers_503_at_once_and_works_when_the_store_is_back() {
    let house = House::open().await;
    let mut redis = Proxy::to(&house.test.settings["REDIS_URL"]).await;
    redis.close().await;
    let kafka = ("KAFKA_BOOTSTRAP_SERVERS", NOWHERE.to_owned());
    let mysql = ("MYSQL_URL", format!("mysql://nobody:nothing@{NOWHERE}/nothing"));
    let all = [("REDIS_URL", redis.url()), kafka.clone(), mysql.clone()];
    let environments = house.lambda.every_function(&house.settings(all), 1);
    let http = [
        ("send", "send.json"),
        ("recall", "recall.json"),
        ("delete", "delete.json"),
        ("query", "query.json"),
        ("read", "unread.json"),
    ];
    for (function, event) in http {
        let began = Instant::now();
        let (status, problem) = house.lambda.request(function, &sample(event)).await;
        assert_eq!((status, problem["code"].as_str()), (503, Some("unavailable")), "{function}: {problem}");
        assert!(began.elapsed() < AT_ONCE, "{function}: {:?}", began.elapsed());
    }
    // The batch is not done, and no record of it is a dead letter.
    let (status, response) =
        house.lambda.invoke("kafka-consumer", sample("kafka-msk.json").to_string()).await;
    assert_eq!(status, 200, "{response}");
    assert!(!response["batchItemFailures"].as_array().unwrap().is_empty(), "{response}");
    let (status, error) =
        house.lambda.invoke("scheduled-compensator", sample("schedule.json").to_string()).await;
    assert!(status == 500 && error["errorMessage"].as_str().unwrap().contains("redis"), "{error}");

    // Redis alone accepts a message.
    redis.open().await;
    house.sent("accepted by Redis").await;
    assert_eq!(house.lambda.request("read", &sample("unread.json")).await.0, 503, "MySQL is still away");
    stop_all(environments).await;
    house.close().await;
}
