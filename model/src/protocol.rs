//! The subject of a check: the protocol under some rules, in a world of some bounds.

use crate::rules::{Bounds, Rules};
use crate::state::{Asking, Compensator, Phase, QueryPhase, Recaller, Sender, State, Unconfirmed};

/// The protocol under given rules, in a world of given bounds.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// The rules in force.
    pub rules: Rules,
    /// How much may happen.
    pub bounds: Bounds,
}

impl Protocol {
    /// No actor has anything left to do, and the client of changes has caught up.
    #[must_use]
    pub fn at_rest(s: &State) -> bool {
        s.committed == s.len
            && !s.refuses
            && s.comp == Compensator::Idle
            && s.query.phase == QueryPhase::Idle
            && s.client.asking == Asking::Idle
            && (!s.client.exists || s.client.cursor == s.last_seq)
            && s.inst.iter().all(|i| i.phase == Phase::Idle)
            && s.msgs.iter().all(|m| {
                !m.late
                    && m.unconfirmed == Unconfirmed::No
                    && !matches!(m.sender, Sender::Wrote(_))
                    && matches!(
                        m.recaller,
                        Recaller::Idle | Recaller::Ok | Recaller::Unavailable | Recaller::Dead
                    )
            })
    }

    /// The world has Redis servers that refuse writes, so the knowledge of the generation matters.
    pub(crate) fn redis_may_refuse(&self) -> bool {
        self.bounds.redis_refusing > 0 || self.bounds.failovers > 0
    }
}
