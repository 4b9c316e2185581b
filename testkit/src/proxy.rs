//! A TCP proxy in front of a server. A test can close, reopen, freeze, slow down, cut and redirect it, to make one
//! client's network fail while other clients still reach the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hongyan_stack::free_port;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use url::Url;

/// The most reads, of at most 16 KB each, that may be on their way in one direction of one connection.
const ON_ITS_WAY: usize = 64;

/// A proxy with its own port.
pub struct Proxy {
    target: Url,
    address: SocketAddr,
    network: Network,
    accepting: JoinHandle<()>,
}

/// The state of the simulated network: the address it leads to, and its faults.
#[derive(Clone)]
struct Network {
    target: watch::Sender<(String, u16)>,
    frozen: watch::Sender<bool>,
    latency: watch::Sender<Duration>,
    /// Counts how often all connections were cut.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// Listens in front of the server at `url`, which names host and port. The port lies outside the range for
    /// outgoing connections, so that it stays free while the proxy is closed for a moment.
    pub async fn to(url: &str) -> Self {
        loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).await {
                Ok(listener) => return Self::on(listener, url),
                // Another program has taken the port meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => panic!("no port for a proxy: {error}"),
            }
        }
    }

    /// As [`Self::to`], with a listener that exists already.
    pub fn on(listener: TcpListener, url: &str) -> Self {
        let target = Url::parse(url).unwrap();
        let network = Network {
            target: watch::Sender::new(address_of(&target)),
            frozen: watch::Sender::new(false),
            latency: watch::Sender::new(Duration::ZERO),
            cuts: watch::Sender::new(0),
        };
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(accept(listener, network.clone()));
        Self { target, address, network, accepting }
    }

    /// The server's URL with the address of the proxy.
    pub fn url(&self) -> String {
        let mut url = self.target.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.into()
    }

    /// The address that the proxy listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// While true, nothing passes in either direction; connections are accepted and stay open.
    pub fn freeze(&self, frozen: bool) {
        self.network.frozen.send_replace(frozen);
    }

    /// Delays all data by `latency`, in either direction.
    pub fn slow_down(&self, latency: Duration) {
        self.network.latency.send_replace(latency);
    }

    /// Leads new connections to the server at `url`. Open connections stay where they are.
    pub fn lead_to(&mut self, url: &str) {
        self.target = Url::parse(url).unwrap();
        self.network.target.send_replace(address_of(&self.target));
    }

    /// Resets all connections. New ones are accepted.
    pub fn cut(&self) {
        self.network.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Resets all connections and refuses new ones.
    pub async fn close(&mut self) {
        self.accepting.abort();
        // The task was aborted; wait for its end.
        let _ = (&mut self.accepting).await;
    }

    /// Listens again on the same port.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.accepting = tokio::spawn(accept(listener, self.network.clone()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn address_of(target: &Url) -> (String, u16) {
    (target.host_str().unwrap().to_owned(), target.port().unwrap())
}

async fn accept(listener: TcpListener, network: Network) {
    // Dropping this task drops all connections.
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((client, _)) = client else { return };
        let (target, network) = (network.target.borrow().clone(), network.clone());
        connections.spawn(async move {
            // An error of a connection ends it. The test sees that at its own end.
            if let Ok(server) = TcpStream::connect(target).await {
                let _ = join(client, server, &network).await;
            }
        });
    }
}

/// Joins two connections until either ends or both are cut.
async fn join(mut client: TcpStream, mut server: TcpStream, network: &Network) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut cuts = network.cuts.subscribe();
    let cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            _ = pass(from_client, to_server, network) => false,
            _ = pass(from_server, to_client, network) => false,
            _ = cuts.changed() => true,
        }
    };
    if cut {
        // Without lingering, closing sends a reset.
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

/// Passes data on, each piece after the latency at the time it arrived.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, network: &Network) -> std::io::Result<()> {
    let (sender, mut on_its_way) = mpsc::channel::<(Instant, Vec<u8>)>(ON_ITS_WAY);
    let read = async move {
        loop {
            let mut buffer = vec![0; 16 * 1024];
            let read = from.read(&mut buffer).await?;
            buffer.truncate(read);
            let due = Instant::now() + *network.latency.borrow();
            if read == 0 || sender.send((due, buffer)).await.is_err() {
                return std::io::Result::Ok(());
            }
        }
    };
    let write = async {
        let mut frozen = network.frozen.subscribe();
        while let Some((due, piece)) = on_its_way.recv().await {
            tokio::time::sleep_until(due).await;
            // The proxy was dropped: nothing passes any more.
            if frozen.wait_for(|frozen| !frozen).await.is_err() {
                return Ok(());
            }
            to.write_all(&piece).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}
