//! A TCP proxy in front of a server, which a test can close, open again, and freeze: a network that fails, while the
//! server behind it serves the other tests.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

/// A proxy on a port of its own.
pub struct Proxy {
    target: Url,
    address: SocketAddr,
    frozen: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens in front of the server at `url`, which names host and port.
    pub async fn to(url: &str) -> Self {
        let target = Url::parse(url).unwrap();
        let (frozen, _) = watch::channel(false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(accept(listener, address_of(&target), frozen.subscribe()));
        Self { target, address, frozen, accepting }
    }

    /// The server's URL by way of the proxy.
    pub fn url(&self) -> String {
        let mut url = self.target.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.into()
    }

    /// Nothing passes any more, in either direction, until it is false again: connections stay open and are accepted.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Cuts all connections and refuses new ones.
    pub async fn close(&mut self) {
        self.accepting.abort();
        // Its end, aborted, is what is waited for.
        let _ = (&mut self.accepting).await;
    }

    /// Listens again, on the same port.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.accepting = tokio::spawn(accept(listener, address_of(&self.target), self.frozen.subscribe()));
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

async fn accept(listener: TcpListener, target: (String, u16), frozen: watch::Receiver<bool>) {
    // Dropped with this task, and with it all connections.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (target, frozen) = (target.clone(), frozen.clone());
        connections.spawn(async move {
            // A connection that ends in an error has ended: the test sees it at its own side.
            if let Ok(server) = TcpStream::connect(target).await {
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::select! {
                    _ = pass(from_client, to_server, frozen.clone()) => {}
                    _ = pass(from_server, to_client, frozen) => {}
                }
            }
        });
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 || frozen.wait_for(|frozen| !frozen).await.is_err() {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
