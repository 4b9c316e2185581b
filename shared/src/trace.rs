//! Traces: one id that follows a request to the log, to Kafka, to the consumer, to MySQL and to pushes.
//!
//! The form is that of W3C's header `traceparent`. The trace of the running work is a task-local value: log lines,
//! problems, records and pushes read it there, so that no function hands it on. Work in another task has no trace until
//! somebody gives it one. A trace that is *recorded* also writes a log line at each stage; the number of recorded traces is
//! bounded, since callers decide which of their requests ask for it (`docs/decisions/0055-traces.md`).

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Serialize, Serializer};

/// The header with the trace: of HTTP requests, of Kafka's records, of dead letters and of calls to `@connections`.
pub const TRACEPARENT: &str = "traceparent";

/// The header in which AWS names a trace of X-Ray.
pub const XRAY: &str = "x-amzn-trace-id";

/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// The most traces that a comment in a statement names. A batch may hold 500.
const MOST_IN_A_COMMENT: usize = 8;

/// The bit of the flags by which a caller asks that the trace is recorded.
const SAMPLED: u8 = 1;

/// How many traces a process records in a second: of those that callers ask for, of those that it makes itself, and of
/// those that come as records of Kafka.
static ASKED: Allowance = Allowance::new(20);
static MADE: Allowance = Allowance::new(1);
static RECORDS: Allowance = Allowance::new(50);

tokio::task_local! {
    /// The trace of the running work.
    static CURRENT: Trace;
    /// The recorded traces of a batch, for the comment of its transaction.
    static BATCH: Vec<Trace>;
}

/// The id of a trace: 32 hex digits, and never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// Reads 32 lower-case hex digits that are not all zero.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(NonZeroU128::new(hex(text, 32)?)?))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The place of a piece of work in a trace. `{}` prints the header `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: TraceId,
    /// The piece of work, as the next one names its parent.
    span: NonZeroU64,
    recorded: bool,
}

impl Trace {
    /// Reads a `traceparent` by W3C's rules: version, trace id, parent id and flags in lower-case hex. A later version
    /// may have more behind them. `None` if the header is malformed.
    pub fn parse(header: &str) -> Option<Self> {
        let version = hex(header.get(..2)?, 2)?;
        let rest = header.get(LENGTH..)?;
        let is_whole = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        if version == 0xff || !is_whole || [2, 35, 52].iter().any(|&at| header.as_bytes()[at] != b'-') {
            return None;
        }
        let span = u64::try_from(hex(header.get(36..52)?, 16)?).ok()?;
        let flags = u8::try_from(hex(header.get(53..LENGTH)?, 2)?).ok()?;
        Some(Self {
            id: TraceId::parse(header.get(3..35)?)?,
            span: NonZeroU64::new(span)?,
            recorded: flags & SAMPLED != 0,
        })
    }

    /// Reads a header of X-Ray, `Root=1-{8 digits}-{24 digits};Parent={16 digits};Sampled=1`. Only the root is needed.
    pub fn parse_xray(header: &str) -> Option<Self> {
        let field = |name: &str| header.split(';').find_map(|part| part.trim().strip_prefix(name));
        let (time, random) = field("Root=1-")?.split_once('-')?;
        let id = (hex(time, 8)? << 96) | hex(random, 24)?;
        let span = field("Parent=").and_then(|span| u64::try_from(hex(span, 16)?).ok());
        Some(Self {
            id: TraceId(NonZeroU128::new(id)?),
            span: span.and_then(NonZeroU64::new).unwrap_or_else(new_span),
            recorded: field("Sampled=") == Some("1"),
        })
    }

    /// A new trace. One in a second is recorded.
    pub fn new() -> Self {
        Self { id: TraceId(new_id()), span: new_span(), recorded: MADE.take() }
    }

    /// A new trace that is recorded, for rare work that a person will look for.
    pub fn recorded() -> Self {
        Self { recorded: true, ..Self::new() }
    }

