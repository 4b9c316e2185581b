//! The users of a load, in pairs.

use std::time::Duration;

use hongyan::auth::Auth;
use hongyan::clock::Clock;
use hongyan::config::AuthConfig;
use hongyan::id::UserId;
use rand::Rng as _;

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
pub(crate) struct Users(Vec<User>);

impl Users {
    pub(crate) fn new(auth: &AuthConfig, count: u32) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let (auth, now) = (Auth::new(auth, clock.clone()), clock.now_ms());
        let first = rand::rng().random_range(FIRST_USERS);
        let users = (0..i64::from(count.next_multiple_of(2))).map(|number| {
            let id = UserId::new(first + number)?;
            let authorization = format!("Bearer {}", auth.issue(id, now, TOKEN_LIFETIME)?);
            Ok(User { id: id.get(), authorization })
        });
        Ok(Self(users.collect::<anyhow::Result<_>>()?))
    }

    pub(crate) fn pairs(&self) -> usize {
        self.0.len() / 2
    }

    /// A user of a pair, and the other one.
    pub(crate) fn pair(&self, pair: usize, turned: bool) -> (&User, &User) {
        let (a, b) = (&self.0[pair * 2], &self.0[pair * 2 + 1]);
        if turned { (b, a) } else { (a, b) }
    }

    /// A random user, and the other one of the pair.
    pub(crate) fn any(&self) -> (&User, &User) {
        let mut random = rand::rng();
        self.pair(random.random_range(0..self.pairs()), random.random())
    }
}
