//! System calls, by seccomp.
//!
//! Three answers. What the vault needs is allowed. What nothing in it ever has a reason to try ends the
//! process: other programs, other processes' memory, other roots and namespaces. Everything else is answered
//! as by a kernel that does not have the call, which libraries know how to live with: a C library that tries
//! something new falls back, where it would be killed or misled by any other answer.

use std::collections::BTreeMap;
use std::fmt;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

use super::ConfineError;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Allowed whatever the arguments; those of files are held by [`confine_files`](super::confine_files).
const ALLOWED: &[i64] = &[
    // Files.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_fadvise64,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    // Sockets; of which kind, and what is sent how, `conditional` says.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_memfd_secret,
    libc::SYS_membarrier,
    // Threads and signals to oneself.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Who and where one is, and randomness.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// The same by their older names, which younger processors never had.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_time,
];
#[cfg(target_arch = "aarch64")]
const ALLOWED_OLDER: &[i64] = &[libc::SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ALLOWED_OLDER: &[i64] = &[];

/// Never a mistake.
const DEADLY: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
];

/// Leaves the process the system calls that the vault needs, in every thread.
///
/// # Errors
/// [`ConfineError::Calls`]: the kernel has no seccomp, or this processor is none that the filter is made for.
pub fn confine_calls() -> Result<(), ConfineError> {
    let any = |calls: &[i64]| calls.iter().map(|call| (*call, Vec::new())).collect::<Rules>();
    let deadly = compiled(any(DEADLY), SeccompAction::Allow, SeccompAction::KillProcess)?;
    let mut allowed = any(&[ALLOWED, ALLOWED_OLDER].concat());
    allowed.extend(conditional().map_err(refused)?);
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let allowed = compiled(allowed, unknown, SeccompAction::Allow)?;
    // Of two filters the stricter answer holds. In this order: the second allows no third.
    apply_filter_all_threads(&deadly).map_err(refused)?;
    apply_filter_all_threads(&allowed).map_err(refused)
}

fn compiled(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, ConfineError> {
    let processor = TargetArch::try_from(std::env::consts::ARCH).map_err(refused)?;
    let filter = SeccompFilter::new(rules, others, these, processor).map_err(refused)?;
    filter.try_into().map_err(refused)
}

/// Allowed with some arguments only.
fn conditional() -> Result<Rules, seccompiler::BackendError> {
    // TCP and UDP, by name or as what the family does by itself. MPTCP and its like connect without being
    // asked for rights over TCP ports; so does data that is sent to open a connection.
    let sockets = [
        (libc::AF_UNIX, 0),
        (libc::AF_INET, 0),
        (libc::AF_INET, libc::IPPROTO_TCP),
        (libc::AF_INET, libc::IPPROTO_UDP),
        (libc::AF_INET6, 0),
        (libc::AF_INET6, libc::IPPROTO_TCP),
        (libc::AF_INET6, libc::IPPROTO_UDP),
    ];
    let this_process = is(0, rustix::process::getpid().as_raw_nonzero().get());
    // No page of anonymous memory that can be written can be executed, now or later. Libraries of an HSM's
    // module and of name resolution are mapped executable from the start.
    let never_both = [lacks(2, libc::PROT_EXEC), lacks(2, libc::PROT_WRITE)];
    let names = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA].map(|what| is(0, what));
    let keyboard = [libc::TIOCSTI, libc::TIOCLINUX].map(|request| {
        // Request numbers fit 32 bits.
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(request as u32))
    });
    let table: [(i64, Vec<Condition>); 9] = [
        (libc::SYS_sendto, vec![lacks(3, libc::MSG_FASTOPEN)]),
        (libc::SYS_sendmsg, vec![lacks(2, libc::MSG_FASTOPEN)]),
        (libc::SYS_sendmmsg, vec![lacks(3, libc::MSG_FASTOPEN)]),
        (libc::SYS_socketpair, vec![is(0, libc::AF_UNIX)]),
        (libc::SYS_mmap, never_both.into()),
        (libc::SYS_mprotect, vec![lacks(2, libc::PROT_EXEC)]),
        // Threads, and no processes. clone3 cannot be looked into and is answered as missing, so that the C
        // library comes here.
        (libc::SYS_clone, vec![has(0, libc::CLONE_THREAD)]),
        (libc::SYS_prctl, names.into()),
        (libc::SYS_tgkill, vec![this_process]),
    ];
    let mut rules = Rules::new();
    for (call, alternatives) in table {
        let any_of = alternatives.into_iter().map(|condition| SeccompRule::new(vec![condition?]));
        rules.insert(call, any_of.collect::<Result<_, _>>()?);
    }
    let of_protocol = |(family, protocol)| SeccompRule::new(vec![is(0, family)?, is(2, protocol)?]);
    rules.insert(libc::SYS_socket, sockets.into_iter().map(of_protocol).collect::<Result<_, _>>()?);
    let all_of = keyboard.into_iter().collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(all_of)?]);
    // Limits may be read.
    let no_new_limit = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![no_new_limit])?]);
    Ok(rules)
}

type Condition = Result<SeccompCondition, seccompiler::BackendError>;

fn is(argument: u8, value: i32) -> Condition {
    compare(argument, SeccompCmpOp::Eq, value)
}

fn has(argument: u8, bit: i32) -> Condition {
    compare(argument, SeccompCmpOp::MaskedEq(u64::from(bit.unsigned_abs())), bit)
}

fn lacks(argument: u8, bit: i32) -> Condition {
    compare(argument, SeccompCmpOp::MaskedEq(u64::from(bit.unsigned_abs())), 0)
}

fn compare(argument: u8, how: SeccompCmpOp, value: i32) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, u64::from(value.unsigned_abs()))
}

fn refused(error: impl fmt::Display) -> ConfineError {
    ConfineError::Calls(error.to_string())
}
