//! A caller of the API that reports how each request ended.

use std::net::SocketAddr;

use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer: status and body.
    Answer(u16, Value),
    /// The server does not listen any more.
    Refused,
    /// The connection ended before the answer came.
    Cut,
}

/// A caller with a token.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Caller {
    pub(crate) fn new(address: SocketAddr, token: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { address, token: token.to_owned(), client }
    }

    pub(crate) async fn request(&self, method: Method, path: &str, body: String) -> Outcome {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::from(body))
            .unwrap();
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Outcome::Refused,
            Err(_) => return Outcome::Cut,
        };
        let status = response.status().as_u16();
        match response.into_body().collect().await {
            Ok(body) => Outcome::Answer(status, serde_json::from_slice(&body.to_bytes()).unwrap_or_default()),
            Err(_) => Outcome::Cut,
        }
    }

    /// Sends a text to user 2, with the text as `clientMsgId`.
    pub(crate) async fn send(&self, content: &str) -> Outcome {
        self.request(Method::POST, "/messages", body(content)).await
    }

    /// Sends a text, expects it to be accepted, and returns the id.
    pub(crate) async fn sent(&self, content: &str) -> i64 {
        let outcome = self.send(content).await;
        let Outcome::Answer(201, message) = outcome else { panic!("{outcome:?}") };
        id_of(&message)
    }

    /// The message with this id from the history with user 2, if it is there.
    pub(crate) async fn finds(&self, id: i64) -> Option<Value> {
        let path = format!("/conversations/2/messages?limit=1&before={}", id + 1);
        let outcome = self.request(Method::GET, &path, String::new()).await;
        let Outcome::Answer(200, page) = outcome else { panic!("{outcome:?}") };
        page["messages"].get(0).filter(|message| id_of(message) == id).cloned()
    }
}

fn body(content: &str) -> String {
    json!({"toId": "2", "content": content, "msgType": 1, "clientMsgId": content}).to_string()
}

/// The id of a message as the API has it.
pub(crate) fn id_of(message: &Value) -> i64 {
    message["id"].as_str().and_then(|id| id.parse().ok()).expect("a message has an id")
}

/// A send whose head the server has accepted, and whose body is only half sent.
pub(crate) struct HalfSent {
    stream: TcpStream,
    rest: String,
}

impl HalfSent {
    /// Returns once the server has read the head and asks for the body.
    pub(crate) async fn start(caller: &Caller, content: &str) -> Self {
        let body = body(content);
        let (first, rest) = body.split_at(body.len() / 2);
        let head = format!(
            "POST /messages HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             expect: 100-continue\r\ncontent-length: {}\r\n\r\n{first}",
            caller.address,
            caller.token,
            body.len()
        );
        let mut stream = TcpStream::connect(caller.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { stream, rest: rest.to_owned() }
    }

    /// Sends the rest of the body, reads the answer, and returns the id of the message.
    pub(crate) async fn finish(mut self) -> i64 {
        self.stream.write_all(self.rest.as_bytes()).await.unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        assert!(head.starts_with("HTTP/1.1 201 "), "{answer}");
        id_of(&serde_json::from_str(body).expect("a whole body"))
    }
}
