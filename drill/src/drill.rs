//! Runs a drill from the first round to the last.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::away::Watchers;
use crate::catch_up::Followers;
use crate::check::{Verdict, check};
use crate::fault::{Fault, Faults};
use crate::footprint::Life;
use crate::ledger::Book;
use crate::pace::Pace;
use crate::report::{Report, Row};
use crate::settle::settle;
use crate::site::Site;
use crate::workload::{Workload, users_of};

/// How often a failed check is repeated before it counts. A record that a producer still holds may arrive late.
const LOOKS: u32 = 6;
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// The options of a drill.
#[derive(Debug, Clone)]
pub struct Drill {
    /// The faults, one after the other. If empty: each fault once, then mixes of two.
    pub faults: Vec<Faults>,
    /// The least number of mixes.
    pub mixes: usize,
    /// The least time.
    pub at_least: Duration,
    /// Decides the users' requests and the mixes.
    pub seed: u64,
    /// The times of a round.
    pub pace: Pace,
    /// The binary of this crate, which can also be the runtime.
    pub program: PathBuf,
    /// The folder for the logs of the runtimes.
    pub logs: PathBuf,
}

impl Drill {
    /// The faults for one Redis server, or for a cluster.
    fn faults_for(&self, redis_cluster: bool) -> Vec<Faults> {
        let all: Vec<Faults> = if self.faults.is_empty() {
            Fault::all().map(|fault| Faults(vec![fault])).collect()
        } else {
            self.faults.clone()
        };
        all.into_iter().filter(|faults| faults.need_a_cluster() == redis_cluster).collect()
    }

    /// The faults of round `number`, chosen from `each`; `None` after the last round.
    fn round(&self, each: &[Faults], number: usize, start: Instant, random: &mut StdRng) -> Option<Faults> {
        if let Some(faults) = each.get(number) {
            return Some(faults.clone());
        }
        let more = number - each.len();
        let time_is_left = start.elapsed() < self.at_least;
        if !self.faults.is_empty() {
            return time_is_left.then(|| each[more % each.len()].clone());
        }
        let mixes = !each.iter().any(Faults::need_a_cluster) && (more < self.mixes || time_is_left);
        mixes.then(|| mix(random))
    }
}

/// Two random faults that may happen together.
fn mix(random: &mut StdRng) -> Faults {
    let mixes: Vec<(Fault, Fault)> = Fault::all()
        .flat_map(|one| Fault::all().map(move |other| (one, other)))
        .filter(|(one, other)| one.mixes_with(*other))
        .collect();
    let (one, other) = mixes[random.random_range(0..mixes.len())];
    Faults(vec![one, other])
}

/// Runs the drill, and prints each line of the first table when its round ends. Ends early when `interrupt` does.
pub async fn drill(
    drill: &Drill,
    interrupt: impl Future<Output = ()>,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut interrupt = std::pin::pin!(interrupt);
    let (start, mut random) = (Instant::now(), StdRng::seed_from_u64(drill.seed));
    for redis_cluster in [false, true] {
        let each = drill.faults_for(redis_cluster);
        if each.is_empty() || report.interrupted {
            continue;
        }
        let site = tokio::select! {
            site = Box::pin(Site::start(&drill.logs, drill.program.clone(), &drill.pace, redis_cluster)) => site?,
            () = &mut interrupt => return Ok(Report { interrupted: true, ..report }),
        };
        for line in site.stack.versions().await {
            tell(&line);
        }
        tell("");
        tell(Row::HEAD);
        let rounds = |number| drill.round(&each, number, start, &mut random);
        let worked = tokio::select! {
            worked = Box::pin(all_rounds(drill, rounds, &site, &mut report, &mut tell)) => worked,
            () = &mut interrupt => {
                report.interrupted = true;
                site.kill_runtimes().await
            }
        };
        let stopped = site.stop().await;
        worked?;
        stopped?;
    }
    Ok(report)
}

