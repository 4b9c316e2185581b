//! A WebSocket client that writes any bytes, which no library would do.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The limit of each wait.
const LIMIT: Duration = Duration::from_secs(20);
/// The bit that marks the last frame of a message.
pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Data or an event from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(String),
    Pong(Vec<u8>),
    /// A close frame with its code.
    Close(Option<u16>),
    /// The end of the connection.
    End,
}

pub(crate) struct RawSocket(TcpStream);

impl RawSocket {
    pub(crate) async fn open(address: SocketAddr, token: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /ws?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(stream.read_u8()).await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    /// Writes bytes. Ignores an error: the server may have closed the connection already.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = soon(self.0.write_all(bytes)).await;
    }

    /// The next event, except pings.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let Ok((opcode, payload)) = soon(self.read_frame()).await else { return Heard::End };
            match opcode {
                TEXT => return Heard::Text(String::from_utf8(payload).unwrap()),
                PONG => return Heard::Pong(payload),
                CLOSE => {
                    return Heard::Close(payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]])));
                }
                PING => {}
                other => panic!("the server sent a frame of the kind {other}"),
            }
        }
    }

    async fn read_frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let head = self.0.read_u8().await?;
        assert_eq!(head & 0xf0, FIN, "the server sends whole messages");
        let length = match self.0.read_u8().await? {
            126 => usize::from(self.0.read_u16().await?),
            127 => usize::try_from(self.0.read_u64().await?).unwrap(),
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await?;
        Ok((head & 0x0f, payload))
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("nothing within {LIMIT:?}"))
}

const MASK: [u8; 4] = [1, 2, 3, 4];

/// A frame of a client, which must be masked. `head` has the FIN and RSV bits and the opcode.
pub(crate) fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head_of(head, payload.len(), true);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The first bytes of a frame, with its length.
pub(crate) fn head_of(head: u8, length: usize, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![head];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if length < 126 => bytes.push(mask + length),
        (_, Ok(length)) => {
            bytes.push(mask + 126);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(mask + 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(MASK);
    }
    bytes
}
