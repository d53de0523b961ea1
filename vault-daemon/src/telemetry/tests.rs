//! What reaches the log.

use std::io::Write;
use std::sync::Mutex;

use super::*;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::ErrorKind::Other)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What reaches the log of the lines that a daemon and its libraries write.
fn logged(level: LogLevel) -> String {
    let kept = Kept::default();
    let writer = kept.clone();
    let layer = fmt::layer().with_ansi(false).without_time().with_writer(move || writer.clone());
    tracing::subscriber::with_default(own_lines(level, layer), || {
        tracing::error!(event = "own_error");
        tracing::debug!(event = "own_debug");
        tracing::error!(target: "vaultd::cli", event = "command");
        tracing::error!(target: "fjall::journal", event = "engine");
        tracing::error!(target: "h2::codec", event = "library");
        tracing::error!(target: "vaultdx", event = "namesake");
    });
    let kept = kept.0.lock().map(|kept| kept.clone()).unwrap_or_default();
    String::from_utf8(kept).unwrap_or_default()
}

#[test]
fn only_the_daemons_own_lines_reach_the_log_up_to_the_level() {
    let events = |level| -> Vec<String> {
        let text = logged(level);
        text.split_whitespace().filter_map(|word| word.strip_prefix("event=")).map(str::to_owned).collect()
    };
    assert_eq!(events(LogLevel::Info), ["\"own_error\"", "\"command\""]);
    assert_eq!(events(LogLevel::Trace), ["\"own_error\"", "\"own_debug\"", "\"command\""]);
}
