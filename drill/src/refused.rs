//! Checks that short messages are persisted while Kafka refuses long ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sqlx::{MySql, QueryBuilder};

use crate::ledger::Ledger;
use crate::settle::COMPENSATE_AFTER_MS;
use crate::site::Site;
use crate::user::in_short;

/// Messages below this size pass while Kafka refuses long ones.
const SHORT_BYTES: usize = 500;

/// How long it may take, after a run of the compensator, until the consumer has persisted the messages sent again.
const LIMIT: Duration = Duration::from_mins(1);

const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A short message may have shared a batch with a long one, and Kafka refuses a batch as a whole. Runs the
/// compensator, and waits until all short messages accepted so far are rows or are being recalled. Returns a line
/// about those that are not.
pub(crate) async fn look(site: &Site, ledger: &Ledger) -> anyhow::Result<Option<String>> {
    let book = ledger.book().clone();
    let short = book.sends.iter().filter(|(content, _)| content.len() < SHORT_BYTES);
    let mut waiting: BTreeMap<String, Vec<String>> = short
        .filter(|(_, send)| !send.ids.is_empty())
        .map(|(content, send)| (content.clone(), send.ids.iter().cloned().collect()))
        .collect();
    if let Err(error) = site.compensate_after(COMPENSATE_AFTER_MS).await {
        return Ok(Some(format!("while Kafka refuses long messages, {error}")));
    }
    let start = Instant::now();
    loop {
        let kept = rows(site, waiting.values().flatten()).await?;
        let recalled: BTreeSet<String> = ledger.book().recalls.keys().cloned().collect();
        waiting.retain(|_, ids| !ids.iter().any(|id| kept.contains(id) || recalled.contains(id)));
        if waiting.is_empty() {
            return Ok(None);
        }
        if start.elapsed() > LIMIT {
            let first: Vec<String> = waiting
                .iter()
                .take(5)
                .map(|(content, ids)| format!("{:?} {ids:?}", in_short(content)))
                .collect();
            return Ok(Some(format!(
                "while Kafka refuses long messages, {} short ones wait as well: {} …",
                waiting.len(),
                first.join(", ")
            )));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The ids, of these, that are rows.
async fn rows(site: &Site, ids: impl Iterator<Item = &String>) -> anyhow::Result<Vec<String>> {
    let ids: Vec<i64> = ids.filter_map(|id| id.parse().ok()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::<MySql>::new("SELECT id FROM message WHERE id IN (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(id);
    }
    query.push(")");
    let found: Vec<i64> = query.build_query_scalar().fetch_all(&site.mysql).await?;
    Ok(found.into_iter().map(|id| id.to_string()).collect())
}
