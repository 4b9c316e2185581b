//! Validators of JSON, made from the schemas of `docs/openapi.yaml`, `docs/asyncapi.yaml` and `docs/schemas/`.

use std::error::Error;
use std::path::Path;

use jsonschema::{Draft, Retrieve, Uri, Validator};
use serde_json::{Value, json};

use crate::yaml;

/// Stands for the folder `docs/` in the addresses of its files.
const DOCS: &str = "docs:///";

/// A validator of the schema at `place`: a file of `docs/` and the place in it, such as
/// `openapi.yaml#/components/schemas/Message`.
pub fn validator(place: &str) -> Validator {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_retriever(Files)
        .build(&json!({ "$ref": format!("{DOCS}{place}") }))
        .expect("docs/ has this schema, and every schema that it refers to")
}

/// A file of `docs/`, YAML or JSON.
pub fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).expect("the file is JSON")
    } else {
        yaml::read(&text)
    }
}

/// Asserts that `value` is as the schema at `place` says.
pub fn assert_valid(place: &str, value: &Value) {
    let validator = validator(place);
    let faults: Vec<String> = validator.iter_errors(value).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{value} is not {place}: {}", faults.join("; "));
}

/// Reads the files that schemas refer to.
struct Files;

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let name = uri.as_str().strip_prefix(DOCS).ok_or("a schema outside docs/")?;
        Ok(read(name))
    }
}
