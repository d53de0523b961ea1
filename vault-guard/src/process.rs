//! Process calls that keep the memory of the vault inside the process.

use std::fmt;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::{process, thread};
use thiserror::Error;

/// One step of [`harden`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// `RLIMIT_CORE` = 0, soft and hard: the kernel writes no core file.
    NoCoreDumps,
    /// `PR_SET_DUMPABLE` = 0: no core through a pipe either, and no other process of this user may trace this
    /// one or read its memory.
    NotDumpable,
    /// `PR_SET_NO_NEW_PRIVS`: nothing that this process could be made to start gains privileges.
    NoNewPrivileges,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCoreDumps => "forbid core dumps (RLIMIT_CORE)",
            Self::NotDumpable => "make the process not dumpable (PR_SET_DUMPABLE)",
            Self::NoNewPrivileges => "forbid new privileges (PR_SET_NO_NEW_PRIVS)",
        })
    }
}

/// A step that failed. What came before it stays in force.
#[derive(Clone, Copy, Debug, Error)]
pub enum HardenError {
    /// The kernel refused.
    #[error("could not {step}: {errno}")]
    Refused {
        /// Which step.
        step: Step,
        /// The kernel's reason.
        errno: Errno,
    },
    /// The kernel accepted, but reading the setting back shows another value.
    #[error("could not {0}: the setting did not take effect")]
    NoEffect(Step),
}

/// Forbids core dumps, tracing and new privileges, and reads each setting back.
///
/// To be called before the first thread is started: the third setting belongs to the calling thread and is
/// inherited by those it starts. All three are inherited by child processes or stricter there.
///
/// # Errors
/// The first step that failed; the vault must then not start.
pub fn harden() -> Result<(), HardenError> {
    forbid_core_dumps()?;
    make_not_dumpable()?;
    forbid_new_privileges()
}

fn forbid_core_dumps() -> Result<(), HardenError> {
    let step = Step::NoCoreDumps;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    process::setrlimit(Resource::Core, none).map_err(|errno| HardenError::Refused { step, errno })?;
    let read = process::getrlimit(Resource::Core);
    confirm(step, read.current == Some(0) && read.maximum == Some(0))
}

fn make_not_dumpable() -> Result<(), HardenError> {
    let step = Step::NotDumpable;
    let refused = |errno| HardenError::Refused { step, errno };
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused)?;
    let read = process::dumpable_behavior().map_err(refused)?;
    confirm(step, read == DumpableBehavior::NotDumpable)
}

fn forbid_new_privileges() -> Result<(), HardenError> {
    let step = Step::NoNewPrivileges;
    let refused = |errno| HardenError::Refused { step, errno };
    thread::set_no_new_privs(true).map_err(refused)?;
    let read = thread::no_new_privs().map_err(refused)?;
    confirm(step, read)
}

fn confirm(step: Step, in_force: bool) -> Result<(), HardenError> {
    if in_force { Ok(()) } else { Err(HardenError::NoEffect(step)) }
}
