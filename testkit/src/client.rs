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

/// Somebody with a token.
#[derive(Clone)]
pub struct Caller {
    /// Who.
    pub id: UserId,
    /// Their token.
    pub token: String,
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What the API answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null if there is none, or if it is no JSON.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// Status and `code` of a problem.
    pub fn problem(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }

    /// The id of a message that was sent.
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
    /// Somebody who calls the API at `address`.
    pub fn new(address: SocketAddr, id: UserId, token: String) -> Self {
        Self { id, token, address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// The same address with another token, or none.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Sends a text.
    pub async fn send(&self, to: i64, content: &str) -> Answer {
        self.post("/messages", &json!({"toId": to.to_string(), "content": content, "msgType": 1})).await
    }

    /// Sends a text and expects it to be taken; its id.
    pub async fn sent(&self, to: i64, content: &str) -> String {
        let answer = self.send(to, content).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.id()
    }

    /// Takes a message back.
    pub async fn recall(&self, id: &str) -> Answer {
        self.request(Method::POST, &format!("/messages/{id}/recall"), None).await
    }

    /// Hides a message.
    pub async fn delete(&self, id: &str) -> Answer {
        self.request(Method::DELETE, &format!("/messages/{id}"), None).await
    }

    /// A page of history; `query` without the question mark.
    pub async fn history(&self, peer: i64, query: &str) -> Answer {
        self.get(&format!("/conversations/{peer}/messages?{query}")).await
    }

    /// Marks a conversation as read.
    pub async fn read(&self, peer: i64, up_to: &str) -> Answer {
        self.post(&format!("/conversations/{peer}/read"), &json!({"upTo": up_to})).await
    }

    /// What is unread.
    pub async fn unread(&self) -> Answer {
        self.get("/unread").await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, None).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path, Some(body.to_string())).await
    }

    /// Any request. Without a token no `Authorization` is sent.
    pub async fn request(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        self.try_request(method, path, body).await.expect("the API answers")
    }

    /// Any request; an error if the connection is cut before the answer.
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

    /// Opens a WebSocket unless nobody answers, or the server refuses.
    pub async fn connect_if_answered(&self) -> Option<Socket> {
        Socket::open_if_answered(self.address, &self.token).await
    }

    /// Opens a WebSocket whose client has room for a few KB only, so that one who does not read is soon noticed.
    pub async fn connect_with_little_room(&self) -> Socket {
        Socket::open_with_little_room(self.address, &self.token).await
    }

    /// Tries to open a WebSocket; the HTTP status of a refusal.
    pub async fn try_connect(&self) -> Result<Socket, u16> {
        Socket::open(self.address, &self.token).await
    }
}
