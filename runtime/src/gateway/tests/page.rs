//! Tests of the chat page and of its tokens.

use serde_json::json;

use super::*;

const FILES: [(&str, &str); 4] = [
    ("/", "text/html; charset=utf-8"),
    ("/app.js", "text/javascript; charset=utf-8"),
    ("/app.css", "text/css; charset=utf-8"),
    ("/icon.svg", "image/svg+xml"),
];

async fn get(running: &Running, path: &str) -> Response<Bytes> {
    send(Request::get(running.url(path)).body(Full::default()).unwrap()).await
}

/// Asks for a token of user 7, under the name `host` if one is given.
async fn ask_for_token(running: &Running, host: Option<&str>, kind: &str) -> Response<Bytes> {
    let mut request = Request::post(running.url("/dev/token")).header("content-type", kind);
    if let Some(host) = host {
        request = request.header("host", host);
    }
    send(request.body(Full::from(json!({"userId": "7"}).to_string())).unwrap()).await
}

#[tokio::test]
async fn the_page_runs_its_own_scripts_alone() {
    let running = start(GatewayOptions { page: Page::Plain, ..GatewayOptions::default() }).await;

    for (path, kind) in FILES {
        let answer = get(&running, path).await;

        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &kind.parse().unwrap())
        );
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers()["cache-control"], "no-cache");
        assert!(!answer.body().is_empty());
    }
    let html = String::from_utf8(get(&running, "/").await.body().to_vec()).unwrap();
    assert!(
        !html.contains("http://") && !html.contains("https://"),
        "nothing comes from another origin: {html}"
    );
    assert!(running.recorder.http.lock().is_empty(), "no function is asked");
}

#[tokio::test]
async fn a_page_of_this_machine_gets_tokens_and_another_name_does_not() {
    let running = start(GatewayOptions { page: Page::WithTokens, ..GatewayOptions::default() }).await;

    let answer = ask_for_token(&running, None, "application/json").await;

    assert_eq!(answer.status(), 200);
    let token = json(&answer)["token"].as_str().unwrap().to_owned();
    let request = Request::get(running.url("/unread")).header("authorization", format!("Bearer {token}"));
    assert_eq!(send(request.body(Full::default()).unwrap()).await.status(), 201, "the token is good");
    for host in ["evil.example", "evil.example:8080", "localhost.evil.example"] {
        assert_eq!(ask_for_token(&running, Some(host), "application/json").await.status(), 404, "{host}");
    }
    // A page of another origin may send this kind without a preflight.
    assert_eq!(ask_for_token(&running, None, "text/plain").await.status(), 415);
}

#[tokio::test]
async fn without_the_page_or_its_tokens_their_paths_do_not_exist() {
    let plain = start(GatewayOptions { page: Page::Plain, ..GatewayOptions::default() }).await;
    let none = start(GatewayOptions::default()).await;

    for running in [&plain, &none] {
        assert_eq!(ask_for_token(running, None, "application/json").await.status(), 404);
    }
    for (path, _) in FILES {
        assert_eq!(get(&none, path).await.status(), 404, "{path}");
    }
}
