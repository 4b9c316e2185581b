//! Users write, recall and read while one server after the other is killed, frozen or emptied. Afterwards what they
//! were told is compared with what the system holds: nothing lost, nothing doubled, nothing that was recalled comes back.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test: what fails here fails it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hongyan_local::stack::{Kind, Stack, StackOptions};
use hongyan_tests::TestApp;
use hongyan_tests::app::eventually;
use hongyan_tests::ledger::Ledger;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const USERS: i64 = 6;

/// How long users are at work before a fault, during it, and after it.
const PHASE: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill(Kind),
    Freeze(Kind),
    Flush,
}

struct Work {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    users: Vec<tokio::task::JoinHandle<()>>,
}

impl Work {
    fn begin(test: &TestApp, fault: usize) -> Self {
        let (ledger, stop) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
        let counter = Arc::new(AtomicUsize::new(0));
        let users: Vec<_> = (1..=USERS)
            .map(|user| {
                let (caller, ledger, stop, counter) =
                    (test.user(user), ledger.clone(), stop.clone(), counter.clone());
                // A fixed seed for each user and fault, so that a failure can be looked at again.
                let mut random = StdRng::seed_from_u64(u64::try_from(user).unwrap() * 1_000 + fault as u64);
                tokio::spawn(async move {
                    let mut own: Vec<String> = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let peer = (user + random.random_range(1..USERS) - 1) % USERS + 1;
                        match random.random_range(0..10) {
                            0..6 => {
                                let content = format!(
                                    "fault {fault} message {}",
                                    counter.fetch_add(1, Ordering::Relaxed)
                                );
                                own.extend(ledger.send(&caller, peer, &content).await);
                            }
                            6..8 if !own.is_empty() => {
                                let id = own.swap_remove(random.random_range(0..own.len()));
                                ledger.recall(&caller, &id).await;
                            }
                            _ => ledger.read(&caller, peer).await,
                        }
                    }
                })
            })
            .collect();
        Self { ledger, stop, users }
    }

    async fn end(self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        for user in self.users {
            user.await.unwrap();
        }
        self.ledger
    }
}

async fn inflict(fault: Fault, stack: &Stack, test: &TestApp) {
    match fault {
        Fault::Kill(kind) => {
            stack.server(kind).kill().await.unwrap();
            tokio::time::sleep(PHASE).await;
            stack.server(kind).start().await.unwrap();
        }
        Fault::Freeze(kind) => {
            stack.server(kind).pause().await.unwrap();
            tokio::time::sleep(PHASE).await;
            stack.server(kind).resume().await.unwrap();
        }
        Fault::Flush => redis::cmd("FLUSHALL").exec_async(&mut test.redis().await).await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_resurrected_while_servers_die() {
    let stack = Stack::start(StackOptions::temporary()).await.unwrap();
    eprintln!(
        "fault                requests  accepted  recalled  lost  doubled  resurrected  glimpsed  recovered after"
    );
    let faults = [
        Fault::Kill(Kind::Redis),
        Fault::Freeze(Kind::Redis),
        Fault::Flush,
        Fault::Kill(Kind::Mysql),
        Fault::Freeze(Kind::Mysql),
        Fault::Kill(Kind::Kafka),
        Fault::Freeze(Kind::Kafka),
    ];
    let mut bad = Vec::new();
    for (number, fault) in faults.into_iter().enumerate() {
        let test = TestApp::builder()
            .set("REDIS_TIMEOUT_MS", "500")
            .set("MYSQL_TIMEOUT_MS", "500")
            .start_on(&stack)
            .await;
        let work = Work::begin(&test, number);
        tokio::time::sleep(PHASE).await;
        inflict(fault, &stack, &test).await;
        let back = Instant::now();
        tokio::time::sleep(PHASE).await;
        let ledger = work.end().await;

        // Five minutes pass, and what is still pending is settled: by the consumer, or by the compensator.
        eventually("nothing is pending any more", Duration::from_mins(1), async || {
            test.drain().await;
            if test.app().cache.pending_count().await.unwrap() == 0 {
                return true;
            }
            test.pass_ms(301_000);
            test.runtime().schedule().unwrap().fire_now().await.ok();
            false
        })
        .await;
        let recovered = back.elapsed();
        let verdict = ledger.check(&test).await;
        eprintln!(
            "{:<20} {:>8}  {:>8}  {:>8}  {:>4}  {:>7}  {:>11}  {:>8}  {:>12.1?}",
            format!("{fault:?}"),
            verdict.requests,
            verdict.accepted,
            verdict.recalled,
            verdict.lost.len(),
            verdict.doubled.len(),
            verdict.resurrected.len(),
            verdict.glimpsed,
            recovered
        );
        // A Redis that was away during a recall may show the message until the consumer has read the RECALL event.
        let redis_was_away =
            matches!(fault, Fault::Kill(Kind::Redis) | Fault::Freeze(Kind::Redis) | Fault::Flush);
        assert!(redis_was_away || verdict.glimpsed == 0, "a recalled message was shown: {verdict:?}");
        if !(verdict.lost.is_empty() && verdict.doubled.is_empty() && verdict.resurrected.is_empty()) {
            bad.push((format!("{fault:?}"), verdict));
        }
        test.stop().await;
    }
    assert!(bad.is_empty(), "{bad:#?}");
    stack.stop().await.unwrap();
}