async fn all_rounds(
    drill: &Drill,
    mut rounds: impl FnMut(usize) -> Option<Faults>,
    site: &Site,
    report: &mut Report,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<()> {
    for number in 0.. {
        let Some(faults) = rounds(number) else { break };
        if let Some(kind) = faults.need_a_proxy().find(|kind| site.proxy(*kind).is_none()) {
            tell(&format!("| {faults:<37} | skipped: in Docker there is no proxy in front of {kind} |"));
            continue;
        }
        if faults.need_redis_files() && !site.stack.has_redis_snapshots() {
            tell(&format!("| {faults:<37} | skipped: in Docker the files of Redis are not accessible |"));
            continue;
        }
        let mut row =
            Box::pin(round(drill, site, number, &faults)).await.with_context(|| format!("{faults}"))?;
        look_at_the_runtimes(site, report, &mut row.verdict).await;
        tell(&row.to_string());
        report.rows.push(row);
    }
    Ok(())
}

/// One round: users work, the fault happens and ends, and the result is checked.
async fn round(drill: &Drill, site: &Site, number: usize, faults: &Faults) -> anyhow::Result<Row> {
    let pace = &drill.pace;
    let range = users_of(number);
    // The watchers have conversations of their own.
    let watcher = range.end;
    let range = range.start..range.end + 2;
    let letters = site.dead_letters().await?.len();

    let mut workload = Workload::begin(site, number, drill.seed, pace.patience)?;
    workload.ledger.book().forgetful = faults.forget();
    workload.ledger.book().mysql_died = faults.kill_mysql();
    let prepared = Watchers::prepare(site, watcher, &workload.ledger, pace.patience, drill.seed);
    let watchers = Box::pin(prepared).await?;
    let followers = follow(&workload, &watchers);
    let mut before = pace.before;
    for fault in &faults.0 {
        before = before.max(fault.prepare(site)?);
    }
    tokio::time::sleep(before).await;
    let over = Arc::new(OnceLock::new());
    let (hold, mut watch) = (faults.hold(pace), None);
    for fault in faults.in_order_of_begin() {
        Box::pin(fault.begin(site)).await.with_context(|| format!("{fault} begins"))?;
        if watch.is_none() {
            watch = Some(tokio::spawn(watchers.clone().watch(over.clone())));
        }
        tokio::time::sleep(hold / u32::try_from(faults.0.len())?).await;
    }
    let mut seen_by_servers = Vec::new();
    for fault in &faults.0 {
        seen_by_servers.extend(
            Box::pin(fault.look(site, &workload.ledger)).await.with_context(|| format!("{fault} lasts"))?,
        );
    }
    over.get_or_init(Instant::now);
    let watching = watch.context("no fault")?;
    let mend = async {
        for fault in faults.in_order_of_end() {
            Box::pin(fault.end(site)).await.with_context(|| format!("{fault} ends"))?;
        }
        anyhow::Ok(Instant::now())
    };
    // A request sent before the end of the fault may be answered only after it.
    let (mended, seen) = tokio::join!(Box::pin(mend), watching);
    let (mended, (mut watchers, away)) = (mended?, seen??);
    let answered = Box::pin(watchers.until_answered()).await?;
    tokio::time::sleep(pace.after).await;
    workload.end().await?;

    let settled = Box::pin(settle(site)).await;
    let settled_after = mended.elapsed();
    let book = workload.ledger.book().clone();
    let mut verdict = Box::pin(judged(site, &book, &range)).await?;
    if let Err(error) = settled {
        verdict.other.push(error.to_string());
    }
    verdict.other.extend(seen_by_servers);
    Box::pin(followers.compare(site, &workload.users, &range, &book, &mut verdict)).await?;
    let promised = faults.single().map(|what| away.broken_promises(what, pace.slack));
    verdict.other.extend(promised.unwrap_or_default());
    verdict.other.extend(book.wrong.iter().cloned());
    verdict
        .other
        .extend(site.dead_letters().await?.into_iter().skip(letters).map(|it| format!("dead letter: {it}")));
    let glimpsed = if faults.touch_redis() { book.glimpsed_late } else { book.glimpsed };
    if glimpsed > 0 {
        verdict.other.push(format!("{glimpsed} times a page showed a recalled message"));
    }
    if book.unhidden > 0 {
        verdict
            .other
            .push(format!("{} times a page showed a message that its reader had deleted", book.unhidden));
    }
    Ok(Row {
        faults: faults.clone(),
        requests: book.requests,
        accepted: book.accepted(),
        failed: book.failed,
        recalled: book.recalls.values().flatten().count(),
        deleted: book.deletions.values().flatten().count(),
        glimpsed: book.glimpsed,
        verdict,
        away,
        answered,
        settled: settled_after,
    })
}

/// Clients follow the conversation of the watchers and one of the working users.
fn follow(workload: &Workload, watchers: &Watchers) -> Followers {
    let [(sender, receiver_id), (receiver, sender_id)] = watchers.users();
    let mut followed = vec![(sender, receiver_id), (receiver, sender_id)];
    if let [one, other, ..] = workload.users.as_slice() {
        followed.extend([(one, other.id()), (other, one.id())]);
    }
    Followers::begin(followed)
}

/// Checks, and repeats a failed check for some time.
async fn judged(site: &Site, book: &Book, users: &std::ops::Range<i64>) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        verdict = check(site, book, users).await?;
        if verdict.is_clean() {
            break;
        }
    }
    Ok(verdict)
}

/// Checks that each runtime uses no more than after its first round.
async fn look_at_the_runtimes(site: &Site, report: &mut Report, verdict: &mut Verdict) {
    for runtime in &site.runtimes {
        let Some(pid) = runtime.lock().await.pid() else { continue };
        match report.lives.iter_mut().find(|life| life.pid == pid) {
            Some(life) => {
                for what in life.look_again().await {
                    verdict.other.push(format!("{what} of the runtime grew: {life}"));
                }
            }
            None => report.lives.extend(Life::begin(pid)),
        }
    }
}
