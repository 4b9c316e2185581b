//! A log that an outage does not flood: of a warning that repeats, one line a second is written, with the number of those left
//! out before it.
//!
//! A line of a recorded trace is always written: such traces are few. Each line names the trace of its work (`traceId`).
//!
//! The kind of a line is its place in the code. Errors are always written: each names a message, record or key that a person
//! must look at.

use std::fmt;
use std::time::Duration;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::limiter::Limiter;
use crate::trace::{self, TraceId};

/// The shortest time between two lines of one kind.
const EVERY: Duration = Duration::from_secs(1);

/// The field with the number of lines that were left out.
const LEFT_OUT: &str = "left_out";

/// The field with the id of the trace.
pub(crate) const TRACE_ID: &str = "traceId";

/// The form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object.
    Json,
    /// Words, with fields at the end.
    Text,
}

/// A format that leaves lines out.
pub(super) struct Sparing<F> {
    inner: F,
    form: Form,
    limiter: Limiter,
}

impl<F> Sparing<F> {
    pub(super) fn new(inner: F, form: Form) -> Self {
        Self { inner, form, limiter: Limiter::new(EVERY) }
    }
}

impl<S, N, F> FormatEvent<S, N> for Sparing<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let place = event.metadata();
        let trace = trace::current();
        let mut left_out = 0;
        if *place.level() == Level::WARN && !trace.is_some_and(trace::Trace::is_recorded) {
            let kind = format!("{}:{}", place.file().unwrap_or_default(), place.line().unwrap_or_default());
            let Some(before) = self.limiter.admit(&kind) else { return Ok(()) };
            left_out = before;
        }
        if left_out == 0 && trace.is_none() {
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::new();
        let inner = Writer::new(&mut line);
        self.inner.format_event(context, inner, event)?;
        if let Some(trace) = trace {
            line = self.form.with_trace(&line, trace.id());
        }
        if left_out > 0 {
            line = self.form.with_count(&line, left_out);
        }
        writer.write_str(&line)
    }
}

impl Form {
    fn with_trace(self, line: &str, id: TraceId) -> String {
        match (self, line.strip_prefix('{')) {
            (Self::Json, Some(rest)) => format!("{{\"{TRACE_ID}\":\"{id}\",{rest}"),
            _ => format!("{} {TRACE_ID}={id}\n", line.trim_end_matches('\n')),
        }
    }

    fn with_count(self, line: &str, left_out: u64) -> String {
        match (self, line.strip_prefix('{')) {
            (Self::Json, Some(rest)) => format!("{{\"{LEFT_OUT}\":{left_out},{rest}"),
            _ => format!("{} {LEFT_OUT}={left_out}\n", line.trim_end_matches('\n')),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    fn warn(number: usize) {
        tracing::warn!(number, "a store is away");
    }

    #[test]
    fn a_warning_that_repeats_is_written_once_a_second_and_errors_always() {
        let sink = Sink::default();
        let written = sink.clone();
        let format = tracing_subscriber::fmt::format().json().flatten_event(true);
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
            .event_format(Sparing::new(format, Form::Json))
            .with_writer(move || written.clone())
            .finish();

        tracing::subscriber::with_default(subscriber, || {
            (0..1_000).for_each(warn);
            tracing::warn!("another kind");
            for _ in 0..2 {
                tracing::error!("a dead letter");
            }
            // The loop ends: a second later the next line is written.
            while sink.lines().len() < 5 {
                warn(1_000);
                std::thread::yield_now();
            }
        });

        let lines: Vec<Value> = sink.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(
            messages,
            ["a store is away", "another kind", "a dead letter", "a dead letter", "a store is away"]
        );
        assert_eq!((&lines[0]["number"], &lines[0][LEFT_OUT]), (&0.into(), &Value::Null));
        assert!(lines[4][LEFT_OUT].as_u64().unwrap() >= 999, "{}", lines[4]);
    }

    #[test]
    fn the_trace_is_a_field_of_either_form() {
        let id = TraceId::parse("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        let json = Form::Json.with_trace("{\"a\":1}\n", id);
        assert_eq!(json, "{\"traceId\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"a\":1}\n");
        let text = Form::Text.with_trace("WARN a b=1\n", id);
        assert_eq!(text, "WARN a b=1 traceId=4bf92f3577b34da6a3ce929d0e0e4736\n");
    }

    #[test]
    fn the_count_is_a_field_of_either_form() {
        assert_eq!(Form::Json.with_count("{\"a\":1}\n", 7), "{\"left_out\":7,\"a\":1}\n");
        assert_eq!(Form::Text.with_count("WARN a b=1\n", 7), "WARN a b=1 left_out=7\n");
    }
}
