//! The lines of a local process: on standard error, and as a copy in a file where one was named.

use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;

use parking_lot::Mutex;

static COPY: OnceLock<Mutex<File>> = OnceLock::new();

/// Writes all further lines to `file` too. Only the first call counts.
pub fn copy_to(file: File) {
    let _ = COPY.set(Mutex::new(file));
}

/// Standard error, and the copy.
#[derive(Default)]
pub(super) struct Terminal;

impl Write for Terminal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(line)?;
        if let Some(file) = COPY.get() {
            file.lock().write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
