//! SIGINT and SIGTERM, the signals that stop a serving command.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit status of a command that ended by Ctrl-C, as shells report it.
pub(super) const INTERRUPTED: u8 = 130;

/// Both signals. They are caught from the moment when this is made.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for `work`. A signal that comes first ends this process at once.
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
