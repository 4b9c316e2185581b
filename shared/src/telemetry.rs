//! Logs and metrics.
//!
//! A log line says what happened, to which key or partition, and what happens next. Spans have dotted names
//! (`cache.send`, `store.persist`). Metrics go through the facade of the crate `metrics`, and the process decides where
//! they end: CloudWatch's embedded metric format in Lambda, Prometheus in the local runtime.

pub mod build;
pub mod emf;
pub mod limiter;
pub mod metric;
mod output;
pub mod responses;
mod sparing;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format;
use tracing_subscriber::fmt::format::JsonFields;

use output::Terminal;
pub use output::copy_to;
use sparing::{Form, Sparing};

/// The destination of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// JSON lines on standard output, with the request id and the trace id of the invocation. Lambda hands them to
    /// CloudWatch.
    Lambda,
    /// Readable lines on standard error.
    Local,
}

/// A log level or filter is invalid.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{variable} must be a level (error, warn, info, debug, trace) or a filter such as hongyan=debug,info: {reason}"
)]
pub struct BadFilter {
    variable: &'static str,
    reason: String,
}

/// The variables that set the log level, in order: the first that is set counts. The last one is Lambda's own.
const FILTERS: [&str; 3] = ["RUST_LOG", "LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL"];

/// The client of a Redis Cluster warns of each connection that it cannot open, several times per request. The code that
/// handles the request logs the consequence once, so these warnings are off at the levels `info` and `warn`, and on at
/// `debug` or with a filter that names modules.
const QUIET: &str = "redis=error";

/// Sets up the logs of this process. Only the first call does anything; later calls return its result.
pub fn init(output: Output) -> Result<(), BadFilter> {
    static DONE: OnceLock<Result<(), BadFilter>> = OnceLock::new();
    DONE.get_or_init(|| {
        let filter = filter(|name| std::env::var(name).ok())?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter);
        let form = format().with_target(false);
        // A process that has a subscriber already keeps it: a test may have its own.
        let _ = match output {
            Output::Lambda => {
                let form = form.json().flatten_event(true).with_current_span(true).with_span_list(true);
                let fields = JsonFields::new();
                builder.fmt_fields(fields).event_format(Sparing::new(form, Form::Json)).try_init()
            }
            Output::Local => {
                let ansi = std::io::stderr().is_terminal();
                let form = Sparing::new(form.compact().with_ansi(ansi), Form::Text);
                builder.with_ansi(ansi).with_writer(Terminal::default).event_format(form).try_init()
            }
        };
        metric::describe();
        Ok(())
    })
    .clone()
}

fn filter(lookup: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, BadFilter> {
    let set = FILTERS.into_iter().find_map(|variable| {
        let value = lookup(variable).filter(|value| !value.is_empty())?;
        Some((variable, value))
    });
    let Some((variable, value)) = set else {
        return Ok(EnvFilter::new(format!("info,{QUIET}")));
    };
    let value = if ["info", "warn"].contains(&value.as_str()) { format!("{value},{QUIET}") } else { value };
    EnvFilter::builder().parse(&value).map_err(|error| BadFilter { variable, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn with(settings: &'static [(&'static str, &'static str)]) -> Result<String, BadFilter> {
        filter(|name| {
            let found = settings.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_owned())
        })
        .map(|filter| filter.to_string())
    }

    #[test]
    fn the_first_variable_that_is_set_counts() {
        let directives = |filter: String| filter.split(',').map(str::to_owned).collect::<BTreeSet<_>>();
        let expected = ["info", QUIET].map(str::to_owned).into();
        assert_eq!(directives(with(&[]).unwrap()), expected);
        assert_eq!(directives(with(&[("LOG_LEVEL", "info")]).unwrap()), expected);
        assert_eq!(with(&[("LOG_LEVEL", "debug"), ("RUST_LOG", "")]).unwrap(), "debug");
        assert_eq!(with(&[("LOG_LEVEL", "debug"), ("RUST_LOG", "hongyan=warn")]).unwrap(), "hongyan=warn");
        assert_eq!(with(&[("AWS_LAMBDA_LOG_LEVEL", "ERROR")]).unwrap(), "error");
    }

    #[test]
    fn a_bad_filter_names_its_variable() {
        let error = with(&[("LOG_LEVEL", "hongyan=loud")]).unwrap_err();
        assert!(error.to_string().starts_with("LOG_LEVEL "), "{error}");
    }
}
