//! What the process can still do, should somebody take it over: files, ports and system calls that it has a
//! use for, and no others.
//!
//! Both belong to the calling thread and to those it starts: call [`confine_files`] and [`confine_calls`]
//! before the first thread, and after [`harden`](crate::harden). Neither can be undone.

mod calls;
mod files;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use calls::confine_calls;
pub use files::{Access, FileRules, Reach, confine_files};

/// Why the process is not confined. What was in force before stays in force.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// A file or folder that has to be reached cannot be.
    #[error("{path}: {source}")]
    Path {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Landlock refused the rules.
    #[error("the kernel refused the rules for files and ports (Landlock): {0}")]
    Files(String),
    /// seccomp refused the filter.
    #[error("the kernel refused the filter of system calls (seccomp): {0}")]
    Calls(String),
}
