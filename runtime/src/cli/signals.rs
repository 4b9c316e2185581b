//! SIGINT and SIGTERM, by which a command that serves is told to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The status that a shell reports of a command that ended by Ctrl-C.
pub(super) const INTERRUPTED: u8 = 130;

/// Both signals, from the moment this is made.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next of either.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for `work`, but no longer than until the next signal, which ends the process.
    pub(super) async fn or_end<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            () = self.next() => {
                eprintln!("Ended at once: what was under way is cut off.");
                std::process::exit(i32::from(INTERRUPTED));
            }
        }
    }
}
