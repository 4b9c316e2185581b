//! Counts the batches in flight, and holds back new ones while it is closed.

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    closed: bool,
    in_flight: usize,
}

/// Held for as long as a batch is in flight.
pub(super) struct Pass<'a>(&'a Gate);

impl Gate {
    pub(super) fn close(&self) {
        self.state().closed = true;
    }

    pub(super) fn open(&self) {
        self.state().closed = false;
        self.changed.notify_waiters();
    }

    /// Waits until the gate is open, and enters.
    pub(super) async fn enter(&self) -> Pass<'_> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if !state.closed {
                    state.in_flight += 1;
                    return Pass(self);
                }
            }
            changed.await;
        }
    }

    /// Waits until no batch is in flight.
    pub(super) async fn idle(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().in_flight == 0 {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
        self.0.changed.notify_waiters();
    }
}
