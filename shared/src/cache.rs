//! Redis: what is recent (`mission.md`, "Redis keys").
//!
//! Every command touches one key, so all of it also works in Redis Cluster; every command may be repeated, so a broken
//! connection is answered by trying once more. What is decided in Redis is decided in a Lua script on the single key
//! `msg:detail:{id}` (`protocol.md`, "One decision point in Redis").

pub mod keys;
pub mod redis;
pub mod scripts;
