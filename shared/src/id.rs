//! The ids of the domain. Each is parsed once, at the edge, and then trusted.
//!
//! Kafka and Redis hold ids as JSON numbers; when reading, decimal strings are accepted too. HTTP answers hold ids as
//! strings, because JavaScript would round them (`docs/contract.md`); [`crate::http`] writes them so.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// A text or number is not an id. The text says what the field must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {wanted}")]
pub struct InvalidId {
    what: &'static str,
    wanted: &'static str,
}

const POSITIVE_I64: &str = "a decimal number from 1 to 9223372036854775807";

/// Parses decimal digits: no sign, no leading zero, no space, so that an id has exactly one spelling.
fn parse_positive(text: &str, what: &'static str) -> Result<i64, InvalidId> {
    let invalid = InvalidId { what, wanted: POSITIVE_I64 };
    if text.is_empty() || text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid);
    }
    text.parse().map_err(|_| invalid)
}

macro_rules! positive_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// The id with this value, which must be 1 to 2^63−1.
            pub fn new(value: i64) -> Result<Self, InvalidId> {
                if value > 0 { Ok(Self(value)) } else { Err(InvalidId { what: $what, wanted: POSITIVE_I64 }) }
            }

            /// The value, from 1 to 2^63−1.
            pub fn get(self) -> i64 {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_positive(text, $what).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_i64(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(NumberOrText($what)).and_then(|value| Self::new(value).map_err(de::Error::custom))
            }
        }
    };
}

positive_id!(
    /// The id of a user, from the `sub` of the caller's JWT: a decimal number from 1 to 2^63−1.
    UserId,
    "a user id"
);

positive_id!(
    /// The id of a message ([`crate::ids`]). The ids of a conversation order its history.
    MessageId,
    "a message id"
);

struct NumberOrText(&'static str);

impl Visitor<'_> for NumberOrText {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as a number or a decimal string", self.0)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
        i64::try_from(value).map_err(|_| E::custom(InvalidId { what: self.0, wanted: POSITIVE_I64 }))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<i64, E> {
        parse_positive(value, self.0).map_err(E::custom)
    }
}

/// The conversation of two users: the smaller id, `_` and the larger id. Users 5 and 3 share `3_5` (`docs/glossary.md`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId {
    lower: UserId,
    higher: UserId,
}

impl ConversationId {
    /// The conversation of `a` and `b`, in either order. An error if they are the same user.
    pub fn between(a: UserId, b: UserId) -> Result<Self, InvalidId> {
        if a == b {
            return Err(InvalidId { what: "a conversation", wanted: "between two different users" });
        }
        Ok(Self::of(a, b))
    }

    /// The conversation of two users who are known to differ.
    pub(crate) fn of(a: UserId, b: UserId) -> Self {
        Self { lower: a.min(b), higher: a.max(b) }
    }

    /// The two users, the lower id first.
    pub fn users(self) -> [UserId; 2] {
        [self.lower, self.higher]
    }

    /// True if `user` is one of the two.
    pub fn has(self, user: UserId) -> bool {
        user == self.lower || user == self.higher
    }

    /// The other of the two users; `None` if `user` is not one of them.
    pub fn peer_of(self, user: UserId) -> Option<UserId> {
        if user == self.lower {
            Some(self.higher)
        } else if user == self.higher {
            Some(self.lower)
        } else {
            None
        }
    }

    /// The Kafka partition of this conversation, as a Java service on the same topic computes it:
    /// `abs(String.hashCode) % partitions` (`docs/contract.md`, "Kafka"). The result is below `partitions`.
    pub fn partition(self, partitions: std::num::NonZeroU16) -> u16 {
        let hash = java_hash_code(&self.to_string());
        // `unsigned_abs` is positive for i32::MIN too, where Java's `Math.abs` stays negative. The remainder is below
        // `partitions`, so it fits.
        u16::try_from(hash.unsigned_abs() % u32::from(partitions.get())).unwrap_or_default()
    }
}

/// Java's `String.hashCode`: `s[0]·31^(n−1) + … + s[n−1]` over UTF-16 units, wrapping at 32 bits.
pub fn java_hash_code(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

impl FromStr for ConversationId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid =
            InvalidId { what: "a conversation id", wanted: "two user ids, the lower first, joined by _" };
        let (lower, higher) = text.split_once('_').ok_or_else(|| invalid.clone())?;
        let (lower, higher) = (lower.parse::<UserId>()?, higher.parse::<UserId>()?);
        if lower < higher { Ok(Self { lower, higher }) } else { Err(invalid) }
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.lower, self.higher)
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConversationId({self})")
    }
}

