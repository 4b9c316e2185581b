//! Rows, recalls in every order, pages, unread messages.

use std::collections::HashSet;
use std::time::Duration;

use hongyan::event::Recall;
use hongyan::id::MessageId;
use hongyan::message::{ClientMessageId, Message, MessageType, PersistStatus, Status};
use hongyan::store::{Persisted, Store};
use sqlx::Connection as _;

use crate::{as_row, between, connect, conversation, database, execute, id, message, recall, user};

/// The row of a message, without the number of its change.
async fn row(store: &Store, id: MessageId) -> Option<Message> {
    let row = store.message(id).await.unwrap()?;
    assert!(row.seq.is_some(), "every row has a number: {row:?}");
    Some(Message { seq: None, ..row })
}

fn name(text: &str) -> ClientMessageId {
    ClientMessageId::try_from(text.to_owned()).unwrap()
}

#[tokio::test]
async fn what_is_written_is_read_back_byte_for_byte() {
    let (_, store) = database().await;
    store.migrate(|_| ()).await.unwrap();
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
        assert_eq!(row(&store, message.id).await, Some(as_row(message)));
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
    assert_eq!(row(&store, first.id).await, Some(as_row(&first)));
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

    // A name with one more byte is another name, and so is the name of another sender.
    let space = named(3, "hi", "a ");
    let capital = named(4, "hi", "A");
    let sender = Message { client_msg_id: Some(name("a")), ..between(2, 1, 5, "hi") };
    assert_eq!(store.persist(&[space, capital, sender]).await.unwrap(), vec![Persisted::Written; 3]);

    // The same name for another message: it was accepted, so it is kept, without the name.
    let receiver = Message { client_msg_id: Some(name("a")), ..between(1, 3, 6, "hi") };
    let words = named(7, "other words", "a");
    let both = [receiver.clone(), words.clone()];
    for _ in 0..2 {
        assert_eq!(store.persist(&both).await.unwrap(), vec![Persisted::Written; 2]);
    }
    assert_eq!(row(&store, words.id).await, Some(Message { client_msg_id: None, ..as_row(&words) }));
    // The message can be recalled before its row exists, like any other.
    let early = named(8, "third words", "a");
    store.recall(&[recall(&early, 5)]).await.unwrap();
    assert_eq!(
        store.persist(std::slice::from_ref(&early)).await.unwrap(),
        [Persisted::Recalled { recall_time: 5 }]
    );
    assert_eq!(store.message(early.id).await.unwrap().unwrap().content, "");

    // A retry of a message that was recalled meanwhile does not bring it back.
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
    // Larger than the largest packet of the server: not even sent.
    batch[120].content = "x".repeat(100 << 20);
    assert!(matches!(store.persist(&batch[120..121]).await.unwrap()[0], Persisted::Refused { .. }));
    // Many large messages make more than one statement.
    let large: Vec<Message> = (1_000..1_100).map(|number| message(number, &"y".repeat(65_535))).collect();
    assert_eq!(store.persist(&large).await.unwrap(), vec![Persisted::Written; 100]);
}

/// Puts a row back as a dead letter is, once the table takes it.
#[tokio::test]
async fn what_was_deleted_before_the_server_refused_it_stays_deleted_when_it_is_written_later() {
    let (url, store) = database().await;
    let mut connection = connect(&url).await;
    execute(&mut connection, "ALTER TABLE message ADD CONSTRAINT no_77 CHECK (msg_type <> 77)").await;
    let refused = Message { kind: MessageType::try_from(77).unwrap(), ..message(1, "hidden") };
    let reader = refused.to;
    store.delete_for(reader, refused.conversation(), refused.id).await.unwrap();
    let batch = [refused.clone(), message(2, "shown")];
    assert!(matches!(
        store.persist(&batch).await.unwrap()[..],
        [Persisted::Refused { .. }, Persisted::Written]
    ));
    execute(&mut connection, "ALTER TABLE message DROP CONSTRAINT no_77").await;
    assert_eq!(store.persist(&batch[..1]).await.unwrap(), [Persisted::Written]);
    let page = store.visible_before(refused.conversation(), reader, None, 10).await.unwrap();
    assert_eq!(page.iter().map(|row| row.content.as_str()).collect::<Vec<_>>(), ["shown"]);
    let senders = store.visible_before(refused.conversation(), refused.from, None, 10).await.unwrap();
    assert_eq!(senders.len(), 2);
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
        let row = row(&store, message.id).await.unwrap();
        assert_eq!(row, as_row(message).recalled(recall_time));
        assert_eq!((row.status, row.persist_status), (Status::Recalled, PersistStatus::Persisted));
    }
    assert_eq!(row(&store, kept.id).await, Some(as_row(&kept)));
    // A message that is marked as recalled brings no words.
    let said = message(4, "secret").recalled(300);
    let outcome = store.persist(&[Message { content: "secret".into(), ..said.clone() }]).await.unwrap();
    assert_eq!(outcome, [Persisted::Recalled { recall_time: 300 }]);
}

