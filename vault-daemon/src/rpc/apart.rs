//! Work on threads that may wait, beside the cores that serve.

use vault_core::error::Error;
use vault_guard::wipe_stack;

/// Does work on a thread that may wait for a disk, a lock or Argon2id, so that this core goes on meanwhile.
///
/// Such a thread lives on after its work, and its stack after it: what the work left there is wiped.
///
/// # Errors
/// [`Error::Bug`] when the runtime ends before the work does.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    // In a box, so that what the work captured comes to the stack below the frame that wipes.
    let work = Box::new(work);
    tokio::task::spawn_blocking(move || wiped(work)).await.map_err(|_| Error::Bug)
}

fn wiped<T>(work: Box<impl FnOnce() -> T>) -> T {
    let done = run(work);
    wipe_stack();
    done
}

/// The frame that the captured values are moved to.
#[inline(never)]
fn run<T>(work: Box<impl FnOnce() -> T>) -> T {
    work()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop loudly")]

    use std::fs::File;
    use std::hint::black_box;
    use std::os::unix::fs::FileExt as _;
    use std::ptr;

    use tokio::runtime::Builder;
    use vault_core::crypto::{Entropy as _, SystemEntropy};

    use super::*;

    const MARK_BYTES: usize = 32;
    /// Of a thread's stack around a frame of its work: what lies above, and far more than it uses below.
    const ABOVE: u64 = 24 * 1024;
    const BELOW: u64 = 32 * 1024;

    /// Works with the mark, and answers where on the stack: deeper than where an idle thread waits.
    fn work(mark: [u8; MARK_BYTES]) -> u64 {
        // By reference: without optimisation each move of it would be a copy, and lie deeper than is wiped.
        let depth = [0_u8; 16 * 1024];
        black_box(&depth);
        let frame = use_mark(&mark);
        black_box(&depth);
        frame
    }

    #[inline(never)]
    fn use_mark(mark: &[u8; MARK_BYTES]) -> u64 {
        let copies = black_box([*mark; 16]);
        black_box(&copies);
        ptr::from_ref(&copies).addr() as u64
    }

    fn is_left(mark: &[u8; MARK_BYTES], frame: u64) -> bool {
        let mut stack = vec![0; (BELOW + ABOVE) as usize];
        let memory = File::open("/proc/self/mem").unwrap();
        let read = memory.read_at(&mut stack, frame - BELOW).unwrap();
        assert!(read as u64 > BELOW, "the frame itself was not read");
        stack[..read].windows(MARK_BYTES).any(|window| window == mark)
    }

    #[test]
    fn what_work_captured_is_left_on_no_stack() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let mut marks = [[0; MARK_BYTES]; 2];
        marks.iter_mut().for_each(|mark| SystemEntropy::new().fill(mark).unwrap());
        let [one, other] = marks;
        runtime.block_on(async {
            let frame = apart(move || work(one)).await.unwrap();
            assert!(!is_left(&one, frame), "left by work apart");
            // Without the wiping it is left: the search finds what is there.
            let frame = tokio::task::spawn_blocking(move || work(other)).await.unwrap();
            assert!(is_left(&other, frame), "not found");
        });
    }
}
