//! The answers that Redis alone can give while MySQL is away.

use hongyan_stack::ServerKind;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::{TestApp, servers};

/// The first page of a conversation asks MySQL, also for its reader's deletions. The next page need not.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_after_a_refill_needs_no_mysql() {
    for query in ["limit=2", "limit=2&after=1"] {
        let mut proxy = Proxy::to(&servers::address_of(servers::stack().await, ServerKind::MySql)).await;
        let test = TestApp::builder().mysql_by_way_of(proxy.address()).start().await;
        let (alice, bob) = (test.user(1), test.user(2));
        // A page reads one message more than it answers.
        alice.sent(2, "zero").await;
        let first = alice.sent(2, "one").await;
        let hidden = alice.sent(2, "two").await;
        let third = alice.sent(2, "three").await;
        test.drain().await;
        assert_eq!(bob.delete(&hidden).await.status, 204);
        assert_eq!(bob.history(1, query).await.status, 200);

        proxy.cut();
        proxy.close().await;
        let page = bob.history(1, "limit=2").await;
        assert_eq!(page.status, 200, "after {query}: {page:?}");
        assert_eq!(page.ids(), [third, first], "after {query}");
        proxy.open().await;
        test.stop().await;
    }
}
