//! Looking at the files again and again.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::TlsDoor;

/// A thread that looks again and again whether a file behind the door has changed; it ends when this is
/// dropped, or with the door.
pub struct FilesWatch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsDoor {
    /// Starts the watch; [`crate::limits::FILES_POLL`] is how often the daemon looks. `alarm` is called for
    /// every new failure, once.
    ///
    /// # Errors
    /// When the system starts no further thread.
    pub fn watch(
        self: &Arc<Self>,
        every: Duration,
        alarm: impl Fn() + Send + 'static,
    ) -> io::Result<FilesWatch> {
        let (stop, stopped) = mpsc::channel::<()>();
        let door: Weak<Self> = Arc::downgrade(self);
        let watch = move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let Some(door) = door.upgrade() else { return };
                door.reload_if_changed(&alarm);
            }
        };
        let thread = thread::Builder::new().name("vaultd-files".to_owned()).spawn(watch)?;
        Ok(FilesWatch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for FilesWatch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the watch was already reported by the hook; nothing is left to do here.
            let _ = thread.join();
        }
    }
}
