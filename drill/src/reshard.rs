//! Moves slots of a Redis Cluster from node to node while their keys are in use, as `redis-cli --cluster reshard`
//! does.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _};

/// The most slots that move from one node to the next in one turn.
const SLOTS_A_TURN: usize = 50;

/// The number of keys in one command.
const KEYS_AT_ONCE: usize = 50;

/// How long a node may take to move these keys, in ms.
const MIGRATE_MS: usize = 5_000;

/// How long a slot stays in migration. Its keys are then on either of two nodes, and clients are redirected between
/// them.
const ON_ITS_WAY: Duration = Duration::from_millis(2);

/// One master.
struct Node {
    id: String,
    host: String,
    port: u16,
    connection: MultiplexedConnection,
}

/// All masters of a cluster, each with a connection.
pub(crate) struct Masters {
    nodes: Vec<Node>,
    password: Option<String>,
    moved: usize,
}

impl Masters {
    /// The masters of the cluster that the node at `url` belongs to.
    pub(crate) async fn of(url: &str) -> anyhow::Result<Self> {
        let info = url.into_connection_info()?;
        let mut any = Client::open(info.clone())?.get_multiplexed_async_connection().await?;
        let known: String = redis::cmd("CLUSTER").arg("NODES").query_async(&mut any).await?;
        let mut nodes = Vec::new();
        for line in known.lines() {
            // <id> <ip:port@cport[,hostname]> <flags> …
            let mut fields = line.split(' ');
            let (id, address, flags) = (fields.next(), fields.next(), fields.next());
            let (id, address) = (id.context("an id")?, address.context("an address")?);
            if !flags.is_some_and(|flags| flags.split(',').any(|flag| flag == "master")) {
                continue;
            }
            let (host, rest) = address.rsplit_once(':').context("host:port")?;
            let port: u16 = rest.split('@').next().context("a port")?.parse()?;
            let here = info.clone().set_addr(ConnectionAddr::Tcp(host.to_owned(), port));
            let connection = Client::open(here)?.get_multiplexed_async_connection().await?;
            nodes.push(Node { id: id.to_owned(), host: host.to_owned(), port, connection });
        }
        let password = info.redis_settings().password().map(str::to_owned);
        Ok(Self { nodes, password, moved: 0 })
    }

    /// Moves slots in use from each node to the next, at least one, until `stop`. A slot in migration arrives first.
    /// Returns the number of moved slots.
    pub(crate) async fn move_until(mut self, stop: impl Fn() -> bool) -> anyhow::Result<usize> {
        for turn in 0.. {
            let (from, to) = (turn % self.nodes.len(), (turn + 1) % self.nodes.len());
            let slots = self.slots_in_use(from).await?;
            if slots.is_empty() {
                tokio::time::sleep(ON_ITS_WAY).await;
            }
            for slot in slots {
                if stop() && self.moved > 0 {
                    return Ok(self.moved);
                }
                self.move_slot(slot, from, to).await.with_context(|| format!("slot {slot}"))?;
                self.moved += 1;
            }
            if stop() && self.moved > 0 {
                return Ok(self.moved);
            }
        }
        Ok(self.moved)
    }

    async fn slots_in_use(&mut self, node: usize) -> anyhow::Result<BTreeSet<u16>> {
        let connection = &mut self.nodes[node].connection;
        let mut scan = redis::cmd("SCAN");
        let (_, keys): (u64, Vec<String>) =
            scan.arg(rand::random::<u32>()).arg("COUNT").arg(SLOTS_A_TURN).query_async(connection).await?;
        let mut slots = BTreeSet::new();
        for key in keys.iter().take(SLOTS_A_TURN) {
            slots.insert(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query_async(connection).await?);
        }
        Ok(slots)
    }

    async fn move_slot(&mut self, slot: u16, from: usize, to: usize) -> anyhow::Result<()> {
        let (from_id, to_id) = (self.nodes[from].id.clone(), self.nodes[to].id.clone());
        set_slot(&mut self.nodes[to].connection, slot, "IMPORTING", &from_id).await?;
        set_slot(&mut self.nodes[from].connection, slot, "MIGRATING", &to_id).await?;
        tokio::time::sleep(ON_ITS_WAY).await;
        let (host, port) = (self.nodes[to].host.clone(), self.nodes[to].port);
        loop {
            let source = &mut self.nodes[from].connection;
            let mut list = redis::cmd("CLUSTER");
            let keys: Vec<String> =
                list.arg("GETKEYSINSLOT").arg(slot).arg(KEYS_AT_ONCE).query_async(source).await?;
            if keys.is_empty() {
                break;
            }
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg(&host).arg(port).arg("").arg(0).arg(MIGRATE_MS);
            if let Some(password) = &self.password {
                migrate.arg("AUTH").arg(password);
            }
            migrate.arg("KEYS").arg(keys).exec_async(source).await?;
        }
        // Tell the new owner first. In the other order, no node would own the slot for a moment.
        set_slot(&mut self.nodes[to].connection, slot, "NODE", &to_id).await?;
        for node in &mut self.nodes {
            set_slot(&mut node.connection, slot, "NODE", &to_id).await?;
        }
        Ok(())
    }
}

async fn set_slot(
    connection: &mut MultiplexedConnection,
    slot: u16,
    state: &str,
    node: &str,
) -> anyhow::Result<()> {
    let mut command = redis::cmd("CLUSTER");
    Ok(command.arg("SETSLOT").arg(slot).arg(state).arg(node).exec_async(connection).await?)
}
