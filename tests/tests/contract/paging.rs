//! 2,500 messages, page by page, while new ones arrive: none is skipped or repeated, and the order is right.

use hongyan::id::{MessageId, UserId};
use hongyan::message::{Message, MessageType};
use hongyan_testkit::{Caller, TestApp};

/// Writes rows of a conversation as if they had been sent some time ago. Redis does not know them. `pairs` are
/// senders and receivers, in turn.
pub(crate) async fn fill(test: &TestApp, pairs: &[(i64, i64)], count: usize) -> Vec<String> {
    let mut messages = Vec::with_capacity(count);
    for (number, &(from, to)) in pairs.iter().cycle().take(count).enumerate() {
        let id: MessageId = test.app().ids.next().await.unwrap();
        let (from, to) = (UserId::new(from).unwrap(), UserId::new(to).unwrap());
        messages.push(Message::new(id, from, to, MessageType::TEXT, format!("row {number}"), None));
    }
    for chunk in messages.chunks(500) {
        test.app().store.persist(chunk).await.unwrap();
    }
    messages.iter().map(|message| message.id.to_string()).collect()
}

/// A conversation in which users 1 and 5 both write.
struct Conversation {
    test: TestApp,
    alice: Caller,
    eve: Caller,
    /// All ids, oldest first.
    ids: Vec<String>,
}

impl Conversation {
    async fn of(count: usize) -> Self {
        let test = TestApp::start().await;
        let (alice, eve) = (test.user(1), test.user(5));
        let mut ids = fill(&test, &[(1, 5), (1, 5), (5, 1)], count - 50).await;
        for number in 0..50 {
            ids.push(alice.sent(5, &format!("sent {number}")).await);
        }
        Self { test, alice, eve, ids }
    }

    /// Sends a new message.
    async fn arrive(&mut self) {
        let id = if self.ids.len().is_multiple_of(2) {
            self.alice.sent(5, "new").await
        } else {
            self.eve.sent(1, "new").await
        };
        self.ids.push(id);
    }

    /// Walks back from the newest message. A message arrives after each of the first `arriving` pages. The
    /// arriving messages are newer than the start of the walk, so the walk must not meet them.
    async fn walk_back(&mut self, limit: usize, arriving: usize) -> Vec<String> {
        self.some_pages_back("", usize::MAX, limit, arriving).await
    }

    /// Walks back from `cursor`, for at most `pages` pages.
    async fn some_pages_back(
        &mut self,
        cursor: &str,
        pages: usize,
        limit: usize,
        arriving: usize,
    ) -> Vec<String> {
        let (alice, cursor) = (self.alice.clone(), cursor.to_owned());
        self.walk(&alice, 5, "before", cursor, pages, limit, arriving).await
    }

    /// Walks forward from the oldest message. The walk meets new messages at the end.
    async fn walk_on(&mut self, limit: usize, arriving: usize) -> Vec<String> {
        self.some_pages_on("1", usize::MAX, limit, arriving).await
    }

    /// Walks forward from `after`, for at most `pages` pages.
    async fn some_pages_on(
        &mut self,
        after: &str,
        pages: usize,
        limit: usize,
        arriving: usize,
    ) -> Vec<String> {
        let (eve, cursor) = (self.eve.clone(), format!("&after={after}"));
        self.walk(&eve, 1, "after", cursor, pages, limit, arriving).await
    }

