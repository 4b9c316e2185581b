//! Content: its limit in bytes of UTF-8, and every character on the way in and out.

use hongyan_testkit::TestApp;

use crate::assert_refused;

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_limit_is_kept_and_one_byte_more_is_413() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    assert_eq!(test.config.im.max_content_bytes, 8_192);
    let two_and_three = "鸿".repeat(2_730) + "é";
    for (exact, more) in [("x".repeat(8_192), "x"), ("🦢".repeat(2_048), "x"), (two_and_three, "é")] {
        assert_eq!(exact.len(), 8_192);
        let id = alice.sent(2, &exact).await;
        let mut over = exact.clone();
        if more.len() > 1 {
            // One byte above the limit, by a character of more bytes in place of a shorter one.
            over.pop();
            over.push('鸿');
        } else {
            over.push_str(more);
        }
        assert_eq!(over.len(), 8_193);
        assert_refused(&alice.send(2, &over).await, 413, "content_too_large");
        test.drain().await;
        assert_eq!(test.row(&id).await.unwrap().content, exact);
        assert_eq!(bob.history(1, "limit=1").await.body["messages"][0]["content"], exact.as_str());
    }
    assert_eq!(test.count_rows("TRUE").await, 3);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_a_setting() {
    let test = TestApp::builder().set("IM_MAX_CONTENT_BYTES", "6").start().await;
    let alice = test.user(1);
    alice.sent(2, "你好").await;
    assert_refused(&alice.send(2, "你好!").await, 413, "content_too_large");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_character_comes_back_as_it_was() {
    let test = TestApp::start().await;
    let (alice, bob) = (test.user(1), test.user(2));
    let contents = [
        "你好，鸿雁 🦢",
        "👩‍👩‍👧‍👦🏳️‍🌈 é e\u{301} \u{202e}rtl",
        " leading and trailing  ",
        "line\nline\r\n\ttab \u{0} \u{1} \u{7f} \u{2028} \u{feff} \u{10ffff}",
        r#"quotes " ' ` and \ backslashes \\ \" \u0000 %s {} ${x}"#,
        r#"","content":"forged","status":1,"recallTime":null"#,
        r#"{"status":0,"persistStatus":"PERSISTED","recallTime":1,"#,
        "'; DROP TABLE message; --",
        "null",
        "0",
    ];
    let mut ids = Vec::new();
    for content in contents {
        let sent = alice.send(2, content).await;
        assert_eq!((sent.status, sent.body["content"].as_str()), (201, Some(content)));
        ids.push(sent.id());
    }
    let shown = async || {
        let page = bob.history(1, "after=1").await;
        let messages = page.body["messages"].as_array().unwrap().clone();
        messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown().await, contents, "from Redis");
    test.drain().await;
    for (id, content) in ids.iter().zip(contents) {
        assert_eq!(test.row(id).await.unwrap().content, content);
    }
    super::empty_redis(&test).await;
    assert_eq!(shown().await, contents, "from MySQL");
    for id in &ids {
        assert_eq!(alice.recall(id).await.status, 200);
    }
    assert_eq!(shown().await, Vec::<String>::new());
    test.drain().await;
    assert_eq!(test.count_rows("status <> 0 OR content <> ''").await, 0);
    test.stop().await;
}
