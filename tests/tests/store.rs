//! The store on a real server: rows, recalls in every order, pages, unread, and a server that goes away.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside of the functions that clippy knows as such"
)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future;
use hongyan::config::MySqlConfig;
use hongyan::event::Recall;
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::{ClientMessageId, Message, MessageType, PersistStatus, Status};
use hongyan::store::{Persisted, Store};
use hongyan_local::stack::{Kind, Stack};
use hongyan_tests::proxy::Proxy;
use hongyan_tests::servers::{beside_shared, stack, unique_name};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, MySqlConnection};

/// An empty database of its own, with the schema.
async fn database() -> (String, Store) {
    let url = stack().await.create_database(&unique_name()).await.unwrap();
    let store = Store::new(&config(&url)).unwrap();
    store.migrate().await.unwrap();
    (url, store)
}

fn config(url: &str) -> MySqlConfig {
    MySqlConfig {
        url: url.into(),
        replica_url: None,
        tls_authorities: None,
        max_connections: 10,
        timeout: Duration::from_secs(3),
    }
}

async fn connect(url: &str) -> MySqlConnection {
    MySqlConnection::connect(url).await.unwrap()
}

async fn execute(connection: &mut MySqlConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn id(id: i64) -> MessageId {
    MessageId::new(id).unwrap()
}

fn name(text: &str) -> ClientMessageId {
    ClientMessageId::try_from(text.to_owned()).unwrap()
}

/// From user 1 to user 2, with ids beyond 2^53.
fn message(number: i64, content: &str) -> Message {
    between(1, 2, number, content)
}

fn between(from: i64, to: i64, number: i64, content: &str) -> Message {
    let id = id(9_007_199_254_740_993 + number);
    Message::new(id, user(from), user(to), MessageType::TEXT, content.to_owned(), None)
}

fn recall(message: &Message, recall_time: i64) -> Recall {
    Recall { message_id: message.id, recall_time, conversation_id: message.conversation() }
}

fn conversation() -> ConversationId {
    ConversationId::between(user(1), user(2)).unwrap()
}

fn as_row(message: &Message) -> Message {
    Message { persist_status: PersistStatus::Persisted, ..message.clone() }
}

#[tokio::test]
async fn what_is_written_is_read_back_byte_for_byte() {
    let (_, store) = database().await;
    store.migrate().await.unwrap();
    store.ping().await.unwrap();
    let mut messages: Vec<Message> =
        ["你好，鸿雁 🦢👨‍👩‍👧", " trailing spaces  ", "nul \0 \\ ' \" \r\n", &"界".repeat(21_845)]
            .iter()
            .zip(1..)
            .map(|(content, number)| message(number, content))
            .collect();
    messages[0].client_msg_id = Some(name("名字 🦢 "));
    messages[1].kind = MessageType::try_from(255).unwrap();
    assert_eq!(messages[3].content.len(), 65_535);
    assert_eq!(store.persist(&messages).await.unwrap(), vec![Persisted::Written; 4]);
    for message in &messages {
        assert_eq!(store.message(message.id).await.unwrap(), Some(as_row(message)));
    }
    assert_eq!(store.message(id(1)).await.unwrap(), None);
    let ids: Vec<_> = messages.iter().flat_map(|message| [message.id, message.id]).chain([id(1)]).collect();
    assert_eq!(store.messages(&ids).await.unwrap().len(), 4);
    assert!(store.persist(&[]).await.unwrap().is_empty() && store.messages(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_may_come_again_and_hold_a_message_twice() {
    let (url, store) = database().await;
    let mut batch: Vec<Message> =
        (0..230).rev().map(|number| between(1, 2 + number % 3, number, &format!("text {number}"))).collect();
    batch.extend_from_within(..20);
    for _ in 0..3 {
        assert_eq!(store.persist(&batch).await.unwrap(), vec![Persisted::Written; 250]);
        batch.rotate_left(7);
    }
    let rows: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM message WHERE status = 1 AND persist_status = 'PERSISTED'")
            .fetch_one(&mut connect(&url).await)
            .await
            .unwrap();
    assert_eq!(rows, 230);
}

#[tokio::test]
async fn two_different_messages_under_one_id_are_a_clash_and_the_first_stays() {
    let (_, store) = database().await;
    let first = message(1, "first");
    let others = [message(1, "other"), between(3, 4, 1, "first"), between(2, 1, 1, "first")];
    assert_eq!(
        store.persist(&[first.clone(), others[0].clone()]).await.unwrap(),
        [Persisted::Written, Persisted::Clash]
    );
    let outcomes = store.persist(&[others.as_slice(), std::slice::from_ref(&first)].concat()).await.unwrap();
    assert_eq!(outcomes, [Persisted::Clash, Persisted::Clash, Persisted::Clash, Persisted::Written]);
    assert_eq!(store.message(first.id).await.unwrap(), Some(as_row(&first)));
}

#[tokio::test]
async fn a_retry_under_the_same_client_msg_id_keeps_the_first_row() {
    let (_, store) = database().await;
    let named =
        |number, content: &str, text| Message { client_msg_id: Some(name(text)), ..message(number, content) };
    let (first, retry) = (named(1, "hi", "a"), named(2, "hi", "a"));
    let doubles = Persisted::Doubles { first: first.id };
    assert_eq!(
        store.persist(&[first.clone(), retry.clone()]).await.unwrap(),
        [Persisted::Written, doubles.clone()]
    );
    assert_eq!(
        store.persist(&[retry.clone(), first.clone()]).await.unwrap(),
        [doubles.clone(), Persisted::Written]
    );
    assert_eq!(store.message(retry.id).await.unwrap(), None);

    // One more byte is another name, and so is another sender's.
    let space = named(3, "hi", "a ");
    let capital = named(4, "hi", "A");
    let sender = Message { client_msg_id: Some(name("a")), ..between(2, 1, 5, "hi") };
    assert_eq!(store.persist(&[space, capital, sender]).await.unwrap(), vec![Persisted::Written; 3]);

    // The same name for something else: it was accepted, so it is kept, without the name.
    let receiver = Message { client_msg_id: Some(name("a")), ..between(1, 3, 6, "hi") };
    let words = named(7, "other words", "a");
    let both = [receiver.clone(), words.clone()];
    for _ in 0..2 {
        assert_eq!(store.persist(&both).await.unwrap(), vec![Persisted::Written; 2]);
    }
    assert_eq!(
        store.message(words.id).await.unwrap(),
        Some(Message { client_msg_id: None, ..as_row(&words) })
    );
    // It can be recalled before it is there, as any other.
    let early = named(8, "third words", "a");
    store.recall(&[recall(&early, 5)]).await.unwrap();
    assert_eq!(
        store.persist(std::slice::from_ref(&early)).await.unwrap(),
        [Persisted::Recalled { recall_time: 5 }]
    );
    assert_eq!(store.message(early.id).await.unwrap().unwrap().content, "");

    // A retry of what was recalled meanwhile does not bring it back.
    store.recall(&[recall(&first, 9)]).await.unwrap();
    assert_eq!(store.persist(&[retry]).await.unwrap(), [doubles]);
}

#[tokio::test]
async fn what_the_server_refuses_is_named_and_the_others_are_written() {
    let (url, store) = database().await;
    let mut connection = connect(&url).await;
    execute(&mut connection, "ALTER TABLE message ADD CONSTRAINT no_77 CHECK (msg_type <> 77)").await;
    let mut batch: Vec<Message> = (0..250).map(|number| message(number, "fine")).collect();
    let refused = [0, 17, 18, 99, 249];
    for place in refused {
        batch[place].kind = MessageType::try_from(77).unwrap();
    }
    batch[120].content = "x".repeat(65_536);
    let outcomes = store.persist(&batch).await.unwrap();
    for (place, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Persisted::Refused { reason } if place == 120 => {
                assert!(reason.contains("65536 bytes"), "{reason}");
            }
            Persisted::Refused { reason } => {
                assert!(refused.contains(&place) && reason.contains("no_77"), "{place}: {reason}");
            }
            outcome => assert!(!refused.contains(&place) && *outcome == Persisted::Written, "{place}"),
        }
    }
    let rows: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM message").fetch_one(&mut connection).await.unwrap();
    assert_eq!(rows, 244);
    // Larger than the largest packet of the server would be: not even sent.
    batch[120].content = "x".repeat(100 << 20);
    assert!(matches!(store.persist(&batch[120..121]).await.unwrap()[0], Persisted::Refused { .. }));
    // Many large ones are more than one statement.
    let large: Vec<Message> = (1_000..1_100).map(|number| message(number, &"y".repeat(65_535))).collect();
    assert_eq!(store.persist(&large).await.unwrap(), vec![Persisted::Written; 100]);
}

#[tokio::test]
async fn a_recall_wins_before_and_after_the_row_and_the_first_decides_its_time() {
    let (_, store) = database().await;
    let (early, late, kept) = (message(1, "secret"), message(2, "secret"), message(3, "open"));
    store.recall(&[recall(&early, 100), recall(&early, 50), recall(&early, 100)]).await.unwrap();
    let outcomes = store.persist(&[early.clone(), late.clone(), kept.clone()]).await.unwrap();
    assert_eq!(outcomes, [Persisted::Recalled { recall_time: 100 }, Persisted::Written, Persisted::Written]);
    store.recall(&[recall(&late, 200)]).await.unwrap();
    store.recall(&[recall(&late, 201), recall(&early, 202)]).await.unwrap();
    store.recall(&[]).await.unwrap();
    let both = [early.clone(), late.clone()];
    let recalled = [Persisted::Recalled { recall_time: 100 }, Persisted::Recalled { recall_time: 200 }];
    assert_eq!(store.persist(&both).await.unwrap(), recalled);
    for (message, recall_time) in both.iter().zip([100, 200]) {
        let row = store.message(message.id).await.unwrap().unwrap();
        assert_eq!(row, as_row(message).recalled(recall_time));
        assert_eq!((row.status, row.persist_status), (Status::Recalled, PersistStatus::Persisted));
    }
    assert_eq!(store.message(kept.id).await.unwrap(), Some(as_row(&kept)));
    // A message that says itself that it is recalled brings no words.
    let said = message(4, "secret").recalled(300);
    let outcome = store.persist(&[Message { content: "secret".into(), ..said.clone() }]).await.unwrap();
    assert_eq!(outcome, [Persisted::Recalled { recall_time: 300 }]);
}

/// `content` as it lies in the table, whatever the status.
async fn shown_or_kept(url: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT COUNT(*) FROM message WHERE status <> 0 OR content <> '' OR recall_time IS NULL",
    )
    .fetch_one(&mut connect(url).await)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn persist_and_recall_at_the_same_time_end_with_the_recall() {
    let (url, store) = database().await;
    for round in 0..400 {
        // Small and large batches, in opposite orders, some with rows that are there before.
        let len = [1, 3, 40, 120][usize::try_from(round % 4).unwrap()];
        let batch: Vec<Message> = (0..len)
            .map(|number| between(1 + number % 3, 9 - number % 2, round * 1_000 + number, "secret"))
            .collect();
        let recalls: Vec<Recall> = batch.iter().rev().map(|message| recall(message, 7)).collect();
        let (persisting, recalling, again) = (store.clone(), store.clone(), store.clone());
        let (rows, more) = (batch.clone(), batch[batch.len() / 2..].to_vec());
        let persisted = tokio::spawn(async move { persisting.persist(&rows).await });
        let repeated = tokio::spawn(async move { again.persist(&more).await });
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..4_000))).await;
        let recalled = tokio::spawn(async move { recalling.recall(&recalls).await });
        persisted.await.unwrap().unwrap();
        repeated.await.unwrap().unwrap();
        recalled.await.unwrap().unwrap();
    }
    assert_eq!(shown_or_kept(&url).await, 0);
}

