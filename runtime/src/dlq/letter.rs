//! One dead letter, and how it is shown to an operator.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use aws_lambda_events::encodings::MillisecondTimestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hongyan::clock::TimestampMs;
use hongyan::queue::dead_letter::{ERROR, FAILED_AT, ORIGINAL_OFFSET, ORIGINAL_PARTITION, ORIGINAL_TOPIC};
use hongyan::trace::{TRACEPARENT, Trace, TraceId};
use rdkafka::message::{Headers as _, Message};
use serde_json::{Value, json};

/// Selects dead letters. A letter must match every field that is set.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this partition of the dead-letter topic.
    pub partition: Option<i32>,
    /// Only this offset of the dead-letter topic.
    pub offset: Option<i64>,
    /// Only letters whose reason contains this text, in upper or lower case.
    pub error: Option<String>,
    /// Only letters put aside at this time or later, ms since 1970 UTC.
    pub since: Option<TimestampMs>,
    /// Include letters that were sent back already.
    pub redriven: bool,
}

impl Filter {
    pub(super) fn admits(&self, letter: &Letter) -> bool {
        self.partition.is_none_or(|partition| partition == letter.partition)
            && self.offset.is_none_or(|offset| offset == letter.offset)
            && self.since.is_none_or(|since| letter.time() >= since)
            && (self.redriven || !letter.redriven)
            && self.error.as_ref().is_none_or(|text| {
                let error = letter.text(ERROR).unwrap_or_default();
                error.to_lowercase().contains(&text.to_lowercase())
            })
    }
}

/// One record of the dead-letter topic. `{}` prints it in one line, `{:#}` in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// The offset in that partition.
    pub offset: i64,
    /// The timestamp of the record in Kafka, ms since 1970 UTC.
    pub timestamp: TimestampMs,
    /// The key of the original record.
    pub key: Option<Vec<u8>>,
    /// The value of the original record.
    pub value: Option<Vec<u8>>,
    /// All headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// True if the letter was sent back already.
    pub redriven: bool,
}

impl Letter {
    pub(super) fn new(record: &impl Message, redriven: bool) -> Self {
        Self {
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp().to_millis().unwrap_or_default(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.payload().map(<[u8]>::to_vec),
            headers: record
                .headers()
                .map(|headers| {
                    headers
                        .iter()
                        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                        .collect()
                })
                .unwrap_or_default(),
            redriven,
        }
    }

    /// The value of a header, as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// The reason why the consumer put the record aside.
    pub fn error(&self) -> &str {
        self.text(ERROR).unwrap_or("no reason given")
    }

    /// The time when the consumer put the record aside, ms since 1970 UTC.
    pub fn time(&self) -> TimestampMs {
        self.text(FAILED_AT).and_then(|text| text.parse().ok()).unwrap_or(self.timestamp)
    }

    /// The place of the original record: topic, partition, offset. `None` if the headers do not say it.
    pub fn origin(&self) -> Option<(&str, i32, i64)> {
        let topic = self.text(ORIGINAL_TOPIC).filter(|topic| !topic.is_empty())?;
        let partition = self.text(ORIGINAL_PARTITION)?.parse().ok().filter(|partition| *partition >= 0)?;
        Some((topic, partition, self.text(ORIGINAL_OFFSET)?.parse().ok()?))
    }

    /// The id of the record's trace, if the headers have one.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.text(TRACEPARENT).and_then(Trace::parse).map(Trace::id)
    }

    /// The whole letter as a JSON object, for a program. Bytes that are not UTF-8 become `{"base64":"…"}`.
    pub fn to_json(&self) -> Value {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": bytes(value.as_deref()) }));
        let origin = self.origin().map(
            |(topic, partition, offset)| json!({ "topic": topic, "partition": partition, "offset": offset }),
        );
        json!({
            "partition": self.partition,
            "offset": self.offset,
            "failedAt": self.time(),
            "origin": origin,
            "error": self.error(),
            "traceId": self.trace_id(),
            "redriven": self.redriven,
            "key": bytes(self.key.as_deref()),
            "value": bytes(self.value.as_deref()),
            "headers": headers.collect::<Value>(),
        })
    }

