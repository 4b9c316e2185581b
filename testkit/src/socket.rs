//! A client of the WebSocket API.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// An open connection.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn open(address: SocketAddr, token: &str) -> Result<Self, u16> {
        match tokio_tungstenite::connect_async(format!("ws://{address}/ws?token={token}")).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(refusal)) => Err(refusal.status().as_u16()),
            Err(error) => panic!("no WebSocket: {error}"),
        }
    }

    /// Opens a WebSocket with these subprotocols and without a query. Returns the subprotocol that the server selected.
    pub(crate) async fn open_offering(
        address: SocketAddr,
        offered: &str,
    ) -> Result<(Self, Option<String>), u16> {
        let mut request = format!("ws://{address}/ws").into_client_request().expect("a request");
        let offered = offered.parse().expect("a header");
        request.headers_mut().insert("sec-websocket-protocol", offered);
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, answer)) => {
                let selected = answer.headers().get("sec-websocket-protocol");
                let selected = selected.map(|name| name.to_str().expect("a name").to_owned());
                Ok((Self(socket), selected))
            }
            Err(Error::Http(refusal)) => Err(refusal.status().as_u16()),
            Err(error) => panic!("no WebSocket: {error}"),
        }
    }

    /// Opens a WebSocket. `None` if nothing listens, or the server refuses.
    pub(crate) async fn open_if_answered(address: SocketAddr, token: &str) -> Option<Self> {
        let opened = tokio_tungstenite::connect_async(format!("ws://{address}/ws?token={token}")).await;
        opened.ok().map(|(socket, _)| Self(socket))
    }

    pub(crate) async fn open_with_little_room(address: SocketAddr, token: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
        let stream = socket.connect(address).await.expect("the gateway accepts");
        let request = format!("ws://{address}/ws?token={token}");
        let opened = tokio_tungstenite::client_async(request, MaybeTlsStream::Plain(stream)).await;
        Self(opened.expect("the WebSocket opens").0)
    }

    /// Sends a text message.
    pub async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("the connection is open");
    }

    /// The next text message as JSON. Fails the test after 5 s.
    pub async fn hear(&mut self) -> Value {
        self.hear_within(Duration::from_secs(5)).await.expect("a text within 5 s")
    }

    /// The next text message as JSON, or `None` after `limit`.
    pub async fn hear_within(&mut self, limit: Duration) -> Option<Value> {
        let next = async {
            while let Some(message) = self.0.next().await {
                if let Message::Text(text) = message.expect("the connection is open") {
                    return serde_json::from_str(&text).expect("a text is JSON");
                }
            }
            panic!("the connection was closed")
        };
        tokio::time::timeout(limit, next).await.ok()
    }

    /// The next text message as JSON, or `None` once the connection has ended in any way. Fails the test after 10 s.
    pub async fn hear_until_closed(&mut self) -> Option<Value> {
        let next = self.next();
        tokio::time::timeout(Duration::from_secs(10), next).await.expect("a text or the end within 10 s")
    }

    /// The next text message as JSON, or `None` once the connection has ended in any way. Waits without a limit.
    pub async fn next(&mut self) -> Option<Value> {
        while let Some(Ok(message)) = self.0.next().await {
            if let Message::Text(text) = message {
                return Some(serde_json::from_str(&text).expect("a text is JSON"));
            }
        }
        None
    }

    /// Waits until the server closes the connection, and returns the close code if there is one.
    pub async fn closed(&mut self) -> Option<u16> {
        let closed = async {
            while let Some(message) = self.0.next().await {
                match message {
                    Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
            None
        };
        tokio::time::timeout(Duration::from_secs(10), closed).await.expect("closed within 10 s")
    }

    /// Closes the connection.
    pub async fn close(mut self) {
        self.0.close(None).await.expect("the connection closes");
    }
}