/// The `content` column of a row, whatever its status.
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
        // Small and large batches, in opposite orders, some with rows that exist before.
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
async fn every_change_of_a_conversation_waits_for_its_row() {
    let (url, store) = database().await;
    let first = message(1, "first");
    store.persist(std::slice::from_ref(&first)).await.unwrap();
    let mut transaction = connect(&url).await;
    let mut transaction = transaction.begin().await.unwrap();
    execute(&mut transaction, "SELECT * FROM conversation WHERE conv_id = '1_2' FOR UPDATE").await;
    let changes = [
        tokio::spawn({
            let store = store.clone();
            async move { store.persist(&[message(2, "second")]).await.map(drop) }
        }),
        tokio::spawn({
            let (store, recall) = (store.clone(), recall(&first, 7));
            async move { store.recall(&[recall]).await }
        }),
        tokio::spawn({
            let (store, first) = (store.clone(), first.id);
            async move { store.delete_for(user(1), conversation(), first).await }
        }),
        tokio::spawn({
            let (store, first) = (store.clone(), first.id);
            async move { store.advance_read_position(user(2), conversation(), first).await.map(drop) }
        }),
    ];
    let mut other = connect(&url).await;
    loop {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() \
             AND info LIKE '/* store.conversation: lock */%' AND id <> CONNECTION_ID()",
        )
        .fetch_one(&mut other)
        .await
        .unwrap();
        if waiting == 4 {
            break;
        }
        assert!(changes.iter().all(|change| !change.is_finished()), "somebody did not wait");
        tokio::task::yield_now().await;
    }
    transaction.commit().await.unwrap();
    for change in changes {
        change.await.unwrap().unwrap();
    }
    let page = store.changes(conversation(), user(1), 0, 10).await.unwrap();
    assert_eq!((page.changes.len(), page.last_seq), (4, 5), "a hidden message leaves a gap: {page:?}");
}

