//! A pool of connections that are opened once and shared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// A request without an answer in this time counts as unanswered.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A request that has no connection yet.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// A fixed number of connections to one address. Calls wait in turn for a free one.
pub(crate) struct Pool {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    places: Arc<Semaphore>,
}

impl Pool {
    pub(crate) async fn open(address: SocketAddr, connections: u32) -> anyhow::Result<Self> {
        let mut idle = Vec::new();
        for _ in 0..connections {
            idle.push(connect(address).await.map_err(|error| anyhow::anyhow!("{address}: {error}"))?);
        }
        let places = Arc::new(Semaphore::new(idle.len()));
        Ok(Self { address, idle: Mutex::new(idle), places })
    }

    /// Makes a call on the next free connection. Also returns when the call got its connection.
    pub(crate) async fn call(&self, call: Call) -> (Instant, Result<Answer, String>) {
        let Ok(_place) = self.places.acquire().await else {
            return (Instant::now(), Err("the pool is closed".to_owned()));
        };
        let began = Instant::now();
        let answer = match tokio::time::timeout(TIMEOUT, self.exchange(call)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("no answer within 30 s".to_owned()),
        };
        (began, answer)
    }

    async fn exchange(&self, call: Call) -> anyhow::Result<Answer> {
        let idle = self.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) if !connection.is_closed() => connection,
            _ => connect(self.address).await?,
        };
        connection.ready().await?;
        let request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header("host", self.address.to_string())
            .header("authorization", call.authorization)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(call.body)))?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        self.idle.lock().push(connection);
        Ok(Answer { status: head.status.as_u16(), body })
    }
}

async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The next user of a broken connection gets the error.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}
