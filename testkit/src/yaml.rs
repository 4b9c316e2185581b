//! Reads YAML as JSON values, for tests of files.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};

/// The first document. `!Ref x` becomes `{"Ref": "x"}`; other tags are treated alike.
pub fn read(source: &str) -> Value {
    value(&Yaml::load_from_str(source).expect("it is YAML")[0])
}

fn value(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Mapping(mapping) => {
            let entry = |(key, inner): (&Yaml<'_>, &Yaml<'_>)| {
                (key.as_str().expect("keys are text").to_owned(), value(inner))
            };
            Value::Object(mapping.iter().map(entry).collect::<Map<_, _>>())
        }
        Yaml::Sequence(items) => items.iter().map(value).collect(),
        Yaml::Tagged(tag, inner) => json!({ tag.suffix.clone(): value(inner) }),
        Yaml::Value(Scalar::Integer(number)) => json!(number),
        Yaml::Value(Scalar::FloatingPoint(number)) => json!(number.0),
        Yaml::Value(Scalar::Boolean(yes)) => json!(yes),
        Yaml::Value(Scalar::String(text)) => json!(text),
        Yaml::Value(Scalar::Null) => Value::Null,
        other => panic!("unexpected YAML: {other:?}"),
    }
}