#[tokio::test]
async fn a_recall_waits_for_a_row_that_is_not_yet_committed() {
    // The trap: a scan for an UPDATE at READ COMMITTED passes over such a row.
    let (url, store) = database().await;
    let mut connection = connect(&url).await;
    execute(&mut connection, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await;
    let mut transaction = connection.begin().await.unwrap();
    execute(
        &mut transaction,
        "INSERT INTO message (id, conv_id, from_user_id, to_id, content, msg_type, send_time) \
         VALUES (9007199254740994, '1_2', 1, 2, 'secret', 1, 1)",
    )
    .await;
    let recalling = {
        let (store, message) = (store.clone(), message(1, "secret"));
        tokio::spawn(async move { store.recall(&[recall(&message, 7)]).await })
    };
    let mut other = connect(&url).await;
    loop {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE '%recall: rows%UPDATE%' \
             AND id <> CONNECTION_ID()",
        )
        .fetch_one(&mut other)
        .await
        .unwrap();
        if waiting > 0 {
            break;
        }
        assert!(!recalling.is_finished(), "the recall did not wait");
        tokio::task::yield_now().await;
    }
    transaction.commit().await.unwrap();
    recalling.await.unwrap().unwrap();
    assert_eq!(shown_or_kept(&url).await, 0);
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_in_either_direction() {
    let (url, store) = database().await;
    let all: Vec<Message> =
        (0..2_500).map(|number| between(1 + number % 2, 2 - number % 2, number * 3, "x")).collect();
    let strangers: Vec<Message> = (0..500).map(|number| between(1, 3, number * 3 + 1, "y")).collect();
    store.persist(&all).await.unwrap();
    store.persist(&strangers).await.unwrap();
    store.recall(&[recall(&all[1_200], 7)]).await.unwrap();
    let expected: Vec<MessageId> = all.iter().map(|message| message.id).collect();

    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.page_before(conversation(), before, 99).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|message| message.id));
        // One that arrives between two pages is newer than any of them.
        let number = 9_000 + i64::try_from(seen.len()).unwrap();
        store.persist(&[message(number, "new")]).await.unwrap();
    }
    seen.reverse();
    assert_eq!(seen, expected);

    let (mut seen, mut after) = (Vec::new(), id(1));
    while seen.len() < expected.len() {
        let page = store.page_after(conversation(), after, 100).await.unwrap();
        after = page.last().unwrap().id;
        seen.extend(page.iter().map(|message| message.id));
    }
    assert_eq!(seen, expected);

    let between = store.ids_between(conversation(), all[10].id, Some(all[20].id)).await.unwrap();
    assert_eq!(between, expected[11..20].iter().rev().copied().collect::<Vec<_>>());
    assert!(store.ids_between(conversation(), all[2_499].id, None).await.unwrap().len() >= 25);
    let page = store.page_before(conversation(), Some(all[1_201].id), 1).await.unwrap();
    assert_eq!((page[0].id, page[0].status, page[0].content.as_str()), (all[1_200].id, Status::Recalled, ""));

    let mut connection = connect(&url).await;
    let plan: Vec<String> = sqlx::query_scalar(
        "SELECT index_name FROM information_schema.statistics WHERE table_schema = DATABASE() \
         AND table_name = 'message' AND seq_in_index = 1 ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(plan, ["idx_inbox", "idx_persist_status", "PRIMARY", "uk_client_msg", "uk_message_id"]);
}

