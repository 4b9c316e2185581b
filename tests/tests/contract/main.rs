//! The outside surface (`docs/contract.md`), end to end on real servers.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

mod answers;
mod blocks;
mod changes;
mod clear;
mod content;
mod conversations;
mod delete;
mod epochs;
mod half_done;
mod health;
mod ids;
mod odd_keys;
mod one_message;
mod paging;
mod rate;
mod recall;
mod refusals;
mod refusing_redis;
mod remembered;
mod replica;
mod retries;
mod strangers;
mod tokens;
mod unread;
mod waiting;
mod websocket;
mod without_mysql;

use hongyan_testkit::Answer;

/// Checks that the answer is this row of the table of errors: in the form of RFC 9457, with its headers.
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.problem(), (status, code), "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{answer:?}");
    assert_eq!(answer.body["status"], status, "{answer:?}");
    for name in ["type", "title", "detail"] {
        assert!(answer.body[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {answer:?}");
    }
    assert_eq!(answer.headers.contains_key("retry-after"), [429, 503].contains(&status), "{answer:?}");
    assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401, "{answer:?}");
}

/// Makes Redis forget everything.
async fn empty_redis(test: &hongyan_testkit::TestApp) {
    redis::cmd("FLUSHDB").exec_async(&mut test.redis().await).await.unwrap();
}

/// The contents on the newest page.
async fn words(reader: &hongyan_testkit::Caller, peer: i64) -> Vec<String> {
    words_on(&reader.history(peer, "").await)
}

/// The contents on a page.
fn words_on(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, 200, "{page:?}");
    let messages = page.body["messages"].as_array().unwrap();
    messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}
