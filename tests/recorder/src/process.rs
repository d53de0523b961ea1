//! The calls that trace a child process, made safe.

use std::io;
use std::mem::size_of;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{c_int, pid_t};

const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

/// Why a thread of the child does not run, or never will again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// It is gone; the exit code if there is one.
    Gone(Option<c_int>),
    /// It enters or leaves a system call.
    Call,
    /// It started a thread.
    Cloned,
    /// It started a process or another program.
    Left,
    /// A signal is about to reach it.
    Signal(c_int),
}

/// A system call as the kernel tells of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Enter { number: i64, arguments: [u64; 6] },
    Leave { result: i64 },
}

/// Starts a program that stands still before its first instruction. Only the calling thread can trace it.
pub(crate) fn spawn(command: &mut Command) -> io::Result<pid_t> {
    let traced = || {
        // SAFETY: PTRACE_TRACEME takes no pointer; a forked child may make a bare system call.
        succeeded(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) })
    };
    // SAFETY: the closure makes one system call and touches no memory of the parent's other threads.
    let child = unsafe { command.pre_exec(traced) }.spawn()?;
    let pid = pid_t::try_from(child.id()).map_err(io::Error::other)?;
    match wait()? {
        (stopped, Stop::Signal(libc::SIGTRAP)) if stopped == pid => {}
        other => return Err(io::Error::other(format!("the child did not stop at its start: {other:?}"))),
    }
    // SAFETY: PTRACE_SETOPTIONS takes no pointer.
    succeeded(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, OPTIONS) })?;
    Ok(pid)
}

/// Waits for the next stop of any thread that the calling thread traces.
pub(crate) fn wait() -> io::Result<(pid_t, Stop)> {
    let mut status = 0;
    let thread = loop {
        // SAFETY: the pointer is to a local that outlives the call.
        let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        match thread {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            thread => break thread,
        }
    };
    let signal = libc::WSTOPSIG(status);
    let stop = if libc::WIFEXITED(status) {
        Stop::Gone(Some(libc::WEXITSTATUS(status)))
    } else if !libc::WIFSTOPPED(status) {
        Stop::Gone(None)
    } else if signal == libc::SIGTRAP | 0x80 {
        Stop::Call
    } else {
        match status >> 16 {
            0 => Stop::Signal(signal),
            libc::PTRACE_EVENT_CLONE => Stop::Cloned,
            _ => Stop::Left,
        }
    };
    Ok((thread, stop))
}

/// Lets a thread run to its next system call, with a signal or none (0).
pub(crate) fn resume(thread: pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: PTRACE_SYSCALL takes no pointer.
    match succeeded(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, thread, 0, signal) }) {
        // Killed while it stood: its end is reported next.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        resumed => resumed,
    }
}

/// What a thread that stopped for a call is about; `None` when it was killed meanwhile.
pub(crate) fn step(thread: pid_t) -> io::Result<Option<Step>> {
    // SAFETY: the structure holds only integers, for which zeros are valid.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: the kernel writes at most `size` bytes to a local that outlives the call.
    match succeeded(unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, &raw mut info) }) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        told => told?,
    }
    match info.op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: the kernel filled this member, as `op` says.
            let entry = unsafe { info.u.entry };
            let number = i64::try_from(entry.nr).map_err(io::Error::other)?;
            Ok(Some(Step::Enter { number, arguments: entry.args }))
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => {
            // SAFETY: the kernel filled this member, as `op` says.
            let exit = unsafe { info.u.exit };
            Ok(Some(Step::Leave { result: exit.sval }))
        }
        other => Err(io::Error::other(format!("a stop of kind {other} in a system call"))),
    }
}

/// Kills a child and waits until all of it is gone.
pub(crate) fn kill(pid: pid_t) {
    // SAFETY: kill takes no pointer; the child has not been waited for, so that the id is still its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    while let Ok((thread, stop)) = wait() {
        if thread == pid && matches!(stop, Stop::Gone(_)) {
            return;
        }
    }
}

fn succeeded(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