    /// The trace of a request with these headers: of `traceparent`, else of X-Ray, else a new one.
    pub fn of_request(traceparent: Option<&str>, xray: Option<&str>) -> Self {
        let given = traceparent.and_then(Self::parse).or_else(|| xray.and_then(Self::parse_xray));
        given.unwrap_or_default()
    }

    /// The trace at the first process that sees a request: the caller's wish to be recorded counts only within the
    /// allowance of this process.
    #[must_use]
    pub fn admitted(self) -> Self {
        self.within(&ASKED)
    }

    /// The trace of a record of Kafka with this header.
    pub fn of_record(header: &[u8]) -> Option<Self> {
        Some(Self::parse(std::str::from_utf8(header).ok()?)?.within(&RECORDS))
    }

    fn within(self, allowance: &Allowance) -> Self {
        Self { recorded: self.recorded && allowance.take(), ..self }
    }

    /// The next piece of work of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: new_span(), ..self }
    }

    /// The id that finds the whole trace.
    pub fn id(self) -> TraceId {
        self.id
    }

    /// True if each stage writes a log line.
    pub fn is_recorded(self) -> bool {
        self.recorded
    }

    /// The header of X-Ray for this trace.
    pub fn xray(self) -> String {
        let id = self.id.to_string();
        format!("Root=1-{}-{}", &id[..8], &id[8..])
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.id, self.span, u8::from(self.recorded))
    }
}

/// The trace of the running work.
pub fn current() -> Option<Trace> {
    CURRENT.try_with(|trace| *trace).ok()
}

/// True if the running work belongs to a recorded trace, so that a stage writes its line.
pub fn is_recorded() -> bool {
    CURRENT.try_with(|trace| trace.recorded).unwrap_or_default()
}

/// Runs `work` in `trace`.
pub async fn scope<T>(trace: Trace, work: impl Future<Output = T>) -> T {
    CURRENT.scope(trace, work).await
}

/// Runs `work`, which does not wait, in `trace`; without a trace in that of the caller.
pub fn with<T>(trace: Option<Trace>, work: impl FnOnce() -> T) -> T {
    match trace {
        Some(trace) => CURRENT.sync_scope(trace, work),
        None => work(),
    }
}

/// Runs `work` on a batch. Its transaction names the recorded ones of `traces`.
pub async fn batch<T>(traces: impl Iterator<Item = Trace>, work: impl Future<Output = T>) -> T {
    let recorded = traces.filter(|trace| trace.recorded).take(MOST_IN_A_COMMENT).collect();
    BATCH.scope(recorded, work).await
}

/// The recorded traces of the running work, for a comment in a statement; `None` if there are none. Hex digits, hyphens and
/// commas only.
pub fn for_comment() -> Option<String> {
    let of_batch = BATCH.try_with(|traces| traces.iter().map(Trace::to_string).collect::<Vec<_>>().join(","));
    let of_batch = of_batch.ok().filter(|traces| !traces.is_empty());
    of_batch.or_else(|| current().filter(|trace| trace.recorded).map(|trace| trace.to_string()))
}

/// Exactly `digits` lower-case hex digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != digits || !is_hex {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

fn new_id() -> NonZeroU128 {
    NonZeroU128::new(rand::random()).unwrap_or(NonZeroU128::MIN)
}

fn new_span() -> NonZeroU64 {
    NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN)
}

/// So many in a second.
struct Allowance {
    a_second: u64,
    /// The second, and how many it has had, in the lower half.
    taken: AtomicU64,
}

impl Allowance {
    const fn new(a_second: u64) -> Self {
        Self { a_second, taken: AtomicU64::new(0) }
    }

    fn take(&self) -> bool {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        self.take_at(START.elapsed().as_secs())
    }

