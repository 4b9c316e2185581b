//! Which connections a user has. Both keys live without a TTL: eviction (`volatile-lru`) must not drop them, or a
//! connected user would silently miss pushes.

use crate::cache::keys;
use crate::cache::redis::Redis;
use crate::error::ServerError;
use crate::id::UserId;

#[derive(Clone)]
pub(super) struct Registry(Redis);

impl Registry {
    pub(super) fn new(redis: Redis) -> Self {
        Self(redis)
    }

    pub(super) async fn add(&self, user: UserId, connection: &str) -> Result<(), ServerError> {
        let mut owner = redis::cmd("SET");
        owner.arg(keys::connection(connection)).arg(user.get());
        let mut member = redis::cmd("SADD");
        member.arg(keys::connections(user)).arg(connection);
        self.0.batch("push.connect", vec![owner, member]).await?;
        Ok(())
    }

    pub(super) async fn remove(&self, user: UserId, connection: &str) -> Result<(), ServerError> {
        let mut member = redis::cmd("SREM");
        member.arg(keys::connections(user)).arg(connection);
        let mut owner = redis::cmd("DEL");
        owner.arg(keys::connection(connection));
        self.0.batch("push.forget", vec![member, owner]).await?;
        Ok(())
    }

    pub(super) async fn user_of(&self, connection: &str) -> Result<Option<UserId>, ServerError> {
        let mut owner = redis::cmd("GET");
        owner.arg(keys::connection(connection));
        let user: Option<String> = self.0.run("push.user_of", owner).await?;
        Ok(user.and_then(|user| user.parse().ok()))
    }

    pub(super) async fn connections(&self, user: UserId) -> Result<Vec<String>, ServerError> {
        let mut members = redis::cmd("SMEMBERS");
        members.arg(keys::connections(user));
        self.0.run("push.connections", members).await
    }
}