#[tokio::test]
async fn deletions_are_each_users_own() {
    let (_, store) = database().await;
    for number in [5, 3, 9, 3] {
        store.delete_for(user(1), id(number)).await.unwrap();
    }
    store.delete_for(user(2), id(4)).await.unwrap();
    let many: Vec<MessageId> = (1..=350).map(id).collect();
    assert_eq!(store.deleted_among(user(1), &many).await.unwrap(), HashSet::from([id(3), id(5), id(9)]));
    assert!(store.deleted_among(user(1), &[]).await.unwrap().is_empty());
    assert_eq!(store.deleted_by(user(1), 2).await.unwrap(), [id(9), id(5)]);
    assert_eq!(store.deleted_by(user(3), 2).await.unwrap(), []);
}

#[tokio::test]
async fn a_read_position_only_grows() {
    let (_, store) = database().await;
    let advance =
        async |up_to| store.advance_read_position(user(2), conversation(), id(up_to)).await.unwrap();
    assert_eq!(store.read_position(user(2), conversation()).await.unwrap(), None);
    assert_eq!(advance(50).await, None);
    assert_eq!(advance(20).await, Some(id(50)));
    assert_eq!(advance(60).await, Some(id(50)));
    assert_eq!(store.read_position(user(2), conversation()).await.unwrap(), Some(id(60)));
    let tasks: Vec<_> = (1..=40)
        .map(|up_to| {
            let store = store.clone();
            tokio::spawn(async move { store.advance_read_position(user(1), conversation(), id(up_to)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.read_position(user(1), conversation()).await.unwrap(), Some(id(40)));
}

#[tokio::test]
async fn unread_is_what_was_received_above_the_position_and_neither_recalled_nor_hidden() {
    let (_, store) = database().await;
    // To user 2 from 120 others, ten messages each; and what user 2 wrote never counts.
    let mut all = Vec::new();
    for number in 0..10 {
        for sender in 100..220 {
            all.push(between(sender, 2, number * 1_000 + sender, "x"));
            all.push(between(2, sender, number * 1_000 + 500 + sender, "own"));
        }
    }
    store.persist(&all).await.unwrap();
    let mut expected: Vec<MessageId> =
        all.iter().filter(|message| message.to == user(2)).map(|message| message.id).collect();
    expected.reverse();
    assert_eq!(store.unread(user(2), 10_000).await.unwrap(), expected);
    assert_eq!(store.unread(user(2), 7).await.unwrap(), expected[..7]);
    assert_eq!(store.unread(user(9), 7).await.unwrap(), []);

    let mut gone = HashSet::new();
    for sender in 100..215 {
        let of_sender: Vec<&Message> =
            all.iter().filter(|message| message.from == user(sender) && message.to == user(2)).collect();
        let conversation = of_sender[0].conversation();
        let up_to = of_sender[usize::try_from(sender % 10).unwrap()].id;
        store.advance_read_position(user(2), conversation, up_to).await.unwrap();
        let read = store.received_between(user(2), conversation, None, up_to).await.unwrap();
        assert_eq!(read.len(), usize::try_from(sender % 10).unwrap() + 1);
        assert!(store.received_between(user(2), conversation, Some(up_to), up_to).await.unwrap().is_empty());
        gone.extend(read);
    }
    let (taken_back, hidden) = (&all[all.len() - 2], &all[all.len() - 4]);
    let asked = [all[0].id, hidden.id, taken_back.id, id(999_999)];
    let unread_among = async || store.unread_among(&asked).await.unwrap();
    assert_eq!(
        unread_among().await,
        HashSet::from([hidden.id, taken_back.id]),
        "the first is below the position"
    );
    store.recall(&[recall(taken_back, 7)]).await.unwrap();
    store.delete_for(user(2), hidden.id).await.unwrap();
    assert_eq!(unread_among().await, HashSet::new());
    gone.extend([taken_back.id, hidden.id]);
    expected.retain(|id| !gone.contains(id));
    assert_eq!(store.unread(user(2), 10_000).await.unwrap(), expected);
    for limit in [1, 49, 50, 51, 300] {
        assert_eq!(store.unread(user(2), limit).await.unwrap(), expected[..usize::try_from(limit).unwrap()]);
    }
}

/// A store whose connections lead through a proxy that a test can cut and freeze.
async fn behind_proxy(timeout: Duration) -> (Proxy, Store) {
    let (url, _) = database().await;
    let proxy = Proxy::to(&url).await;
    let store = Store::new(&MySqlConfig { timeout, ..config(&proxy.url()) }).unwrap();
    (proxy, store)
}

#[tokio::test]
async fn a_server_that_is_not_there_is_noticed_at_once() {
    let (mut proxy, store) = behind_proxy(Duration::from_secs(30)).await;
    store.ping().await.unwrap();
    proxy.close().await;
    let started = Instant::now();
    let error = store.persist(&[message(1, "x")]).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().starts_with("mysql: store.persist: "), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    // Many callers do not queue up behind each other.
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn({
                let store = store.clone();
                async move { store.ping().await }
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().unwrap_err().is_transient());
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    proxy.open().await;
    store.persist(&[message(1, "x")]).await.unwrap();
}

#[tokio::test]
async fn connections_that_were_cut_are_replaced_within_the_call() {
    let (mut proxy, store) = behind_proxy(Duration::from_secs(5)).await;
    let store = Arc::new(store);
    for _ in 0..5 {
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                tokio::spawn({
                    let store = store.clone();
                    async move { store.ping().await }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        proxy.close().await;
        proxy.open().await;
        store.persist(&[message(1, "x")]).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_hangs_ends_in_a_transient_error_in_bounded_time() {
    let (proxy, store) = behind_proxy(Duration::from_secs(1)).await;
    store.persist(&[message(1, "x")]).await.unwrap();
    proxy.freeze(true);
    for _ in 0..3 {
        let started = Instant::now();
        let error = store.page_before(conversation(), None, 10).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
    proxy.freeze(false);
    // No answer of a call that was given up is taken for that of another.
    for number in 2..50 {
        store.persist(&[message(number, "x")]).await.unwrap();
        assert_eq!(
            store.message(message(number, "x").id).await.unwrap().unwrap().id,
            message(number, "x").id
        );
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_in_the_middle_spoils_no_connection() {
    let (_, store) = database().await;
    let batch: Vec<Message> = (0..50).map(|number| message(number, "x")).collect();
    store.persist(&batch).await.unwrap();
    let ids = [batch[1].id, batch[2].id];
    for step in 0..150_u64 {
        let call = async { tokio::join!(store.persist(&batch), store.messages(&ids)).0 };
        // Cut off or done: what counts is what comes after it.
        let _ = tokio::time::timeout(Duration::from_micros(step * 40), Box::pin(call)).await;
        assert_eq!(store.message(batch[7].id).await.unwrap(), Some(as_row(&batch[7])));
    }
}

/// A MySQL of the test's own with an empty database of the same name, user and password as the one at `url`.
async fn with_the_same_database(url: &str) -> (Stack, String) {
    let mut url = url::Url::parse(url).unwrap();
    let stack = Stack::start(beside_shared(Kind::Mysql).await).await.unwrap();
    let own = stack.create_database(url.path().trim_start_matches('/')).await.unwrap();
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    let accounts = format!(
        "CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}'; \
         ALTER USER '{user}'@'%' IDENTIFIED BY '{password}'; \
         GRANT ALL PRIVILEGES ON `hongyan%`.* TO '{user}'@'%'"
    );
    let mut administrator = stack.mysql_administrator().connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(accounts)).execute(&mut administrator).await.unwrap();
    url.set_port(url::Url::parse(&own).unwrap().port()).unwrap();
    let url = String::from(url);
    Store::new(&config(&url)).unwrap().migrate().await.unwrap();
    (stack, url)
}

#[tokio::test]
async fn connections_to_a_writer_that_was_demoted_are_replaced_within_the_call() {
    let (new_url, new) = database().await;
    let (old_server, old_url) = with_the_same_database(&new_url).await;
    let old = Store::new(&config(&old_url)).unwrap();
    let mut proxy = Proxy::to(&old_url).await;
    let store = Store::new(&config(&proxy.url())).unwrap();
    let all = async || future::join_all((1..=20).map(|_| store.ping())).await;
    assert!(all().await.iter().all(Result::is_ok), "many connections to the old writer are open");
    store.persist(&[message(1, "to the old one")]).await.unwrap();

    // Aurora's name leads to the new writer; the old one is a reader, and its connections stay open.
    let mut administrator = old_server.mysql_administrator().connect().await.unwrap();
    execute(&mut administrator, "SET GLOBAL read_only = 1").await;
    proxy.lead_to(&new_url);
    let messages: Vec<Message> = (2..=20).map(|number| message(number, "to the new one")).collect();
    let calls = future::join_all(messages.iter().map(|message| store.persist(std::slice::from_ref(message))));
    for written in calls.await {
        assert_eq!(written.unwrap(), [Persisted::Written]);
    }
    store.recall(&[recall(&messages[0], 99)]).await.unwrap();
    assert_eq!(new.message(messages[0].id).await.unwrap().unwrap().status, Status::Recalled);
    assert_eq!(new.page_before(conversation(), None, 100).await.unwrap().len(), messages.len());
    assert_eq!(old.page_before(conversation(), None, 100).await.unwrap().len(), 1);
    old_server.stop().await.unwrap();
}

/// A store whose replica is a database of its own, where the test is the replication; and a proxy in front of it.
async fn with_replica() -> (Store, Store, Proxy) {
    let (url, _) = database().await;
    let (replica_url, replica) = database().await;
    let proxy = Proxy::to(&replica_url).await;
    let config = MySqlConfig { replica_url: Some(proxy.url().into()), ..config(&url) };
    (Store::new(&config).unwrap(), replica, proxy)
}

/// The words of a conversation's page, newest first.
async fn words(store: &Store) -> Vec<String> {
    let page = store.page_before(conversation(), None, 3).await.unwrap();
    page.into_iter().map(|message| message.content).collect()
}

#[tokio::test]
async fn a_page_comes_from_the_replica_if_it_is_what_the_writer_has() {
    let (store, replica, mut proxy) = with_replica().await;
    // The same messages in other words, so that it shows who answered.
    for number in 1..=5 {
        let (from, to) = if number % 2 == 0 { (1, 2) } else { (2, 1) };
        store.persist(&[between(from, to, number, "writer")]).await.unwrap();
        replica.persist(&[between(from, to, number, "replica")]).await.unwrap();
    }
    assert_eq!(words(&store).await, ["replica"; 3]);
    let first = between(2, 1, 1, "").id;
    let on = store.page_after(conversation(), first, 2).await.unwrap();
    assert_eq!(on.iter().map(|message| message.content.as_str()).collect::<Vec<_>>(), ["replica"; 2]);

    // It lags by one message, and then has it.
    store.persist(&[message(6, "writer")]).await.unwrap();
    assert_eq!(words(&store).await, ["writer"; 3]);
    replica.persist(&[message(6, "replica")]).await.unwrap();
    assert_eq!(words(&store).await, ["replica"; 3]);

    // By a message that was held up on its way, in the middle of what was read before.
    store.persist(&[between(3, 4, 9, "of others"), between(1, 2, 100, "writer")]).await.unwrap();
    replica.persist(&[between(1, 2, 100, "replica")]).await.unwrap();
    assert_eq!(words(&store).await, ["replica"; 3]);
    store.persist(&[between(1, 2, 50, "writer")]).await.unwrap();
    assert_eq!(words(&store).await, ["writer"; 3]);
    replica.persist(&[between(1, 2, 50, "replica")]).await.unwrap();

    // By a recall: what was taken back is not shown, whatever the replica still has.
    store.recall(&[recall(&message(50, ""), 99)]).await.unwrap();
    assert_eq!(words(&store).await, ["writer", "", "writer"]);
    replica.recall(&[recall(&message(50, ""), 99)]).await.unwrap();
    assert_eq!(words(&store).await, ["replica", "", "replica"]);

    // By everything.
    proxy.close().await;
    assert_eq!(words(&store).await, ["writer", "", "writer"]);
}

#[tokio::test]
async fn a_wrong_password_or_a_missing_table_is_said_and_is_nobodys_message() {
    let (url, store) = database().await;
    let mut wrong = url::Url::parse(&url).unwrap();
    wrong.set_username("nobody_of_that_name").unwrap();
    wrong.set_password(Some("wrong")).unwrap();
    let error = Store::new(&config(wrong.as_str())).unwrap().ping().await.unwrap_err();
    assert!(error.to_string().contains("Access denied") && error.is_transient(), "{error}");
    execute(&mut connect(&url).await, "DROP TABLE message_recall").await;
    let error = store.persist(&[message(1, "x")]).await.unwrap_err();
    assert!(error.to_string().contains("message_recall") && error.is_transient(), "{error}");
    assert_eq!(store.message(message(1, "x").id).await.unwrap(), None, "the transaction was rolled back");
    assert!(Store::new(&config("mysql://h/d?ssl-mode=nonsense")).is_err());
}
