//! Tests of the HTTP API.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// The preflight of a browser for a page of `origin` that deletes a message.
async fn preflight(running: &Running, origin: &str) -> Response<Bytes> {
    let request = Request::options(running.url("/messages/1"))
        .header("origin", origin)
        .header("access-control-request-method", "DELETE")
        .header("access-control-request-headers", "authorization,content-type");
    send(request.body(Full::default()).unwrap()).await
}

#[tokio::test]
async fn the_pages_of_listed_origins_may_call_and_read_answers() {
    let cors_origins = cors::Origins::parse("https://chat.example.com,http://localhost:*").unwrap();
    let running = start(GatewayOptions { cors_origins, ..GatewayOptions::default() }).await;

    // A preflight has no token.
    for origin in ["https://chat.example.com", "http://localhost:5173"] {
        let allowed = preflight(&running, origin).await;
        assert_eq!(allowed.status(), 200);
        assert_eq!(allowed.headers()["access-control-allow-origin"], origin);
        assert_eq!(allowed.headers()["access-control-allow-methods"], "DELETE,GET,POST,PUT");
        assert_eq!(allowed.headers()["access-control-allow-headers"], "authorization,content-type");
        assert_eq!(allowed.headers()["access-control-max-age"], "600");
        assert!(!allowed.headers().contains_key("access-control-allow-credentials"));
    }
    let refused = preflight(&running, "https://evil.example").await;
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    assert!(running.recorder.http.lock().is_empty(), "no function is asked");

    // A page can read errors too.
    let ask = async |path: &str, origin: &str, token: &str| {
        let request = Request::get(running.url(path)).header("origin", origin);
        let request = request.header("authorization", format!("Bearer {token}"));
        send(request.body(Full::default()).unwrap()).await
    };
    for (path, token, status) in [
        ("/unread", running.token(), 201),
        ("/unread", "bad".to_owned(), 401),
        ("/nowhere", running.token(), 404),
    ] {
        let answer = ask(path, "https://chat.example.com", &token).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["access-control-allow-origin"], "https://chat.example.com");
        assert_eq!(answer.headers()["access-control-expose-headers"], "retry-after,location");
        assert!(answer.headers()["vary"].to_str().unwrap().contains("origin"));
    }
    let answer = ask("/unread", "https://evil.example", &running.token()).await;
    assert_eq!(answer.status(), 201);
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let operators = ask("/health", "https://chat.example.com", "").await;
    assert!(!operators.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn without_listed_origins_there_is_no_cors() {
    let running = start(GatewayOptions::default()).await;
    let answer = preflight(&running, "http://localhost").await;
    assert_eq!(answer.status(), 405);
    assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control-")));
}

#[tokio::test]
async fn the_event_is_the_one_that_aws_sends() {
    let running = start(GatewayOptions::default()).await;
    let token = running.token();
    let request = Request::post(running.url("/messages/5%20%E4%BD%A0/recall?limit=2&tag=a&tag=b+c&x=%2C"))
        .header("Authorization", format!("bearer {token}"))
        .header("X-Many", "1")
        .header("X-Many", "2")
        .header("Cookie", "a=1; b=2")
        .header("User-Agent", "test/1")
        .body(Full::from(r#"{"a":"你好"}"#))
        .unwrap();
    assert_eq!(send(request).await.status(), 201);

    let (function, event) = running.recorder.http.lock().pop().unwrap();
    assert_eq!(function, "recall");
    let event = serde_json::to_value(&event).unwrap();
    // AWS's sample of the event format. Every field of the sample must be in our event too, with the same kind of
    // value.
    let sample: Value = serde_json::from_str(include_str!("sample.json")).unwrap();
    assert_same_shape(&sample, &event, "");

    assert_eq!(event["version"], "2.0");
    assert_eq!(event["routeKey"], "POST /messages/{id}/recall");
    assert_eq!(event["rawPath"], "/messages/5%20%E4%BD%A0/recall");
    assert_eq!(event["rawQueryString"], "limit=2&tag=a&tag=b+c&x=%2C");
    assert_eq!(event["pathParameters"], json!({ "id": "5 你" }));
    assert_eq!(event["queryStringParameters"], json!({ "limit": "2", "tag": "a,b c", "x": "," }));
    assert_eq!(event["cookies"], json!(["a=1", "b=2"]));
    assert_eq!(event["headers"]["x-many"], "1,2");
    assert_eq!(event["headers"]["user-agent"], "test/1");
    assert!(event["headers"].get("cookie").is_none());
    assert_eq!(event["body"], r#"{"a":"你好"}"#);
    assert_eq!(event["isBase64Encoded"], false);
    let context = &event["requestContext"];
    assert_eq!(context["stage"], "$default");
    assert_eq!(context["http"]["method"], "POST");
    assert_eq!(context["http"]["protocol"], "HTTP/1.1");
    assert_eq!(context["http"]["sourceIp"], "127.0.0.1");
    let claims = &context["authorizer"]["jwt"]["claims"];
    assert_eq!(claims["sub"], "9007199254740993");
    assert!(claims["exp"].is_string(), "all claims are text: {claims}");

    // Lambda parses the event to the same value that the function was given.
    let parsed: ApiGatewayV2httpRequest = serde_json::from_value(event.clone()).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), event);
}

fn assert_same_shape(sample: &Value, ours: &Value, path: &str) {
    let Value::Object(sample) = sample else {
        assert_eq!(
            std::mem::discriminant(sample),
            std::mem::discriminant(ours),
            "{path}: {sample} but ours is {ours}"
        );
        return;
    };
    for (name, value) in sample {
        // Names that belong to the sample's own request, and fields that local events do not have.
        if ["Header1", "Header2", "parameter1", "parameter2", "proxy", "claim1", "claim2"]
            .contains(&name.as_str())
            || ["scopes", "authentication", "stageVariables"].contains(&name.as_str())
        {
            continue;
        }
        let ours = ours.get(name).unwrap_or_else(|| panic!("{path}/{name} is missing"));
        assert_same_shape(value, ours, &format!("{path}/{name}"));
    }
}

#[tokio::test]
async fn a_body_that_is_not_text_travels_as_base64_both_ways() {
    let running = start(GatewayOptions::default()).await;
    let mut answer = ApiGatewayV2httpResponse::default();
    answer.status_code = 200;
    answer.body = Some(EventBody::Text("AP8=".to_owned()));
    answer.is_base64_encoded = true;
    answer.cookies = vec!["a=1".to_owned(), "b=2".to_owned()];
    answer.headers.insert("x-one", "1".parse().unwrap());
    answer.multi_value_headers.append("x-two", "1".parse().unwrap());
    answer.multi_value_headers.append("x-two", "2".parse().unwrap());
    *running.recorder.answer.lock() = Some(answer);
    let response = running.request("POST", "/messages", &b"\xff\x00"[..]).await;
    assert_eq!(response.body().as_ref(), b"\x00\xff");
    let many = |name: &str| {
        response
            .headers()
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(many("set-cookie"), ["a=1", "b=2"]);
    assert_eq!((many("x-one"), many("x-two")), (vec!["1".to_owned()], vec!["1".to_owned(), "2".to_owned()]));
    let (_, event) = running.recorder.http.lock().pop().unwrap();
    assert_eq!((event.body.as_deref(), event.is_base64_encoded), (Some("/wA="), true));
}

#[tokio::test]
async fn refusals_are_problems_with_their_code() {
    let options = GatewayOptions { max_body_bytes: 100, ..GatewayOptions::default() };
    let running = start(options).await;
    let check = |response: &Response<Bytes>, status: u16, code: &str| {
        assert_eq!(response.status(), status, "{response:?}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = json(response);
        assert_eq!((body["status"].as_u64(), body["code"].as_str()), (Some(status.into()), Some(code)));
    };
    check(&running.request("GET", "/nothing", "").await, 404, "not_found");
    check(&running.request("POST", "/messages/", "").await, 404, "not_found");
    let response = running.request("PUT", "/messages", "").await;
    check(&response, 405, "method_not_allowed");
    assert_eq!(response.headers()["allow"], "POST");
    for path in ["/health", "/ws", "/metrics"] {
        let response = running.request("POST", path, "").await;
        check(&response, 405, "method_not_allowed");
        assert!(response.headers()["allow"].to_str().unwrap().contains("GET"), "{response:?}");
    }
    check(&running.request("GET", "/ws", "").await, 400, "invalid_request");
    check(&running.request("POST", "/messages", "x".repeat(101)).await, 413, "content_too_large");
    assert_eq!(running.request("POST", "/messages", "x".repeat(100)).await.status(), 201);
    check(&running.request("POST", "/messages", "panic").await, 500, "internal");

    let mut bad = ApiGatewayV2httpResponse::default();
    bad.status_code = 7;
    *running.recorder.answer.lock() = Some(bad);
    check(&running.request("POST", "/messages", "").await, 500, "internal");

    for authorization in ["", "Bearer", "Bearer ", "Bearer x.y.z", "x.y.z", "Basic YTpi"] {
        let request = Request::get(running.url("/unread")).header("authorization", authorization);
        let response = send(request.body(Full::default()).unwrap()).await;
        check(&response, 401, "unauthorized");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
    let response = send(Request::get(running.url("/unread")).body(Full::default()).unwrap()).await;
    check(&response, 401, "unauthorized");
    // API Gateway's authorizer takes a token without a scheme too.
    let request = Request::get(running.url("/unread")).header("authorization", running.token());
    assert_ne!(send(request.body(Full::default()).unwrap()).await.status(), 401);
}

/// The response to a request, as bytes on the wire.
async fn raw(running: &Running, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(running.gateway.addr()).await.unwrap();
    let token = running.token();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn head_is_answered_as_get_without_the_body() {
    let running = start(GatewayOptions::default()).await;
    let head_of = |answer: String| {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let lines = head.lines().filter(|line| !line.starts_with("date:"));
        (lines.map(str::to_owned).collect::<std::collections::BTreeSet<_>>(), body.to_owned())
    };
    for path in ["/unread", "/conversations/2/messages?limit=1", "/health", "/metrics", "/ws", "/nothing"] {
        let (of_get, body) = head_of(raw(&running, "GET", path).await);
        let (of_head, none) = head_of(raw(&running, "HEAD", path).await);
        assert_eq!(of_head, of_get, "{path}");
        assert!(of_get.contains(&format!("content-length: {}", body.len())), "{path}: {of_get:?}");
        assert_eq!(none, "", "{path}");
    }
    // Functions find the parsed values in the event.
    for (_, event) in running.recorder.http.lock().iter() {
        assert_eq!(event.request_context.http.method, "GET");
        assert!(event.route_key.as_deref().unwrap().starts_with("GET "));
    }
    for (path, allowed) in [("/unread", "GET, HEAD"), ("/health", "GET,HEAD"), ("/messages", "POST")] {
        let response = running.request("PUT", path, "").await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &allowed.parse().unwrap())
        );
    }
    assert_eq!(running.request("HEAD", "/messages", "").await.status(), 405);
    let anonymous = Request::head(running.url("/unread")).body(Full::default()).unwrap();
    assert_eq!(send(anonymous).await.status(), 401);
}

#[tokio::test]
async fn a_function_that_takes_too_long_is_answered_for_and_finishes_all_the_same() {
    let options = GatewayOptions { request_timeout: Duration::from_millis(50), ..GatewayOptions::default() };
    let running = start(options).await;
    running.recorder.held.send_replace(true);
    let response = running.request("POST", "/messages", "").await;
    assert_eq!((response.status().as_u16(), json(&response)["code"].as_str()), (503, Some("unavailable")));
    assert!(response.headers().contains_key("retry-after"));
    running.recorder.held.send_replace(false);
    soon("the stop", running.gateway.stop()).await;
}

#[tokio::test]
async fn a_stop_finishes_what_was_accepted() {
    let running = start(GatewayOptions::default()).await;
    running.recorder.held.send_replace(true);
    let address = running.gateway.addr();
    let request = Request::post(running.url("/messages"))
        .header("authorization", format!("Bearer {}", running.token()))
        .body(Full::from("{}"))
        .unwrap();
    let under_way = tokio::spawn(send(request));
    soon("the request", running.recorder.arrived.subscribe().wait_for(|count| *count == 1)).await.unwrap();
    let stop = tokio::spawn(running.gateway.stop());
    soon("the refusal of new connections", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!stop.is_finished());
    running.recorder.held.send_replace(false);
    assert_eq!(soon("the answer", under_way).await.unwrap().status(), 201);
    soon("the stop", stop).await.unwrap();
}

/// Writes `text` and reads until the other side closes the connection.
async fn talk(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn slow_and_oversized_requests_are_cut() {
    let short = Duration::from_millis(100);
    let options = GatewayOptions { header_timeout: short, body_timeout: short, ..GatewayOptions::default() };
    let running = start(options).await;
    let address = running.gateway.addr();
    talk(address, "GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    talk(address, "").await;
    let big = "x".repeat(20_000);
    let answer = talk(address, &format!("GET /health HTTP/1.1\r\nHost: x\r\nX-Big: {big}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let token = running.token();
    let answer = talk(
        address,
        &format!("POST /messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\n{{"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let answer = talk(address, "nonsense\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_cut_off() {
    let options = GatewayOptions {
        max_connections: 1,
        send_timeout: Duration::from_millis(100),
        ..GatewayOptions::default()
    };
    let running = start(options).await;
    let mut answer = ApiGatewayV2httpResponse::default();
    answer.status_code = 200;
    answer.body = Some(EventBody::Text("x".repeat(16 << 20)));
    *running.recorder.answer.lock() = Some(answer);
    let mut stream = TcpStream::connect(running.gateway.addr()).await.unwrap();
    let request =
        format!("GET /unread HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", running.token());
    stream.write_all(request.as_bytes()).await.unwrap();
    soon("the request", running.recorder.arrived.subscribe().wait_for(|count| *count == 1)).await.unwrap();
    soon("its place is free again", async {
        while talk(running.gateway.addr(), "GET /health HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.1 503") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut read = Vec::new();
    let _ = soon("the end of the connection", stream.read_to_end(&mut read)).await;
    assert!(read.len() < 16 << 20, "the client cannot have read the whole answer");
}

#[tokio::test]
async fn bodies_have_so_much_room_and_give_it_back() {
    let options = GatewayOptions { max_body_bytes: 80, max_bodies_bytes: 100, ..GatewayOptions::default() };
    let running = start(options).await;
    running.recorder.held.send_replace(true);
    let request = Request::post(running.url("/messages"))
        .header("authorization", format!("Bearer {}", running.token()))
        .body(Full::from("x".repeat(60)))
        .unwrap();
    let first = tokio::spawn(send(request));
    soon("the request", running.recorder.arrived.subscribe().wait_for(|count| *count == 1)).await.unwrap();
    let second = running.request("POST", "/messages", "x".repeat(60)).await;
    assert_eq!((second.status().as_u16(), json(&second)["code"].as_str()), (503, Some("unavailable")));
    running.recorder.held.send_replace(false);
    assert_eq!(soon("the answer", first).await.unwrap().status(), 201);
    assert_eq!(running.request("POST", "/messages", "x".repeat(60)).await.status(), 201);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let options = GatewayOptions { max_connections: 1, ..GatewayOptions::default() };
    let running = start(options).await;
    let first = TcpStream::connect(running.gateway.addr()).await.unwrap();
    let answer = talk(running.gateway.addr(), "").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    drop(first);
    soon("a free place", async {
        while talk(running.gateway.addr(), "GET /health HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.1 503") {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn health_names_the_server_that_does_not_answer() {
    let get = async |running: &Running| {
        send(Request::get(running.url("/health")).body(Full::default()).unwrap()).await
    };
    let response = get(&start(GatewayOptions::default()).await).await;
    assert_eq!(response.status(), 200);
    assert_eq!(json(&response)["status"], "ok");
    let response = get(&start_with(GatewayOptions::default(), vec![Server::Kafka]).await).await;
    assert_eq!(response.status(), 503);
    assert_eq!(
        json(&response),
        json!({"status": "unavailable", "servers": {"redis": "ok", "kafka": "unavailable", "mysql": "ok"}})
    );
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("HONGYAN_LISTEN"), "{error}");
}
