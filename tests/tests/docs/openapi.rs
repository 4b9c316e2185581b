//! docs/openapi.yaml has the routes, bounds and codes of the code. That the service behaves as it says is tried out by
//! `tests/tests/bad_clients`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use hongyan::error::ApiError;
use hongyan::message::{ClientMessageId, MessageType};
use hongyan_runtime::functions;
use hongyan_runtime::gateway::GatewayOptions;
use hongyan_testkit::yaml;
use serde_json::{Value, json};

static DESCRIPTION: LazyLock<Value> =
    LazyLock::new(|| yaml::read(include_str!("../../../docs/openapi.yaml")));

/// The routes that only the local runtime serves.
const LOCAL: [&str; 4] = ["GET /ws", "GET /health", "GET /ready", "GET /metrics"];

/// Each operation as `METHOD path`.
pub(crate) fn operations() -> BTreeMap<String, &'static Value> {
    let mut operations = BTreeMap::new();
    for (path, item) in DESCRIPTION["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
        {
            operations.insert(format!("{} {path}", method.to_uppercase()), operation);
        }
    }
    operations
}

/// Each error once. The match makes sure that a new one is not forgotten.
fn errors() -> Vec<ApiError> {
    let errors = vec![
        ApiError::InvalidRequest(String::new()),
        ApiError::Unauthorized,
        ApiError::NotSender,
        ApiError::NotFound(""),
        ApiError::MethodNotAllowed,
        ApiError::RecallWindowClosed(Duration::ZERO),
        ApiError::ClientMsgIdConflict,
        ApiError::ContentTooLarge { max_bytes: 0 },
        ApiError::Unavailable(None),
        ApiError::Internal("".into()),
    ];
    for error in &errors {
        match error {
            ApiError::InvalidRequest(_)
            | ApiError::Unauthorized
            | ApiError::NotSender
            | ApiError::NotFound(_)
            | ApiError::MethodNotAllowed
            | ApiError::RecallWindowClosed(_)
            | ApiError::ClientMsgIdConflict
            | ApiError::ContentTooLarge { .. }
            | ApiError::Unavailable(_)
            | ApiError::Internal(_) => {}
        }
    }
    errors
}

/// Follows `$ref`.
fn resolved(node: &'static Value) -> &'static Value {
    match node["$ref"].as_str() {
        Some(reference) => DESCRIPTION.pointer(reference.trim_start_matches('#')).unwrap(),
        None => node,
    }
}

#[test]
fn every_route_is_described_and_wants_a_token() {
    let operations = operations();
    let described: BTreeSet<&str> = operations.keys().map(String::as_str).collect();
    let routes: Vec<String> =
        functions::routes().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    let served: BTreeSet<&str> = routes.iter().map(String::as_str).chain(LOCAL).collect();
    assert_eq!(described, served);
    assert_eq!(DESCRIPTION["security"], json!([{"token": []}]));
    for (name, operation) in operations {
        let open = LOCAL.contains(&name.as_str());
        assert_eq!(operation.get("security").is_some(), open, "{name}");
        let every = ["401", "500", "503"].iter().all(|status| operation["responses"].get(status).is_some());
        assert!(open || every, "{name}");
    }
}

#[test]
fn every_code_is_described_with_its_status() {
    let codes: BTreeSet<&str> = DESCRIPTION["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|code| code.as_str().unwrap())
        .collect();
    let errors = errors();
    assert_eq!(codes, errors.iter().map(ApiError::code).collect());

    let known: BTreeSet<(u64, &str)> =
        errors.iter().map(|error| (u64::from(error.status()), error.code())).collect();
    let mut told = BTreeSet::new();
    for (name, operation) in operations() {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let response = resolved(response);
            let Some(problem) = response["content"].get("application/problem+json") else { continue };
            let fixed = &problem["schema"]["allOf"][1]["properties"];
            let (number, code) =
                (fixed["status"]["const"].as_u64().unwrap(), fixed["code"]["const"].as_str().unwrap());
            assert_eq!(number.to_string(), *status, "{name}");
            assert!(known.contains(&(number, code)), "{name}: {status} {code}");
            assert!(response["description"].as_str().unwrap().starts_with(&format!("`{code}`")), "{name}");
            told.insert((number, code));
        }
    }
    // No operation has it: it is what other methods are answered.
    told.insert((405, "method_not_allowed"));
    assert_eq!(told, known);
}

#[test]
fn the_bounds_are_those_of_the_code() {
    let schemas = &DESCRIPTION["components"]["schemas"];
    let message = &schemas["NewMessage"]["properties"];
    assert_eq!(message["clientMsgId"]["maxLength"], ClientMessageId::MAX_CHARS);
    assert_eq!(message["content"]["maxLength"], super::default_config().im.max_content_bytes);
    for (kind, good) in [(0, false), (1, true), (255, true)] {
        assert_eq!(MessageType::try_from(kind).is_ok(), good);
    }
    assert_eq!((&message["msgType"]["minimum"], &message["msgType"]["maximum"]), (&json!(1), &json!(255)));
    assert_eq!(schemas["IdInBody"]["anyOf"][1]["maximum"], i64::MAX);
    assert_eq!(schemas["Unread"]["properties"]["messageIds"]["maxItems"], hongyan_read::MAX_LISTED);
    assert_eq!(schemas["Page"]["properties"]["messages"]["maxItems"], hongyan_query::MAX_LIMIT);
    let limit = &operations()["GET /conversations/{peerId}/messages"]["parameters"][0]["schema"];
    assert_eq!(limit["maximum"], hongyan_query::MAX_LIMIT);
    assert_eq!(limit["default"], hongyan_query::DEFAULT_LIMIT);
    assert_eq!(schemas["Changes"]["properties"]["changes"]["maxItems"], hongyan_query::MAX_CHANGES);
    let limit = &operations()["GET /conversations/{peerId}/changes"]["parameters"][1]["schema"];
    assert_eq!(limit["maximum"], hongyan_query::MAX_CHANGES);
    assert_eq!(limit["default"], hongyan_query::DEFAULT_CHANGES);
}

/// The limits that the description and docs/operations.md tell in words.
#[test]
fn the_limits_of_the_gateway_are_told() {
    let options = GatewayOptions::default();
    let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    let description = DESCRIPTION["info"]["description"].as_str().unwrap().to_owned()
        + operations()["GET /ws"]["description"].as_str().unwrap();
    let description = description.replace('\n', " ");
    for told in [
        format!("a body of {} MiB", options.max_body_bytes >> 20),
        format!("a head of {}", kib(options.max_header_bytes)),
        format!("{} for a head", seconds(options.header_timeout)),
        format!("{} for a body", seconds(options.body_timeout)),
        format!("{} for an answer", seconds(options.request_timeout)),
        "4,096 connections".to_owned(),
        format!("no message for {} minutes", options.idle_timeout.as_secs() / 60),
        format!("than {} messages in a second", options.messages_per_second),
        format!("a frame above {}", kib(options.max_frame_bytes)),
        format!("a message above {}", kib(options.max_message_bytes)),
    ] {
        assert!(description.contains(&told), "{told}");
    }
    assert_eq!(options.max_connections, 4_096);
}
