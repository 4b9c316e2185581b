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
        ApiError::Blocked,
        ApiError::TooManyBlocks(1),
        ApiError::RateLimited { retry_after: Duration::ZERO },
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
            | ApiError::Blocked
            | ApiError::TooManyBlocks(_)
            | ApiError::RateLimited { .. }
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
        let every = ["401", "403", "404", "413", "429", "500", "503"]
            .iter()
            .all(|status| operation["responses"].get(status).is_some());
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
    // No operation has this code: it answers other methods.
    told.insert((405, "method_not_allowed"));
    assert_eq!(told, known);
}

/// Each schema of the description, with the place where it stands.
fn walk(place: &str, node: &'static Value, visit: &mut dyn FnMut(&str, &'static Value)) {
    visit(place, node);
    match node {
        Value::Object(members) => {
            members.iter().for_each(|(name, inner)| walk(&format!("{place}/{name}"), inner, visit));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, inner)| walk(&format!("{place}/{index}"), inner, visit));
        }
        _ => {}
    }
}

/// Generators read no type from a constant, and a client with closed answers would break with the next field.
#[test]
fn generators_are_told_types_and_take_new_fields() {
    let mut fixed = 0;
    walk("", &DESCRIPTION, &mut |place, node| {
        for keyword in ["const", "enum"] {
            if node.get(keyword).is_some() {
                assert!(node["type"].is_string(), "{place} has `{keyword}` without `type`");
                fixed += 1;
            }
        }
        assert!(node.get("additionalProperties") != Some(&json!(false)), "{place} refuses new fields");
    });
    assert!(fixed > 20, "only {fixed} constants were found");
}

/// API Gateway answers these by itself, in its own form.
#[test]
fn answers_of_api_gateway_are_described() {
    let own = json!({ "$ref": "#/components/schemas/GatewayAnswer" });
    for (name, operation) in operations() {
        if LOCAL.contains(&name.as_str()) {
            continue;
        }
        for status in ["401", "403", "404", "413", "429", "500", "503"] {
            let response = resolved(&operation["responses"][status]);
            assert_eq!(response["content"]["application/json"]["schema"], own, "{name}: {status}");
        }
    }
    assert!(DESCRIPTION["servers"][1]["url"].as_str().unwrap().ends_with(".amazonaws.com"));
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
    let id = hongyan_testkit::description::validator("openapi.yaml#/components/schemas/Id");
    for (text, good) in [("0", false), ("01", false), ("1", true), ("9223372036854775808", false)] {
        assert_eq!(id.is_valid(&json!(text)), good, "{text}");
    }
    assert!(id.is_valid(&json!(i64::MAX.to_string())));
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
