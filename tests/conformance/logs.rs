//! Everything that any part of this process logs, at the most talkative level.

use std::io;
use std::sync::{Mutex, Once};

use tracing::level_filters::LevelFilter;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static CAPTURE: Once = Once::new();

struct Sink;

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From here on everything is kept.
pub(crate) fn capture() {
    CAPTURE.call_once(|| {
        let log = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false);
        log.with_writer(|| Sink).init();
    });
}

/// How much has been logged.
pub(crate) fn mark() -> usize {
    LOG.lock().unwrap().len()
}

/// Whether this text was logged since a mark.
pub(crate) fn holds_since(mark: usize, text: &[u8]) -> bool {
    crate::holds(&LOG.lock().unwrap()[mark..], text)
}