impl Serialize for ConversationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConversationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use proptest::prelude::*;

    use super::*;

    fn user(value: i64) -> UserId {
        UserId::new(value).unwrap()
    }

    #[test]
    fn an_id_has_one_spelling_and_stays_within_63_bits() {
        assert_eq!("9223372036854775807".parse::<UserId>().unwrap().get(), i64::MAX);
        for wrong in ["", "0", "-1", "+1", "01", " 1", "1 ", "1.0", "9223372036854775808", "abc", "١"] {
            assert!(wrong.parse::<UserId>().is_err(), "{wrong:?} must not be a user id");
        }
    }

    #[test]
    fn ids_are_read_from_numbers_and_strings_and_written_as_numbers() {
        let big = 9_007_199_254_740_993_i64; // 2^53 + 1: a double would round it
        assert_eq!(serde_json::from_str::<MessageId>(&big.to_string()).unwrap().get(), big);
        assert_eq!(serde_json::from_str::<MessageId>(&format!("\"{big}\"")).unwrap().get(), big);
        assert_eq!(serde_json::to_string(&MessageId::new(big).unwrap()).unwrap(), big.to_string());
        for wrong in ["1.5", "-3", "0", "null", "true", "[1]", "\"\"", "9223372036854775808", "1e3"] {
            assert!(serde_json::from_str::<MessageId>(wrong).is_err(), "{wrong} must not be a message id");
        }
    }

    #[test]
    fn both_directions_share_one_conversation() {
        let conversation = ConversationId::between(user(5), user(3)).unwrap();
        assert_eq!(conversation.to_string(), "3_5");
        assert_eq!(conversation, ConversationId::between(user(3), user(5)).unwrap());
        assert!(ConversationId::between(user(3), user(3)).is_err());
    }

    /// Each hash was worked out by hand from the definition of `String.hashCode`.
    #[test]
    fn partitions_are_those_of_java() {
        // "1_2": 49·961 + 95·31 + 50 = 50084; "3_5": 51·961 + 95·31 + 53 = 52009.
        assert_eq!(java_hash_code("1_2"), 50_084);
        assert_eq!(java_hash_code("3_5"), 52_009);
        // A hash that wraps to below zero, worked out with arbitrary precision: Σ s[i]·31^(n−1−i) mod 2^32.
        for id in ["1000_2000", "123456789_987654321", "1_9223372036854775807", "7_4611686018427387904"] {
            let exact = id.bytes().fold(0_i128, |hash, byte| (hash * 31 + i128::from(byte)) % (1_i128 << 32));
            let wrapped = if exact >= 1_i128 << 31 { exact - (1_i128 << 32) } else { exact };
            assert_eq!(i128::from(java_hash_code(id)), wrapped, "{id}");
        }
        let ten = NonZeroU16::new(10).unwrap();
        assert_eq!("1_2".parse::<ConversationId>().unwrap().partition(ten), 4);
        assert_eq!("3_5".parse::<ConversationId>().unwrap().partition(ten), 9);
    }

    proptest! {
        #[test]
        fn conversation_ids_round_trip(a in 1..i64::MAX, b in 1..i64::MAX) {
            prop_assume!(a != b);
            let conversation = ConversationId::between(user(a), user(b)).unwrap();
            prop_assert_eq!(conversation.to_string().parse::<ConversationId>().unwrap(), conversation);
            prop_assert!(conversation.partition(NonZeroU16::new(10).unwrap()) < 10);
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".*") {
            let _ = text.parse::<MessageId>();
            let _ = text.parse::<ConversationId>();
        }

        /// A text that can be read is written the same again: an id has exactly one spelling.
        #[test]
        fn an_id_that_is_read_is_written_as_it_was(text in "[0-9+\\-_ .]{0,21}|[0-9]{1,20}|[0-9]{1,19}_[0-9]{1,19}") {
            let from_json = serde_json::from_str::<MessageId>(&format!("\"{text}\""));
            if let Ok(id) = text.parse::<MessageId>() {
                prop_assert_eq!(id.to_string(), text.clone());
                prop_assert_eq!(from_json.unwrap(), id);
            } else {
                prop_assert!(from_json.is_err());
            }
            if let Ok(conversation) = text.parse::<ConversationId>() {
                prop_assert_eq!(conversation.to_string(), text);
            }
        }
    }
}