    /// Follows `next` from page to page in one direction.
    #[expect(clippy::too_many_arguments, reason = "the two walks above fill them in")]
    async fn walk(
        &mut self,
        reader: &Caller,
        peer: i64,
        direction: &str,
        mut cursor: String,
        pages: usize,
        limit: usize,
        arriving: usize,
    ) -> Vec<String> {
        let mut seen = Vec::new();
        for page_number in 0..pages {
            let page = reader.history(peer, &format!("limit={limit}{cursor}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            let ids = page.ids();
            let next = page.body["next"].as_str();
            assert!(ids.len() == limit || next.is_none(), "a page that is not full is the last: {page:?}");
            seen.extend(ids);
            let Some(next) = next else { break };
            assert_eq!(Some(next), seen.last().map(String::as_str));
            cursor = format!("&{direction}={next}");
            if page_number < arriving {
                self.arrive().await;
            }
        }
        seen
    }

    fn newest_first(&self) -> Vec<String> {
        self.ids.iter().rev().cloned().collect()
    }
}

/// Compares without printing thousands of ids.
#[track_caller]
fn assert_same(found: &[String], expected: &[String], what: &str) {
    let place = found.iter().zip(expected).position(|(found, expected)| found != expected);
    assert!(
        place.is_none() && found.len() == expected.len(),
        "{what}: {} instead of {}, first difference at {place:?}: {:?} instead of {:?}",
        found.len(),
        expected.len(),
        place.map(|place| &found[place]),
        place.map(|place| &expected[place]),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_size_neither_skip_nor_repeat_in_either_direction() {
    let mut conversation = Box::pin(Conversation::of(2_500)).await;
    for limit in [100, 20, 7] {
        let expected = conversation.newest_first();
        let seen = conversation.walk_back(limit, 10).await;
        assert_same(&seen, &expected, &format!("back by {limit}"));
        let seen = conversation.walk_on(limit, 10).await;
        assert_same(&seen, &conversation.ids, &format!("on by {limit}"));
    }
    // One by one across the end of the list in Redis, which has the newest thousand, and at both ends of the
    // conversation.
    for (newest, pages) in [(950, 100), (2_500, 100), (3, 2)] {
        let expected = conversation.newest_first();
        let cursor = format!("&before={}", expected[newest]);
        let seen = conversation.some_pages_back(&cursor, pages, 1, 10).await;
        let end = expected.len().min(newest + 1 + pages);
        assert_same(&seen, &expected[newest + 1..end], &format!("back one by one from {newest}"));
        let oldest = expected.len() - 1 - newest;
        let seen = conversation.some_pages_on(&conversation.ids[oldest].clone(), pages, 1, 10).await;
        let end = conversation.ids.len().min(oldest + 1 + pages);
        assert_same(&seen, &conversation.ids[oldest + 1..end], &format!("on one by one from {oldest}"));
    }
    let listed: usize = redis::cmd("LLEN")
        .arg("msg:conv:1_5")
        .query_async(&mut conversation.test.redis().await)
        .await
        .unwrap();
    assert_eq!(listed, 1_000, "the list was refilled up to its limit, and not beyond");
    conversation.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_recalled_messages_leave_no_gap_in_pages() {
    let mut conversation = Box::pin(Conversation::of(600)).await;
    conversation.test.drain().await;
    // Alice deletes some messages and a long run of others. Recalled messages are gone for both users.
    let (mut hidden, mut recalled) = (Vec::new(), Vec::new());
    for (number, id) in conversation.ids.iter().enumerate() {
        if number % 11 == 3 || (250..400).contains(&number) || number >= 590 {
            assert_eq!(conversation.alice.delete(id).await.status, 204);
            hidden.push(id.clone());
        }
        if number % 13 == 5 {
            let row = conversation.test.app().store.message(id.parse().unwrap()).await.unwrap().unwrap();
            let sender =
                if row.from == conversation.alice.id { &conversation.alice } else { &conversation.eve };
            assert_eq!(sender.recall(id).await.status, 200);
            recalled.push(id.clone());
        }
    }
    for redis_is_empty in [false, true] {
        for limit in [100, 20, 7] {
            if redis_is_empty {
                conversation.test.drain().await;
                super::empty_redis(&conversation.test).await;
            }
            let mut for_alice = conversation.newest_first();
            for_alice.retain(|id| !hidden.contains(id) && !recalled.contains(id));
            let seen = conversation.walk_back(limit, 3).await;
            assert_same(&seen, &for_alice, &format!("back by {limit}, Redis empty: {redis_is_empty}"));
            let seen = conversation.walk_on(limit, 3).await;
            let mut for_eve = conversation.ids.clone();
            for_eve.retain(|id| !recalled.contains(id));
            assert_same(&seen, &for_eve, &format!("on by {limit}, Redis empty: {redis_is_empty}"));
        }
    }
    conversation.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_goes_on_when_redis_is_emptied_in_the_middle() {
    let mut conversation = Box::pin(Conversation::of(300)).await;
    conversation.test.drain().await;
    let expected = conversation.newest_first();
    let first = conversation.alice.history(5, "limit=40").await;
    super::empty_redis(&conversation.test).await;
    conversation.arrive().await;
    let second = conversation
        .alice
        .history(5, &format!("limit=40&before={}", first.body["next"].as_str().unwrap()))
        .await;
    conversation.arrive().await;
    let third = conversation
        .alice
        .history(5, &format!("limit=100&before={}", second.body["next"].as_str().unwrap()))
        .await;
    conversation.test.drain().await;
    super::empty_redis(&conversation.test).await;
    let fourth = conversation
        .alice
        .history(5, &format!("limit=100&before={}", third.body["next"].as_str().unwrap()))
        .await;
    let seen: Vec<String> = [first.ids(), second.ids(), third.ids(), fourth.ids()].concat();
    assert_same(&seen, &expected[..280], "back");

    let mut seen = Vec::new();
    for _ in 0..4 {
        let after = seen.last().cloned().unwrap_or_else(|| "1".to_owned());
        seen.extend(conversation.eve.history(1, &format!("limit=100&after={after}")).await.ids());
        conversation.test.drain().await;
        super::empty_redis(&conversation.test).await;
    }
    assert_same(&seen, &conversation.ids, "on");
    // The newest page, from a list that began again with one message.
    conversation.arrive().await;
    let newest = conversation.alice.history(5, "limit=100").await.ids();
    assert_same(&newest, &conversation.newest_first()[..100], "the newest page");
    conversation.test.stop().await;
}

/// A small list, so that nearly every page crosses its end.
#[tokio::test(flavor = "multi_thread")]
async fn pages_across_the_end_of_a_small_list_are_whole() {
    let test = TestApp::builder().set("IM_CONV_CACHE_SIZE", "10").start().await;
    let (alice, eve) = (test.user(1), test.user(5));
    let ids = fill(&test, &[(1, 5), (1, 5), (5, 1)], 60).await;
    let mut conversation = Conversation { test, alice, eve, ids };
    for limit in [1, 3, 9, 10, 11, 30] {
        for _ in 0..4 {
            conversation.arrive().await;
        }
        let expected = conversation.newest_first();
        assert_same(&conversation.walk_back(limit, 2).await, &expected, &format!("back by {limit}"));
        let seen = conversation.walk_on(limit, 2).await;
        assert_same(&seen, &conversation.ids, &format!("on by {limit}"));
    }
    conversation.test.stop().await;
}
