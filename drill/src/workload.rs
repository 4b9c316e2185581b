//! Users at work during a round.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;

use crate::ledger::Ledger;
use crate::site::Site;
use crate::user::User;

/// The number of users in a round.
pub(crate) const USERS: i64 = 8;

/// The distance between the first users of two rounds, so that each round has its own users and conversations.
const APART: i64 = 100;

/// The longest pause of a user between two requests, in ms. The machine should be busy, not overloaded.
const THINKS_MS: u64 = 30;

/// One of so many messages is long: about as long as a message may be.
const LONG_EACH: u32 = 20;
const LONG_CHARACTERS: usize = 6_000;

/// The users of one round.
pub(crate) struct Workload {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) users: Vec<User>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// The users of a round. The next two ids are for the watchers.
pub(crate) fn users_of(round: usize) -> std::ops::Range<i64> {
    let first = i64::try_from(round).unwrap_or_default() * APART + 1;
    first..first + USERS
}

impl Workload {
    /// Starts the users. `seed`, the round and the user's id decide the requests.
    pub(crate) fn begin(site: &Site, round: usize, seed: u64, patience: Duration) -> anyhow::Result<Self> {
        let ledger = Arc::new(Ledger::default());
        let range = users_of(round);
        let users: Vec<User> = range
            .clone()
            .map(|id| User::new(site, id, &ledger, patience, seed))
            .collect::<anyhow::Result<_>>()?;
        let (known, stop) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(AtomicBool::new(false)));
        let counter = Arc::new(AtomicUsize::new(0));
        let tasks = users
            .iter()
            .map(|user| {
                let random = StdRng::seed_from_u64(
                    seed.wrapping_mul(1_000_003).wrapping_add(user.id().unsigned_abs()),
                );
                let (known, counter) = (Arc::clone(&known), counter.clone());
                let person =
                    Person { user: user.clone(), peers: range.clone(), round, counter, known, random };
                tokio::spawn(person.work(stop.clone()))
            })
            .collect();
        Ok(Self { ledger, users, stop, tasks })
    }

    /// Stops the users after their current request.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await?;
        }
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Person {
    user: User,
    peers: std::ops::Range<i64>,
    round: usize,
    counter: Arc<AtomicUsize>,
    /// Messages that were accepted at the first try: from, to, id.
    known: Arc<Mutex<Vec<(i64, i64, String)>>>,
    random: StdRng,
}

impl Person {
    async fn work(mut self, stop: Arc<AtomicBool>) {
        let mut own: Vec<String> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let pause = self.random.random_range(0..THINKS_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let me = self.user.id();
            let others: Vec<i64> = self.peers.clone().filter(|peer| *peer != me).collect();
            let peer = others[self.random.random_range(0..others.len())];
            match self.random.random_range(0..100) {
                0..25 => own.extend(self.send(peer, false).await),
                25..50 => own.extend(self.send(peer, true).await),
                50..60 if !own.is_empty() => {
                    let id = own.swap_remove(self.random.random_range(0..own.len()));
                    self.user.recall(&id).await;
                }
                60..67 => {
                    if let Some((_, id)) = self.pick(None) {
                        self.user.delete(&id).await;
                    }
                }
                67..75 => {
                    if let Some((_, id)) = self.pick(Some(peer)) {
                        self.user.read(peer, &id).await;
                    }
                }
                75..80 => self.user.unread().await,
                80..86 => self.user.list().await,
                // Seldom: most of a conversation should stay in view.
                86..87 => {
                    if let Some((_, id)) = self.pick(Some(peer)) {
                        self.user.clear(peer, &id).await;
                    }
                }
                _ => {
                    let limit = [5, 20, 100][self.random.random_range(0..3)];
                    self.user.look(peer, limit).await;
                }
            }
        }
    }

    async fn send(&mut self, peer: i64, again: bool) -> Option<String> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut content = format!("round {} message {number}", self.round);
        if self.random.random_ratio(1, LONG_EACH) {
            // Random letters cannot be compressed, so the message stays long on its way.
            content.push(' ');
            let letters = (&mut self.random).sample_iter(Alphanumeric).take(LONG_CHARACTERS);
            content.extend(letters.map(char::from));
        }
        let id = if again {
            self.user.send_until_accepted(peer, &content).await
        } else {
            self.user.send(peer, &content).await.1
        }?;
        let mut known = self.known.lock();
        known.push((self.user.id(), peer, id.clone()));
        Some(id)
    }

    /// A random message of this user's conversations.
    fn pick(&mut self, peer: Option<i64>) -> Option<(i64, String)> {
        let me = self.user.id();
        let known = self.known.lock();
        let mut mine = known.iter().filter(|(from, to, _)| match peer {
            Some(peer) => (*from, *to) == (me, peer) || (*from, *to) == (peer, me),
            None => *from == me || *to == me,
        });
        let count = mine.clone().count();
        if count == 0 {
            return None;
        }
        let (from, to, id) = mine.nth(self.random.random_range(0..count))?;
        Some((if *from == me { *to } else { *from }, id.clone()))
    }
}
