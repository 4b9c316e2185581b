//! Tests of WebSockets and `@connections`.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(running: &Running) -> Client {
    connect_with(running, "good").await
}

async fn connect_with(running: &Running, token: &str) -> Client {
    let url = format!("ws://{}/ws?token={token}&x=%20", running.gateway.addr());
    soon("the handshake", connect_async(url)).await.unwrap().0
}

/// Connects with the token as a subprotocol, as a browser does, and returns the selected subprotocol too.
async fn connect_by_subprotocol(running: &Running, token: &str) -> (Client, String) {
    let mut request = format!("ws://{}/ws", running.gateway.addr()).into_client_request().unwrap();
    let offered = format!("hongyan.v1, bearer.{token}").parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", offered);
    let (client, response) = soon("the handshake", connect_async(request)).await.unwrap();
    let selected = response.headers()["sec-websocket-protocol"].to_str().unwrap().to_owned();
    (client, selected)
}

async fn text(client: &mut Client) -> String {
    loop {
        match soon("a message", client.next()).await.unwrap().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Reads until the connection is closed, and returns the close code.
async fn closed(client: &mut Client) -> u16 {
    loop {
        match soon("the close", client.next()).await {
            Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
            Some(Ok(_)) => {}
            other => panic!("no close frame: {other:?}"),
        }
    }
}

async fn ids(running: &Running, count: usize) -> Vec<String> {
    soon("the connections", async {
        loop {
            let ids: Vec<String> = running
                .recorder
                .websocket
                .lock()
                .iter()
                .filter(|event| event.request_context.route_key.as_deref() == Some("$connect"))
                .filter_map(|event| event.request_context.connection_id.clone())
                .collect();
            if ids.len() == count {
                return ids;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn gone(running: &Running, count: usize) {
    soon("$disconnect", running.recorder.disconnected.subscribe().wait_for(|seen| *seen == count))
        .await
        .unwrap();
}

impl Running {
    async fn callback(&self, method: &str, id: &str, body: &str) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(self.url(&format!("/@connections/{id}")));
        send(request.body(Full::from(body.to_owned())).unwrap()).await
    }
}

#[tokio::test]
async fn a_client_connects_talks_is_reached_and_leaves() {
    let running = start(GatewayOptions::default()).await;
    let mut first = connect(&running).await;
    let mut second = connect(&running).await;
    let ids = ids(&running, 2).await;
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[0].len(), 22, "128 bits: {}", ids[0]);

    first.send(Message::text("hello")).await.unwrap();
    assert_eq!(text(&mut first).await, "pong");
    assert_eq!(running.callback("POST", &ids[0], "to the first").await.status(), 200);
    assert_eq!(running.callback("POST", &ids[1], "你好").await.status(), 200);
    assert_eq!(text(&mut first).await, "to the first");
    assert_eq!(text(&mut second).await, "你好");
    let known = json(&running.callback("GET", &ids[0], "").await);
    assert_eq!(known["identity"]["sourceIp"], "127.0.0.1");
    for time in ["connectedAt", "lastActiveAt"] {
        assert!(known[time].as_str().unwrap().ends_with('Z'), "{known}");
    }

    first.close(None).await.unwrap();
    gone(&running, 1).await;
    for method in ["POST", "GET", "DELETE"] {
        assert_eq!(running.callback(method, &ids[0], "x").await.status(), 410, "{method}");
    }
    assert_eq!(running.callback("POST", "unknown", "x").await.status(), 410);
    assert_eq!(running.callback("DELETE", &ids[1], "").await.status(), 204);
    assert_eq!(closed(&mut second).await, 1000);
    gone(&running, 2).await;

    let events = running.recorder.websocket.lock().clone();
    let connect = &events[0];
    assert_eq!(connect.query_string_parameters.first("x"), Some(" "));
    assert_eq!(connect.request_context.event_type.as_deref(), Some("CONNECT"));
    assert!(connect.headers.contains_key("sec-websocket-key"));
    let message = events.iter().find(|event| event.body.is_some()).unwrap();
    assert_eq!(message.body.as_deref(), Some("hello"));
    assert_eq!(message.request_context.route_key.as_deref(), Some("$default"));
    assert!(message.request_context.message_id.is_some());
    for event in &events {
        // Lambda parses the event to the same value that the function was given.
        let json = serde_json::to_value(event).unwrap();
        let parsed: ApiGatewayWebsocketProxyRequest = serde_json::from_value(json).unwrap();
        assert_eq!(&parsed, event);
    }
}

#[tokio::test]
async fn the_status_of_connect_decides() {
    let running = start(GatewayOptions::default()).await;
    for query in ["", "?token=bad"] {
        let url = format!("ws://{}/ws{query}", running.gateway.addr());
        let refused = connect_async(url).await.unwrap_err();
        assert!(matches!(&refused, Error::Http(response) if response.status() == 401), "{refused}");
    }
    let id = ids(&running, 2).await.remove(0);
    assert_eq!(running.callback("GET", &id, "").await.status(), 410);
}

#[tokio::test]
async fn limits_close_with_their_code() {
    let options = GatewayOptions { messages_per_second: 5, ..GatewayOptions::default() };
    let running = start(options).await;
    let mut client = connect(&running).await;
    for _ in 0..20 {
        if client.send(Message::text("again")).await.is_err() {
            break;
        }
    }
    assert_eq!(closed(&mut client).await, u16::from(CloseCode::Policy));

    let mut client = connect(&running).await;
    client.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(closed(&mut client).await, u16::from(CloseCode::Unsupported));

    let mut client = connect(&running).await;
    client.send(Message::text("x".repeat(33 * 1024))).await.unwrap();
    assert_eq!(closed(&mut client).await, u16::from(CloseCode::Size));
    gone(&running, 3).await;

    let id = ids(&running, 3).await.remove(0);
    assert_eq!(running.callback("POST", &id, &"x".repeat(200_000)).await.status(), 410);
    let _client = connect(&running).await;
    let id = ids(&running, 4).await.remove(3);
    assert_eq!(running.callback("POST", &id, &"x".repeat(200_000)).await.status(), 413);
}

#[tokio::test]
async fn a_client_that_cannot_keep_up_is_closed_never_skipped() {
    let options = GatewayOptions { outgoing_queue: 4, ..GatewayOptions::default() };
    let running = start(options).await;
    let mut client = connect(&running).await;
    let id = ids(&running, 1).await.remove(0);
    let mut accepted = 0;
    // The client does not read, so in the end neither its socket nor its queue has room.
    let last = soon("the refusal", async {
        loop {
            let message = format!("{accepted} {}", "x".repeat(100_000));
            match running.callback("POST", &id, &message).await.status().as_u16() {
                200 => accepted += 1,
                status => return status,
            }
        }
    })
    .await;
    assert_eq!(last, 410);
    let mut seen = 0;
    loop {
        match soon("the end", client.next()).await {
            Some(Ok(Message::Text(text))) => {
                assert!(text.starts_with(&format!("{seen} ")), "a gap before {seen}");
                seen += 1;
            }
            Some(Ok(Message::Close(frame))) => {
                assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1013));
                break;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
    gone(&running, 1).await;
}

#[tokio::test]
async fn silent_and_idle_connections_are_closed() {
    let options = GatewayOptions {
        ping_every: Duration::from_millis(20),
        idle_timeout: Duration::from_millis(100),
        ..GatewayOptions::default()
    };
    let running = start(options).await;
    let mut answering = connect(&running).await;
    assert_eq!(closed(&mut answering).await, 1001, "a client that only answers pings is idle");
    gone(&running, 1).await;
    // A client that never reads answers no ping.
    let _silent = connect(&running).await;
    gone(&running, 2).await;
}

#[tokio::test]
async fn a_stop_says_goodbye_to_each_and_runs_disconnect() {
    let running = start(GatewayOptions::default()).await;
    let mut clients = vec![connect(&running).await, connect(&running).await];
    ids(&running, 2).await;
    let recorder = running.recorder.clone();
    let stop = tokio::spawn(running.gateway.stop());
    for client in &mut clients {
        assert_eq!(closed(client).await, 1001);
    }
    soon("the stop", stop).await.unwrap();
    assert_eq!(*recorder.disconnected.borrow(), 2);
}

#[tokio::test]
async fn a_socket_ends_with_its_token() {
    // One gateway looks at the clock often. The other looks only every half minute.
    for ping_every in [Duration::from_millis(20), Duration::from_secs(30)] {
        let running = start(GatewayOptions { ping_every, ..GatewayOptions::default() }).await;
        let mut client = connect_with(&running, &running.token()).await;
        let id = ids(&running, 1).await.remove(0);
        // The token ends after 60 s, and its leeway after 65 s. The clock goes on while the client is told.
        running.ahead_ms.store(60_500, Ordering::SeqCst);
        assert_eq!(running.callback("POST", &id, "within the leeway").await.status(), 200);
        assert_eq!(text(&mut client).await, "within the leeway");

        running.ahead_ms.store(66_000, Ordering::SeqCst);
        if ping_every.as_secs() > 1 {
            assert_eq!(running.callback("POST", &id, "too late").await.status(), 410);
        }
        assert_eq!(closed(&mut client).await, 4401);
        gone(&running, 1).await;
        assert_eq!(running.callback("POST", &id, "too late").await.status(), 410);
    }
}

#[tokio::test]
async fn a_token_by_subprotocol_counts_as_one_in_the_query_does() {
    let running = start(GatewayOptions::default()).await;
    let (mut client, selected) = connect_by_subprotocol(&running, &running.token()).await;
    assert_eq!(selected, "hongyan.v1");
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(text(&mut client).await, "pong");

    running.ahead_ms.store(66_000, Ordering::SeqCst);
    let id = ids(&running, 1).await.remove(0);
    assert_eq!(running.callback("POST", &id, "too late").await.status(), 410);
    assert_eq!(closed(&mut client).await, 4401);
}

#[tokio::test]
async fn the_gateway_keeps_a_connection_registered_and_the_client_hears_nothing_of_it() {
    let options = GatewayOptions { renew_every: Duration::from_millis(20), ..GatewayOptions::default() };
    let running = start(options).await;
    let mut client = connect(&running).await;
    let id = ids(&running, 1).await.remove(0);
    let renewals = || {
        let events = running.recorder.websocket.lock();
        events.iter().filter(|event| event.body.as_deref() == Some(r#"{"action":"ping"}"#)).count()
    };
    soon("renewals", async {
        while renewals() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(running.callback("POST", &id, "a push").await.status(), 200);
    assert_eq!(text(&mut client).await, "a push");
}

#[tokio::test]
async fn a_client_that_goes_away_during_connect_leaves_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let running = start(GatewayOptions::default()).await;
    running.recorder.connect_held.send_replace(true);
    let mut client = TcpStream::connect(running.gateway.addr()).await.unwrap();
    let handshake = "GET /ws?token=good HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(handshake.as_bytes()).await.unwrap();
    let id = ids(&running, 1).await.remove(0);
    assert_eq!(
        running.callback("GET", &id, "").await.status(),
        200,
        "the connection is open for pushes before `$connect` has answered"
    );

    drop(client);
    gone(&running, 1).await;
    assert_eq!(running.callback("GET", &id, "").await.status(), 410);
    running.recorder.connect_held.send_replace(false);
}
