//! Plans the loads, one after another.

use crate::load::Pace;
use crate::options::{Options, Scenario};

/// The rates of a ladder, in requests a second.
const RATES: [u64; 17] = [
    250, 500, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 6_000, 8_000, 10_000, 12_500, 15_000, 20_000, 25_000,
    30_000, 40_000,
];
/// The rates of the short ladder of `--quick`.
const QUICK_RATES: [u64; 10] = [500, 1_000, 2_000, 3_000, 4_000, 6_000, 8_000, 10_000, 15_000, 20_000];
/// The seconds of each load, and those of `--quick` and `--full`.
const SECONDS: u64 = 30;
const QUICK: u64 = 8;
const QUICK_STEP: u64 = 4;
const FULL_SECONDS: u64 = 60;

/// One load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) scenario: Scenario,
    pub(crate) pace: Pace,
    pub(crate) connections: u32,
    pub(crate) seconds: u64,
    /// A step of a ladder. If a step breaks the P99, the steps after it are skipped.
    pub(crate) step: bool,
}

impl Phase {
    pub(crate) fn rate(&self) -> Option<u64> {
        match self.pace {
            Pace::Rate(rate) => Some(rate),
            Pace::Closed => None,
        }
    }

    /// The load in words.
    pub(crate) fn title(&self) -> String {
        let what = self.scenario.name();
        match self.pace {
            Pace::Rate(rate) => format!("{what}, open loop, {rate}/s for {} s", self.seconds),
            Pace::Closed => {
                format!("{what}, closed loop, {} connections for {} s", self.connections, self.seconds)
            }
        }
    }
}

/// The loads for these options.
pub(crate) fn phases(options: &Options) -> Vec<Phase> {
    let open = |scenario, seconds| Phase {
        scenario,
        pace: Pace::Rate(options.rate),
        connections: options.connections,
        seconds,
        step: false,
    };
    let closed =
        |scenario, seconds, connections| Phase { pace: Pace::Closed, connections, ..open(scenario, seconds) };
    let step =
        |scenario, seconds, rate| Phase { pace: Pace::Rate(rate), step: true, ..open(scenario, seconds) };
    let ladder = |scenario, seconds| RATES.map(|rate| step(scenario, seconds, rate));
    let mine = options.scenario;
    if options.quick {
        let mut phases = vec![open(mine, QUICK), closed(mine, QUICK, options.connections)];
        phases.extend(QUICK_RATES.map(|rate| step(mine, QUICK_STEP, rate)));
        return phases;
    }
    if options.full.is_some() {
        let seconds = options.seconds.unwrap_or(FULL_SECONDS);
        let both = |scenario| [open(scenario, seconds), closed(scenario, seconds, options.connections)];
        let mut phases = both(Scenario::Send).to_vec();
        phases.extend(ladder(Scenario::Send, options.step));
        phases.extend(both(Scenario::Query));
        phases.extend(both(Scenario::Mixed));
        return phases;
    }
    if options.ladder {
        return ladder(mine, options.step).to_vec();
    }
    let seconds = options.seconds.unwrap_or(SECONDS);
    match options.closed {
        Some(connections) => vec![closed(mine, seconds, connections)],
        None => vec![open(mine, seconds)],
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn plan(arguments: &[&str]) -> Vec<Phase> {
        phases(&Options::parse_from(["bench"].iter().chain(arguments)))
    }

    #[test]
    fn one_load_is_what_was_asked_for() {
        let open = plan(&["mixed", "--rate", "7", "--seconds", "3", "--connections", "5"]);
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].title(), "mixed, open loop, 7/s for 3 s");
        let closed = plan(&["--closed", "9"]);
        assert_eq!((closed[0].rate(), closed[0].connections, closed[0].step), (None, 9, false));
    }

    #[test]
    fn a_ladder_climbs() {
        let steps = plan(&["--ladder", "--step", "2"]);
        let rates: Vec<_> = steps.iter().map(Phase::rate).collect();
        assert!(rates.is_sorted() && rates.len() > 10);
        assert!(steps.iter().all(|step| step.step && step.seconds == 2));
    }

    #[test]
    fn full_has_each_scenario_in_both_loops() {
        let phases = plan(&["--full", "figures"]);
        for scenario in [Scenario::Send, Scenario::Query, Scenario::Mixed] {
            let of = |pace: fn(&Phase) -> bool| {
                phases.iter().filter(|phase| phase.scenario == scenario && !phase.step && pace(phase)).count()
            };
            assert_eq!((of(|phase| phase.pace == Pace::Closed), of(|phase| phase.rate().is_some())), (1, 1));
        }
    }
}