    fn whole(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "partition  {}", self.partition)?;
        writeln!(f, "offset     {}", self.offset)?;
        writeln!(f, "put aside  {}", shown_time(self.time()))?;
        writeln!(f, "sent back  {}", if self.redriven { "yes" } else { "no" })?;
        if let Some(id) = self.trace_id() {
            writeln!(f, "trace      {id}")?;
        }
        writeln!(f, "key        {}", shown(self.key.as_deref()))?;
        for (name, value) in &self.headers {
            writeln!(f, "header     {name}: {}", shown(value.as_deref()))?;
        }
        let value = self.value.as_deref();
        match value.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok()) {
            Some(json) => write!(f, "value\n{json:#}"),
            None => write!(f, "value (not JSON)\n{}", shown(value)),
        }
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return self.whole(f);
        }
        write!(f, "{}/{}  {}  from ", self.partition, self.offset, shown_time(self.time()))?;
        match self.origin() {
            Some((topic, partition, offset)) => write!(f, "{topic}/{partition}/{offset}")?,
            None => f.write_str("unknown")?,
        }
        let size = self.value.as_ref().map_or(0, Vec::len);
        write!(f, "  key {}  {size} bytes", shown(self.key.as_deref()))?;
        if self.redriven {
            f.write_str("  sent back")?;
        }
        write!(f, "  {}", self.error().escape_debug())
    }
}

/// Bytes as a JSON value, for a program.
fn bytes(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// Bytes for a terminal: as text if they are UTF-8, with control characters escaped.
fn shown(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "none".to_owned(),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.escape_debug().to_string(),
            Err(_) => bytes.escape_ascii().to_string(),
        },
    }
}

fn shown_time(ms: TimestampMs) -> String {
    let elapsed = Duration::from_millis(u64::try_from(ms).unwrap_or_default().min(MAX_TIME_MS));
    MillisecondTimestamp((UNIX_EPOCH + elapsed).into()).to_rfc3339()
}

/// The end of the year 9999.
const MAX_TIME_MS: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        Letter {
            partition: 0,
            offset: 17,
            timestamp: 5,
            key: Some(b"1_2".to_vec()),
            value: Some(b"{\"a\":[1]}".to_vec()),
            headers: vec![
                header("error", "missing field `action`\u{1b}[31m"),
                header("original-topic", "im-message-private"),
                header("original-partition", "4"),
                header("original-offset", "41"),
                header("failed-at", "1732723200000"),
                header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
            ],
            redriven: false,
        }
    }

    #[test]
    fn a_letter_is_one_line_without_control_characters_or_a_page() {
        let letter = letter();
        assert_eq!(
            letter.to_string(),
            "0/17  2024-11-27T16:00:00+00:00  from im-message-private/4/41  key 1_2  9 bytes  missing field \
             `action`\\u{1b}[31m"
        );
        let page = format!("{letter:#}");
        assert!(page.ends_with("value\n{\n  \"a\": [\n    1\n  ]\n}"), "{page}");
        assert!(page.contains("header     original-offset: 41\n"), "{page}");
        assert!(page.contains("trace      4bf92f3577b34da6a3ce929d0e0e4736\n"), "{page}");
    }

    #[test]
    fn a_program_gets_all_of_a_letter() {
        let mut letter = letter();
        letter.key = Some(vec![0xff]);
        let shown = letter.to_json();
        assert_eq!(shown["origin"], json!({ "topic": "im-message-private", "partition": 4, "offset": 41 }));
        assert_eq!((&shown["value"], &shown["key"]), (&json!("{\"a\":[1]}"), &json!({ "base64": "/w==" })));
        assert_eq!((&shown["failedAt"], &shown["redriven"]), (&json!(1_732_723_200_000_i64), &json!(false)));
        assert_eq!(shown["headers"][3], json!({ "name": "original-offset", "value": "41" }));
        assert_eq!(shown["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        letter.value = None;
        assert_eq!(letter.to_json()["value"], Value::Null);
    }

    #[test]
    fn every_part_of_a_filter_must_match() {
        let letter = letter();
        let filter = Filter {
            partition: Some(0),
            offset: Some(17),
            error: Some("MISSING".to_owned()),
            since: Some(1_732_723_200_000),
            redriven: false,
        };
        assert!(filter.admits(&letter) && Filter::default().admits(&letter));
        for other in [
            Filter { partition: Some(1), ..filter.clone() },
            Filter { offset: Some(16), ..filter.clone() },
            Filter { error: Some("clash".to_owned()), ..filter.clone() },
            Filter { since: Some(1_732_723_200_001), ..filter.clone() },
        ] {
            assert!(!other.admits(&letter), "{other:?}");
        }
        assert!(!filter.admits(&Letter { redriven: true, ..letter }));
    }
}
