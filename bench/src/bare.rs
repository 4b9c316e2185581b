//! The servers without the service, loaded with the data of a send: an upper bound for every service built on them.

mod capture;
mod kafka;
mod mysql;
mod redis;
mod resp;
mod taken;

use std::sync::Arc;
use std::time::Duration;

use hongyan::config::Config;
use secrecy::ExposeSecret as _;
use serde::Serialize;

use crate::content::Contents;
use crate::number::of_count;
use crate::pool::Pool;
use crate::scenario::Talk;
use taken::Taken;

/// One server without the service.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bare {
    /// `Redis`, `Kafka` or `MySQL`.
    pub server: &'static str,
    /// The load in words.
    pub how: String,
    /// Messages a second; `None` if the server could not be measured.
    pub a_second: Option<f64>,
    /// The reason why it could not be measured.
    pub unavailable: Option<String>,
}

/// Measures one server after the other, each for the same time.
pub(crate) async fn measure(config: &Config, pool: &Pool, talk: &Arc<Talk>, time: Duration) -> Vec<Bare> {
    let contents = Arc::new(Contents::new());
    let mut all = Vec::new();
    all.push(bare("Redis", redis::measure(config, pool, talk, &contents, time).await));
    all.push(bare("Kafka", kafka::measure(&config.kafka, &contents, time).await));
    let url = config.mysql.url.expose_secret();
    all.push(bare("MySQL", mysql::measure(url, &contents, time).await));
    all
}

fn bare(server: &'static str, taken: anyhow::Result<Taken>) -> Bare {
    match taken {
        Ok(Taken { messages, time, how }) => {
            let a_second = Some(of_count(messages) / time.as_secs_f64().max(0.001));
            Bare { server, how, a_second, unavailable: None }
        }
        Err(error) => {
            let unavailable = Some(format!("{error:#}"));
            Bare { server, how: String::new(), a_second: None, unavailable }
        }
    }
}