#[tokio::test]
async fn numbers_that_a_dead_process_may_have_shown_are_never_given_again() {
    let (url, store) = database().await;
    store.persist(&[message(1, "one"), message(2, "two")]).await.unwrap();
    // The row as an earlier process of MySQL has left it: this process began one day later.
    let mut connection = connect(&url).await;
    let start: i64 =
        sqlx::query_scalar("SELECT server_start FROM conversation").fetch_one(&mut connection).await.unwrap();
    assert!(start > 1_700_000_000, "the server tells when it began: {start}");
    execute(&mut connection, "UPDATE conversation SET server_start = server_start - 86400").await;
    store.persist(&[message(1, "one")]).await.unwrap();
    assert_eq!(
        store.changes(conversation(), user(1), 2, 10).await.unwrap().last_seq,
        2,
        "no change, no number"
    );

    store.persist(&[message(3, "three"), message(4, "four")]).await.unwrap();
    store.recall(&[recall(&message(1, "one"), 7)]).await.unwrap();

    let changes = async |after| {
        let page = store.changes(conversation(), user(1), after, 10).await.unwrap();
        (page.changes.iter().map(|change| change.seq).collect::<Vec<_>>(), page.next, page.last_seq)
    };
    let after_the_gap = vec![1_000_003, 1_000_004, 1_000_005];
    assert_eq!(changes(2).await, (after_the_gap.clone(), None, 1_000_005), "one gap for one new process");
    assert_eq!(changes(0).await.0, [vec![1, 2], after_the_gap].concat());
    // A client that was shown a lost number, and so a lost change, learns that its number is too high.
    for lost in [3, 500_000, 1_000_002] {
        assert_eq!(changes(lost).await, (vec![], None, 2), "{lost}");
    }
    assert_eq!(changes(1_000_003).await.0, [1_000_004, 1_000_005]);
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_in_either_direction() {
    let (url, store) = database().await;
    let all: Vec<Message> =
        (0..2_500).map(|number| between(1 + number % 2, 2 - number % 2, number * 3, "x")).collect();
    let strangers: Vec<Message> = (0..500).map(|number| between(1, 3, number * 3 + 1, "y")).collect();
    store.persist(&all).await.unwrap();
    store.persist(&strangers).await.unwrap();
    // Recalled messages, and messages that the reader has deleted, are skipped. A message deleted by the other user
    // is not.
    store.recall(&[recall(&all[1_200], 7)]).await.unwrap();
    store.delete_for(user(1), conversation(), all[1_300].id).await.unwrap();
    store.delete_for(user(2), conversation(), all[1_400].id).await.unwrap();
    let gone = [all[1_200].id, all[1_300].id];
    let expected: Vec<MessageId> =
        all.iter().map(|message| message.id).filter(|id| !gone.contains(id)).collect();

    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.visible_before(conversation(), user(1), before, 99).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|message| message.id));
        // A message that arrives between two pages is newer than both.
        let number = 9_000 + i64::try_from(seen.len()).unwrap();
        store.persist(&[message(number, "new")]).await.unwrap();
    }
    seen.reverse();
    assert_eq!(seen, expected);

    let (mut seen, mut after) = (Vec::new(), id(1));
    while seen.len() < expected.len() {
        let page = store.visible_after(conversation(), user(1), after, 100).await.unwrap();
        after = page.last().unwrap().id;
        seen.extend(page.iter().map(|message| message.id));
    }
    // The last page continues with messages that arrived meanwhile.
    seen.truncate(expected.len());
    assert_eq!(seen, expected);

    let (above, below) = (Some(all[1_190].id), Some(all[1_210].id));
    let listed = store.listed_ids(conversation(), above, below, 100).await.unwrap();
    let live = all[1_191..1_210].iter().rev().map(|message| message.id).filter(|id| *id != all[1_200].id);
    assert_eq!(listed, live.collect::<Vec<_>>());
    let hidden =
        store.listed_ids(conversation(), Some(all[1_299].id), Some(all[1_301].id), 100).await.unwrap();
    assert_eq!(hidden, [all[1_300].id], "the other one still sees it");

    let mut connection = connect(&url).await;
    let plan: Vec<String> = sqlx::query_scalar(
        "SELECT index_name FROM information_schema.statistics WHERE table_schema = DATABASE() \
         AND table_name = 'message' AND seq_in_index = 1 ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(
        plan,
        ["idx_changes", "idx_persist_status", "idx_visible", "PRIMARY", "uk_client_msg", "uk_message_id"]
    );
}

#[tokio::test]
async fn deletions_are_each_users_own() {
    let (_, store) = database().await;
    for number in [5, 3, 9, 3] {
        store.delete_for(user(1), conversation(), id(number)).await.unwrap();
    }
    store.delete_for(user(2), conversation(), id(4)).await.unwrap();
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
    assert!(advance(50).await);
    assert!(!advance(20).await);
    assert!(advance(60).await);
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
    // To user 2 from 120 others, ten messages each. Messages written by user 2 never count.
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
        let read = store.received_between(user(2), conversation, None, up_to, 100).await.unwrap();
        assert_eq!(read.len(), usize::try_from(sender % 10).unwrap() + 1);
        assert!(
            store.received_between(user(2), conversation, Some(up_to), up_to, 100).await.unwrap().is_empty()
        );
        gone.extend(read);
    }
    let (taken_back, hidden) = (&all[all.len() - 2], &all[all.len() - 4]);
    let total = async || store.unread_rows(user(2), &[]).await.unwrap().total;
    assert_eq!(total().await, (expected.len() - gone.len()) as u64);
    store.recall(&[recall(taken_back, 7)]).await.unwrap();
    store.delete_for(user(2), hidden.conversation(), hidden.id).await.unwrap();
    gone.extend([taken_back.id, hidden.id]);
    expected.retain(|id| !gone.contains(id));
    assert_eq!(total().await, expected.len() as u64);
    assert_eq!(store.unread(user(2), 10_000).await.unwrap(), expected);
    for limit in [1, 49, 50, 51, 300] {
        assert_eq!(store.unread(user(2), limit).await.unwrap(), expected[..usize::try_from(limit).unwrap()]);
    }
}
