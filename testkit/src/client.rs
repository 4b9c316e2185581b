//! A caller of the HTTP API.

use std::net::SocketAddr;

use hongyan::id::UserId;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::socket::Socket;

/// A caller with a token.
#[derive(Clone)]
pub struct Caller {
    /// The user.
    pub id: UserId,
    /// The user's token.
    pub token: String,
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null if there is no body or it is not JSON.
    pub body: Value,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The status and the `code` of a problem.
    pub fn problem(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }

    /// The body of a problem without the trace, which each request has for itself.
    pub fn problem_without_trace(&self) -> Value {
        let mut problem = self.body.clone();
        let trace = problem.as_object_mut().and_then(|fields| fields.remove("traceId"));
        assert!(trace.is_some(), "no problem, or one without a trace: {self:?}");
        problem
    }

    /// The id in the answer to a send.
    pub fn id(&self) -> String {
        self.body["id"].as_str().expect("the answer has an id").to_owned()
    }

    /// The ids of the messages on a page.
    pub fn ids(&self) -> Vec<String> {
        let messages = self.body["messages"].as_array().expect("the answer has messages");
        messages
            .iter()
            .map(|message| message["id"].as_str().expect("a message has an id").to_owned())
            .collect()
    }
}

impl Caller {
    /// A caller of the API at `address`.
    pub fn new(address: SocketAddr, id: UserId, token: String) -> Self {
        Self { id, token, address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// The same address and user with another token, or without one.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Sends a text.
    pub async fn send(&self, to: i64, content: &str) -> Answer {
        self.post("/messages", &json!({"toId": to.to_string(), "content": content, "msgType": 1})).await
    }

    /// Sends a text, expects it to be accepted, and returns the id.
    pub async fn sent(&self, to: i64, content: &str) -> String {
        let answer = self.send(to, content).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.id()
    }

    /// Sends texts one after another, expects each to be accepted, and returns the ids.
    pub async fn sent_each<const N: usize>(&self, to: i64, contents: [&str; N]) -> [String; N] {
        let mut ids = std::array::from_fn(|_| String::new());
        for (id, content) in ids.iter_mut().zip(contents) {
            *id = self.sent(to, content).await;
        }
        ids
    }

    /// Recalls a message.
    pub async fn recall(&self, id: &str) -> Answer {
        self.request(Method::POST, &format!("/messages/{id}/recall"), None).await
    }

    /// Deletes a message for this user.
    pub async fn delete(&self, id: &str) -> Answer {
        self.request(Method::DELETE, &format!("/messages/{id}"), None).await
    }

    /// Clears a conversation for this user, up to a message.
    pub async fn clear(&self, peer: i64, up_to: &str) -> Answer {
        self.request(Method::DELETE, &format!("/conversations/{peer}/messages?upTo={up_to}"), None).await
    }

    /// Reads a page of history. `query` comes without the question mark.
    pub async fn history(&self, peer: i64, query: &str) -> Answer {
        self.get(&format!("/conversations/{peer}/messages?{query}")).await
    }

    /// Marks a conversation as read up to a message.
    pub async fn read(&self, peer: i64, up_to: &str) -> Answer {
        self.post(&format!("/conversations/{peer}/read"), &json!({"upTo": up_to})).await
    }

    /// Reads the unread count and ids.
    pub async fn unread(&self) -> Answer {
        self.get("/unread").await
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, None).await
    }

    /// Sends a POST request with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path, Some(body.to_string())).await
    }

    /// Sends a request. Without a token the request has no `Authorization` header.
    pub async fn request(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        self.try_request(method, path, body).await.expect("the API answers")
    }

    /// Sends a request. An error if the connection is cut before the answer.
    pub async fn try_request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::from(body.unwrap_or_default()))?;
        let response = self.client.request(request).await?;
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await?.to_bytes().into())?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, text })
    }

    /// Opens a WebSocket.
    pub async fn connect(&self) -> Socket {
        Socket::open(self.address, &self.token).await.expect("the WebSocket opens")
    }

    /// Opens a WebSocket. `None` if nothing listens, or the server refuses.
    pub async fn connect_if_answered(&self) -> Option<Socket> {
        Socket::open_if_answered(self.address, &self.token).await
    }

    /// Opens a WebSocket with a receive buffer of a few KB, so that a client that does not read is soon noticed.
    pub async fn connect_with_little_room(&self) -> Socket {
        Socket::open_with_little_room(self.address, &self.token).await
    }

    /// Tries to open a WebSocket with the subprotocols that a browser offers: the service's, and one with the token. Returns
    /// the selected subprotocol too. The error is the HTTP status of the refusal.
    pub async fn connect_by_subprotocol(&self) -> Result<(Socket, Option<String>), u16> {
        Socket::open_offering(self.address, &format!("hongyan.v1, bearer.{}", self.token)).await
    }

    /// Tries to open a WebSocket. The error is the HTTP status of the refusal.
    pub async fn try_connect(&self) -> Result<Socket, u16> {
        Socket::open(self.address, &self.token).await
    }
}
