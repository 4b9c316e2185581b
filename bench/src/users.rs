//! The users of a load: pairs, and how often each pair talks.

use std::time::Duration;

use hongyan::auth::Auth;
use hongyan::clock::Clock;
use hongyan::config::AuthConfig;
use hongyan::id::UserId;
use rand::Rng as _;

use crate::number::of_count;

/// Longer than any measurement.
const TOKEN_LIFETIME: Duration = Duration::from_hours(26);
/// Larger than ids that people type, so that a measurement on a used service meets no existing conversation.
const FIRST_USERS: std::ops::Range<i64> = 1 << 40..1 << 50;

/// One of two users who talk.
pub(crate) struct User {
    pub(crate) id: i64,
    /// `Bearer …`.
    pub(crate) authorization: String,
}

/// The users in pairs. The ids are new in each measurement.
pub(crate) struct Users {
    users: Vec<User>,
    skew: Skew,
}

/// A turn to speak: a pair, and the speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) pair: usize,
    /// True if the second user of the pair speaks.
    pub(crate) turned: bool,
}

impl Users {
    /// With `zipf` 0 all pairs speak equally often. Otherwise the pair of rank k speaks in proportion to 1 /
    /// k^`zipf`.
    pub(crate) fn new(auth: &AuthConfig, count: u32, zipf: f64) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let (auth, now) = (Auth::new(auth, clock.clone()), clock.now_ms());
        let first = rand::rng().random_range(FIRST_USERS);
        let users = (0..i64::from(count.next_multiple_of(2))).map(|number| {
            let id = UserId::new(first + number)?;
            let authorization = format!("Bearer {}", auth.issue(id, now, TOKEN_LIFETIME)?);
            Ok(User { id: id.get(), authorization })
        });
        let users: Vec<User> = users.collect::<anyhow::Result<_>>()?;
        let skew = Skew::new(users.len() / 2, zipf);
        Ok(Self { users, skew })
    }

    pub(crate) fn pairs(&self) -> usize {
        self.users.len() / 2
    }

    /// The lowest and the highest id.
    pub(crate) fn ids(&self) -> (i64, i64) {
        let id = |user: Option<&User>| user.map_or(0, |user| user.id);
        (id(self.users.first()), id(self.users.last()))
    }

    /// The speaker and the listener.
    pub(crate) fn of(&self, Turn { pair, turned }: Turn) -> (&User, &User) {
        let (a, b) = (&self.users[pair * 2], &self.users[pair * 2 + 1]);
        if turned { (b, a) } else { (a, b) }
    }

    /// Draws a random turn.
    pub(crate) fn any(&self) -> Turn {
        let mut random = rand::rng();
        Turn { pair: self.skew.rank(random.random()), turned: random.random() }
    }
}

/// The Zipf distribution over ranks: for each rank, the share of this rank and all before it.
struct Skew(Vec<f64>);

impl Skew {
    fn new(ranks: usize, exponent: f64) -> Self {
        let weights = (1..=ranks).map(|rank| of_count(rank as u64).powf(-exponent));
        let mut total = 0.0;
        let sums: Vec<f64> = weights
            .map(|weight| {
                total += weight;
                total
            })
            .collect();
        Self(sums.into_iter().map(|sum| sum / total).collect())
    }

    /// The rank, from 0, at `place` in the range from 0 to below 1.
    fn rank(&self, place: f64) -> usize {
        self.0.partition_point(|share| *share <= place).min(self.0.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of a thousand places that fall to each rank.
    fn shares(ranks: usize, exponent: f64) -> Vec<usize> {
        let skew = Skew::new(ranks, exponent);
        let mut shares = vec![0; ranks];
        for place in 0..1_000_u32 {
            shares[skew.rank(f64::from(place) / 1_000.0)] += 1;
        }
        shares
    }

    #[test]
    fn without_skew_all_pairs_speak_equally_often() {
        assert!(shares(4, 0.0).iter().all(|share| (249..=251).contains(share)), "{:?}", shares(4, 0.0));
    }

    #[test]
    fn the_second_rank_speaks_half_as_often_as_the_first_and_the_fourth_a_quarter() {
        // 1 + 1/2 + 1/3 + 1/4 = 25/12: the ranks get 480, 240, 160 and 120 of a thousand.
        let shares = shares(4, 1.0);
        for (share, wanted) in shares.iter().zip([480, 240, 160, 120]) {
            assert!(share.abs_diff(wanted) <= 1, "{shares:?}");
        }
    }

    #[test]
    fn each_place_has_a_rank() {
        let skew = Skew::new(3, 2.5);
        assert_eq!((skew.rank(0.0), skew.rank(1.0)), (0, 2));
        assert_eq!(Skew::new(1, 0.99).rank(0.999), 0);
    }
}
