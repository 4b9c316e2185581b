//! Reading a JSON value that must be an object.
//!
//! A struct that derives `Deserialize` can also be read from an array of its fields in order: `["2","hi",1]` would be a
//! message to send. Accepting such arrays would make the order of our fields a part of the format, so they are refused.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};

/// Reads `bytes`, which must be a JSON object.
pub fn object_from_slice<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice::<Object<T>>(bytes).map(|Object(value)| value)
}

/// Reads a field that must be an object; for `deserialize_with`.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        b: u8,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        #[serde(deserialize_with = "object")]
        a: Inner,
    }

    #[test]
    fn only_an_object_is_one() {
        let read = |json: &str| object_from_slice::<Outer>(json.as_bytes());
        assert_eq!(read(r#"{"a":{"b":1},"c":[]}"#).unwrap(), Outer { a: Inner { b: 1 } });
        for wrong in [r#"[{"b":1}]"#, r#"{"a":[1]}"#, "[]", "null", "1", r#""a""#, "", r#"{"a":{"b":1}} {}"#]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let error = read("[[1]]").unwrap_err().to_string();
        assert_eq!(error, "invalid type: sequence, expected an object at line 1 column 0");
    }
}