    fn take_at(&self, second: u64) -> bool {
        let second = (second + 1) << 32;
        let before = self.taken.fetch_max(second, Ordering::Relaxed);
        // A look first: without it the count of a flood would grow into the second's half.
        let now = before.max(second);
        (now & 0xffff_ffff) < self.a_second
            && (self.taken.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff) < self.a_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_by_w3cs_rules_and_nothing_else_is_taken() {
        let trace = Trace::parse(GIVEN).unwrap();
        assert_eq!((trace.to_string().as_str(), trace.is_recorded()), (GIVEN, true));
        assert_eq!(trace.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let quiet = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
        assert!(!quiet.is_recorded());
        // A later version may say more, behind a hyphen.
        for later in [GIVEN.replacen("00", "01", 1), format!("cc{}-more", &GIVEN[2..])] {
            assert_eq!(Trace::parse(&later).unwrap().id(), trace.id(), "{later}");
        }
        let zero = "0".repeat(32);
        for wrong in [
            String::new(),
            "00".to_owned(),
            GIVEN[..54].to_owned(),
            format!("{GIVEN}-"),
            format!("{GIVEN}0"),
            format!("ff{}", &GIVEN[2..]),
            format!("cc{}x", &GIVEN[2..]),
            GIVEN.to_uppercase(),
            GIVEN.replace('-', "_"),
            GIVEN.replacen('4', "g", 1),
            GIVEN.replacen('4', "+", 1),
            GIVEN.replace(&GIVEN[3..35], &zero),
            GIVEN.replace(&GIVEN[36..52], &zero[..16]),
            format!(" {GIVEN}"),
            format!("{GIVEN},{GIVEN}"),
            "鸿".repeat(18) + "x",
            "x".repeat(10_000),
        ] {
            assert_eq!(Trace::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_trace_of_x_ray_has_the_same_id_in_both_forms() {
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let trace = Trace::parse_xray(header).unwrap();
        assert_eq!(trace.to_string(), "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01");
        assert_eq!(trace.xray(), "Root=1-5759e988-bd862e3fe1be46a994272793");
        assert_eq!(Trace::parse_xray(&trace.xray()).unwrap().id(), trace.id());
        for wrong in
            ["", "Root=1-5759e988", "Root=2-5759e988-bd862e3fe1be46a994272793", "Root=1-x-y", "1-1-1"]
        {
            assert_eq!(Trace::parse_xray(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_request_keeps_its_trace_and_gets_one_if_its_own_is_malformed() {
        let given = Trace::parse(GIVEN).unwrap();
        assert_eq!(Trace::of_request(Some(GIVEN), None), given);
        let xray = "Root=1-5759e988-bd862e3fe1be46a994272793";
        assert_eq!(Trace::of_request(Some("nonsense"), Some(xray)).xray(), xray);
        let made = Trace::of_request(Some("nonsense"), Some("nonsense"));
        assert!(Trace::parse(&made.to_string()).is_some());
        assert_ne!(made.id(), Trace::of_request(None, None).id());
        assert_eq!(made.child().id(), made.id());
        assert_eq!(Trace::of_record(GIVEN.as_bytes()).map(Trace::id), Some(given.id()));
        assert_eq!(Trace::of_record(&[0xff]), None);
    }

    #[test]
    fn so_many_traces_a_second_are_recorded() {
        let allowance = Allowance::new(3);
        let taken = |second| (0..10).filter(|_| allowance.take_at(second)).count();
        assert_eq!([taken(0), taken(0), taken(1), taken(7)], [3, 0, 3, 3]);
    }

    #[tokio::test]
    async fn only_recorded_traces_are_named_in_a_comment() {
        let given = Trace::parse(GIVEN).unwrap();
        let quiet = Trace { recorded: false, ..given };
        assert_eq!(for_comment(), None);
        assert_eq!(scope(quiet, async { for_comment() }).await, None);
        assert_eq!(scope(given, async { for_comment() }).await.as_deref(), Some(GIVEN));
        let named = batch([quiet, given, given].into_iter(), async { for_comment() }).await;
        assert_eq!(named, Some(format!("{GIVEN},{GIVEN}")));
        let named = batch(std::iter::repeat_n(given, 500), async { for_comment() }).await.unwrap();
        assert_eq!(named.split(',').count(), MOST_IN_A_COMMENT);
    }
}
