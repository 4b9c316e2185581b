//! The registry of connections: each user's connections, and the gateway that holds each
//! (`docs/decisions/0041-a-registration-names-its-gateway.md`).
//!
//! `msg:connections:{userId}` is a set of connection ids, `msg:connection:{id}` the [`Registration`] of one. Each sign
//! of life renews the TTL of both keys, so the registrations of a killed process expire. A connection whose
//! registration is missing (evicted, or Redis lost its data) learns so at its next ping and is closed.

use std::time::Duration;

use redis::FromRedisValue as _;
use serde::{Deserialize, Serialize};

use crate::cache::connection::{Redis, typed};
use crate::cache::keys;
use crate::clock::TimestampMs;
use crate::error::ServerError;
use crate::id::UserId;

/// The TTL of a registration. API Gateway ends every WebSocket after 2 h; with a longer TTL a client that never pings
/// stays registered until then.
const LIFETIME: Duration = Duration::from_mins(130);
/// The most connections of a user that one push looks at. If the user has more, a random selection is looked at.
const MAX_LOOKED_AT: usize = 256;

/// The registration of a connection, in Redis as JSON. Older versions wrote the user id alone, which is still read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Registration {
    #[serde(rename = "userId")]
    pub(super) user: UserId,
    /// The base of the `@connections` interface of the gateway that holds the connection; `None` on AWS, where all
    /// processes have the same `PUSH_ENDPOINT`. The text is as it was found: [`super::endpoint::of_this_machine`]
    /// decides whether it may be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    /// When the connection was registered, ms since 1970 UTC.
    #[serde(default)]
    pub(super) connected_at: TimestampMs,
    /// When the connection's token ends, ms since 1970 UTC. Nothing is pushed from then on.
    #[serde(default = "no_end")]
    pub(super) ends_at: TimestampMs,
}

fn no_end() -> TimestampMs {
    TimestampMs::MAX
}

impl Registration {
    /// Reads a registration; `None` if this project did not write the value.
    fn parse(text: &str) -> Option<Self> {
        if let Ok(user) = text.parse() {
            return Some(Self { user, endpoint: None, connected_at: 0, ends_at: no_end() });
        }
        crate::json::object_from_slice(text.as_bytes()).ok()
    }
}

#[derive(Clone)]
pub(super) struct Registry(Redis);

impl Registry {
    pub(super) fn new(redis: Redis) -> Self {
        Self(redis)
    }

    /// Registers a connection.
    pub(super) async fn add(&self, connection: &str, registration: &Registration) -> Result<(), ServerError> {
        let value = serde_json::to_string(registration).map_err(|error| ServerError {
            server: crate::error::Server::Redis,
            action: "push.connect",
            retry: crate::error::Retry::Permanent,
            source: error.into(),
        })?;
        let mut set = redis::cmd("SET");
        set.arg(keys::connection(connection)).arg(value).arg("EX").arg(LIFETIME.as_secs());
        // The registration is written in a round trip of its own, before the member. In a cluster the two keys are on
        // two nodes, and a push removes a member that has no registration.
        self.0.run::<()>("push.connect", set).await?;
        self.0.batch("push.connect", membership(registration.user, connection)).await?;
        Ok(())
    }

    /// Renews the TTL of a registered connection, and puts the connection back into the user's set.
    pub(super) async fn renew(&self, user: UserId, connection: &str) -> Result<(), ServerError> {
        let mut steps = membership(user, connection);
        steps.push(expire(&keys::connection(connection)));
        self.0.batch("push.renew", steps).await?;
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

    /// Takes `connection` out of the set of `user`. A registration stays.
    pub(super) async fn remove_member(&self, user: UserId, connection: &str) -> Result<(), ServerError> {
        let mut member = redis::cmd("SREM");
        member.arg(keys::connections(user)).arg(connection);
        self.0.run("push.forget", member).await
    }

    /// The registration of one connection.
    pub(super) async fn get(&self, connection: &str) -> Result<Option<Registration>, ServerError> {
        Ok(self.get_all(&[connection.to_owned()]).await?.pop().flatten())
    }

    /// The registrations of these connections, in one round trip. A value that is not a registration counts as missing.
    pub(super) async fn get_all(
        &self,
        connections: &[String],
    ) -> Result<Vec<Option<Registration>>, ServerError> {
        let get = |connection: &String| {
            // MGET answers nil for a key of another type; GET would fail.
            let mut get = redis::cmd("MGET");
            get.arg(keys::connection(connection));
            get
        };
        let values = self.0.batch("push.registrations", connections.iter().map(get).collect()).await?;
        let read = |value| {
            let [value] = <[Option<String>; 1]>::from_redis_value(value).ok()?;
            Registration::parse(&value?)
        };
        Ok(values.into_iter().map(read).collect())
    }

    /// The connections of each user, at most [`MAX_LOOKED_AT`] of one user, in one round trip.
    pub(super) async fn connections(&self, users: &[UserId]) -> Result<Vec<Vec<String>>, ServerError> {
        const ACTION: &str = "push.connections";
        let members = |&user: &UserId| {
            let mut members = redis::cmd("SRANDMEMBER");
            members.arg(keys::connections(user)).arg(MAX_LOOKED_AT);
            members
        };
        let answers = self.0.batch(ACTION, users.iter().map(members).collect()).await?;
        answers.into_iter().map(|answer| typed(ACTION, answer)).collect()
    }
}

/// The commands that put `connection` into the set of `user` and renew the set's TTL.
fn membership(user: UserId, connection: &str) -> Vec<redis::Cmd> {
    let set = keys::connections(user);
    let mut member = redis::cmd("SADD");
    member.arg(&set).arg(connection);
    vec![member, expire(&set)]
}

fn expire(key: &str) -> redis::Cmd {
    let mut expire = redis::cmd("EXPIRE");
    expire.arg(key).arg(LIFETIME.as_secs());
    expire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_read_back_and_so_is_a_user_id_alone() {
        let user = UserId::new(9_007_199_254_740_993).unwrap();
        let endpoint = Some("http://127.0.0.1:8080/".to_owned());
        let registration = Registration { user, endpoint, connected_at: 1, ends_at: 2 };
        let json = serde_json::to_string(&registration).unwrap();
        assert_eq!(
            json,
            r#"{"userId":9007199254740993,"endpoint":"http://127.0.0.1:8080/","connectedAt":1,"endsAt":2}"#
        );
        assert_eq!(Registration::parse(&json), Some(registration));
        let bare = Some(Registration { user, endpoint: None, connected_at: 0, ends_at: TimestampMs::MAX });
        assert_eq!(Registration::parse("9007199254740993"), bare);
        assert_eq!(Registration::parse(r#"{"userId":9007199254740993,"later":true}"#), bare);
        for wrong in ["", "0", "-1", "x", "{}", "[]", r#"{"userId":0}"#, r#"{"userId":1,"endsAt":"x"}"#] {
            assert_eq!(Registration::parse(wrong), None, "{wrong}");
        }
    }
}
