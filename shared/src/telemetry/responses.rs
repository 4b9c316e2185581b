//! Counts the answers of the functions that callers reach.

use super::metric;

/// The route of a request that the function does not serve, as a label.
pub const NO_ROUTE: &str = "none";

/// Counts an answer of `function` with this status. `route` is one of the routes that the code names, or [`NO_ROUTE`]: a
/// label that comes from an event could have any value.
pub fn count(function: &'static str, route: &'static str, status: i64) {
    let class = match status {
        ..400 => "2xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    metrics::counter!(metric::RESPONSES, "function" => function, "route" => route, "class" => class)
        .increment(1);
}
