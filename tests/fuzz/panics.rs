//! Panics on the daemon's threads: here they end a call, in production the whole daemon.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::seed;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Counts what panics anywhere in this process, threads of other tests included: those have failed then, too.
pub(crate) struct Watch {
    before: usize,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let said = panic::take_hook();
            panic::set_hook(Box::new(move |fault| {
                COUNT.fetch_add(1, Ordering::SeqCst);
                said(fault);
            }));
        });
        Self { before: COUNT.load(Ordering::SeqCst) }
    }

    /// Expects that nothing has panicked since.
    pub(crate) fn end(self) {
        let panicked = COUNT.load(Ordering::SeqCst) - self.before;
        assert_eq!(panicked, 0, "panics with VAULT_FUZZ_SEED={}", seed());
    }
}
