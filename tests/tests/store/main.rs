//! The store on a real server: what it keeps, a server that goes away, and a replica.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside of the functions that clippy knows as such"
)]

mod connections;
mod random;
mod replica;
mod rows;

use std::time::Duration;

use hongyan::config::MySqlConfig;
use hongyan::event::Recall;
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::{Message, MessageType, PersistStatus};
use hongyan::store::Store;
use hongyan_testkit::servers::{stack, unique_name};
use sqlx::{Connection as _, MySqlConnection};

/// An empty database of its own, with the schema.
async fn database() -> (String, Store) {
    let url = stack().await.create_database(&unique_name()).await.unwrap();
    let store = Store::new(&config(&url)).unwrap();
    store.migrate(|_| ()).await.unwrap();
    (url, store)
}

fn config(url: &str) -> MySqlConfig {
    MySqlConfig {
        url: url.into(),
        replica_url: None,
        tls_authorities: None,
        max_connections: 10,
        timeout: Duration::from_secs(3),
    }
}

async fn connect(url: &str) -> MySqlConnection {
    MySqlConnection::connect(url).await.unwrap()
}

async fn execute(connection: &mut MySqlConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn id(id: i64) -> MessageId {
    MessageId::new(id).unwrap()
}

/// From user 1 to user 2, with ids beyond 2^53.
fn message(number: i64, content: &str) -> Message {
    between(1, 2, number, content)
}

fn between(from: i64, to: i64, number: i64, content: &str) -> Message {
    let id = id(9_007_199_254_740_993 + number);
    Message::new(id, user(from), user(to), MessageType::TEXT, content.to_owned(), None)
}

fn recall(message: &Message, recall_time: i64) -> Recall {
    Recall { message_id: message.id, recall_time, conversation_id: message.conversation() }
}

fn conversation() -> ConversationId {
    ConversationId::between(user(1), user(2)).unwrap()
}

fn as_row(message: &Message) -> Message {
    Message { persist_status: PersistStatus::Persisted, ..message.clone() }
}
