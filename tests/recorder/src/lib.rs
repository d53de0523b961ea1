//! What a power cut would have left of a folder, from a record of all that a process did to it.
//!
//! ```text
//! child ──system calls──▶ trace ──▶ Record ──▶ image_at_close    equals the folder: the record is complete
//!                                          └─▶ cut(at, seed)     a folder that a power cut could leave
//! ```
//!
//! The child is traced at the border of the kernel, not at that of the C library: fjall renames its files by
//! way of `tempfile` and `rustix`, which call the kernel without any library that could be replaced. Calls
//! that touch files run one at a time, so that the record is a total order and a legal run. What the record
//! could not hold (a shared mapping of a file, `io_uring`, copies inside the kernel, a second process) ends
//! it with an error instead of a gap.
//!
//! Linux only. Only tests use this crate.

mod calls;
mod cut;
mod dice;
mod image;
mod names;
mod process;
mod record;
mod tracer;

pub use dice::Dice;
pub use image::{Content, Image, Place};
pub use record::{Event, NodeId, Record};
pub use tracer::{Traced, trace};
