//! The warm-up. Kafka's virtual machine compiles its hot code while it runs, and until then each message costs more.

use serde::Serialize;

/// The length of one look, in s.
pub(crate) const WINDOW: u64 = 5;
/// The least number of looks.
const FEWEST: usize = 3;
/// A look that is not below this share of the best one before counts as not fallen.
const FALLS: f64 = 0.95;

/// The result of the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmUp {
    /// The length of the warm-up.
    pub seconds: u64,
    /// Kafka's processor time per request in each look, in µs; empty if it cannot be watched.
    pub kafka_us: Vec<f64>,
    /// True if the processor time had stopped falling at the end; `None` if it cannot be watched.
    pub settled: Option<bool>,
}

/// True if Kafka's processor time per request has stopped falling: the last look is hardly below the best one before.
pub(crate) fn is_settled(looks: &[f64]) -> bool {
    let Some((last, before)) = looks.split_last() else { return false };
    let best = before.iter().copied().fold(f64::INFINITY, f64::min);
    looks.len() >= FEWEST && *last >= best * FALLS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_settled_once_a_look_is_hardly_lower_than_the_best_before() {
        assert!(!is_settled(&[]));
        assert!(!is_settled(&[100.0, 100.0]), "two looks say nothing");
        assert!(!is_settled(&[300.0, 200.0, 150.0]), "it falls");
        assert!(is_settled(&[300.0, 200.0, 195.0]));
        assert!(is_settled(&[300.0, 200.0, 250.0]));
    }
}
