//! What is forbidden fails, and what is needed goes on: each test runs a child of its own, which confines
//! itself and tries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop loudly")]

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;

use vault_guard::{Access, FileRules, Reach, confine_calls, confine_files};

/// Tells the child which folder is the test's.
const CHILD: &str = "VAULT_GUARD_CONFINED";
/// The child came to its end.
const DONE: &str = "all was as it should be";

/// Runs the test of this name as a process of its own, in a folder with `read`, `write` and `hidden` in it.
fn child(name: &str) -> Output {
    let folder = env::temp_dir().join(format!("vault-guard-{}-{name}", std::process::id()));
    for part in ["read", "write", "hidden"] {
        fs::create_dir_all(folder.join(part)).unwrap();
        fs::write(folder.join(part).join("file"), part).unwrap();
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, &folder);
    let output = command.output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    output
}

#[track_caller]
fn ends_well(output: &Output) {
    let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.success() && said.contains(DONE), "{}: {said}", output.status);
}

/// The folder, in the child.
fn folder() -> Option<PathBuf> {
    env::var_os(CHILD).map(PathBuf::from)
}

/// Ends the child: what a test does after its end is not the vault's.
fn done() -> ! {
    println!("{DONE}");
    std::process::exit(0)
}

fn reach(folder: &Path) -> Reach {
    let path = |part: &str, access| (folder.join(part), access);
    Reach { paths: vec![path("read", Access::Read), path("write", Access::Write)], bind: None, connect: None }
}

/// The kernel's version of Landlock; without it these tests prove nothing.
fn kept(reach: &Reach) -> u32 {
    match confine_files(reach).unwrap() {
        FileRules::Kept(version) => version,
        absent @ FileRules::Absent => panic!("{absent}"),
    }
}

fn denied<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// As a kernel answers that does not have the call.
fn unknown<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS))
}

#[test]
fn files_are_reached_where_the_rules_say_and_nowhere_else() {
    let Some(folder) = folder() else {
        return ends_well(&child("files_are_reached_where_the_rules_say_and_nowhere_else"));
    };
    kept(&reach(&folder));
    let at = |path: &str| folder.join(path);
    assert_eq!(fs::read(at("read/file")).unwrap(), b"read");
    assert!(denied(File::create(at("read/new"))));
    assert!(denied(OpenOptions::new().append(true).open(at("read/file"))));
    assert!(denied(fs::remove_file(at("read/file"))));

    fs::create_dir(at("write/folder")).unwrap();
    fs::write(at("write/folder/new"), "new").unwrap();
    fs::rename(at("write/folder/new"), at("write/folder/renamed")).unwrap();
    fs::remove_dir_all(at("write/folder")).unwrap();
    OpenOptions::new().append(true).open(at("write/file")).unwrap().write_all(b"more").unwrap();
    assert_eq!(fs::read(at("write/file")).unwrap(), b"writemore");
    assert!(UnixListener::bind(at("write/socket")).is_err(), "sockets are made nowhere");

    // Hidden, by whichever way one comes to it, and from threads too.
    for path in ["hidden/file", "read/../hidden/file", "../../etc/passwd"] {
        assert!(denied(File::open(at(path))), "{path}");
    }
    assert!(denied(fs::read_dir(at("hidden"))));
    assert!(denied(File::create(at("hidden/new"))));
    assert!(denied(Command::new("/bin/true").spawn()), "nothing can be executed");
    let hidden = at("hidden/file");
    assert!(thread::spawn(move || denied(File::open(hidden))).join().unwrap());
    done();
}

#[test]
fn a_folder_that_is_to_be_changed_has_to_be_there() {
    let Some(folder) = folder() else {
        return ends_well(&child("a_folder_that_is_to_be_changed_has_to_be_there"));
    };
    let with = |access| Reach { paths: vec![(folder.join("missing"), access)], ..Reach::default() };
    let error = confine_files(&with(Access::Write)).unwrap_err().to_string();
    assert!(error.contains("missing: No such file"), "{error}");
    confine_files(&with(Access::Read)).unwrap();
    done();
}

#[test]
fn ports_sockets_and_folders_are_used_as_the_rules_say() {
    let Some(folder) = folder() else {
        return ends_well(&child("ports_sockets_and_folders_are_used_as_the_rules_say"));
    };
    let local = |port| (Ipv4Addr::LOCALHOST, port);
    let listeners = [(); 2].map(|()| TcpListener::bind(local(0)).unwrap());
    let [open, closed] = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let paths = vec![
        (folder.join("read"), Access::Socket),
        (folder.join("write"), Access::RemoveFolder),
        (folder.join("hidden"), Access::Own),
    ];
    let rules = Reach { paths, bind: Some(vec![0]), connect: Some(vec![open]) };
    let version = kept(&rules);
    if version >= 4 {
        TcpStream::connect(local(open)).unwrap();
        assert!(denied(TcpStream::connect(local(closed))));
        TcpListener::bind(local(0)).unwrap();
        drop(listeners);
        assert!(denied(TcpListener::bind(local(closed))));
    }
    let socket = folder.join("read/socket");
    let listener = UnixListener::bind(&socket).unwrap();
    UnixStream::connect(&socket).unwrap();
    drop(listener);
    fs::remove_file(&socket).unwrap();
    assert!(denied(File::open(folder.join("read/file"))));
    assert!(denied(fs::remove_file(folder.join("write/file"))));
    std::os::unix::fs::symlink("file", folder.join("hidden/link")).unwrap();
    assert_eq!(fs::read(folder.join("hidden/link")).unwrap(), b"hidden");
    done();
}

#[test]
fn what_the_vault_needs_is_allowed() {
    let Some(folder) = folder() else { return ends_well(&child("what_the_vault_needs_is_allowed")) };
    confine_calls().unwrap();
    let file = File::create(folder.join("write/new")).unwrap();
    file.sync_all().unwrap();
    file.set_len(9).unwrap();
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name("named".to_owned());
    thread.spawn(move || sender.send(vec![0_u8; 1 << 24].len())).unwrap().join().unwrap().unwrap();
    assert_eq!(receiver.recv(), Ok(1 << 24));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap().set_nonblocking(true).unwrap();
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    UnixStream::pair().unwrap();
    drop(vault_guard::Locked::new([1_u8; 32]));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "no {line} in {status}");
    }
    done();
}

#[test]
fn every_other_call_is_answered_as_missing() {
    let Some(folder) = folder() else { return ends_well(&child("every_other_call_is_answered_as_missing")) };
    let (go, wait) = mpsc::channel::<()>();
    let older = thread::spawn(move || {
        wait.recv().unwrap();
        unknown(socket(libc::AF_NETLINK))
    });
    confine_calls().unwrap();
    go.send(()).unwrap();
    assert!(older.join().unwrap(), "a thread that was there before is confined as well");
    for family in [libc::AF_NETLINK, libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK] {
        assert!(unknown(socket(family)), "family {family}");
    }
    assert!(unknown(socket_of(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_MPTCP)));
    assert!(unknown(socket_of(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP)));
    assert!(socket_of(libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP).is_ok());
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert!(unknown(sent(&datagrams, libc::MSG_FASTOPEN)));
    // Not connected: the call itself is made.
    assert_eq!(sent(&datagrams, 0).unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
    assert!(unknown(Command::new("/bin/true").spawn()), "no process can be made");
    assert!(unknown(std::os::unix::fs::symlink("a", folder.join("b"))));
    assert!(unknown(std::os::unix::fs::chown(folder.join("write"), None, None)));
    let own = rustix::process::getpid();
    assert!(unknown(rustix::process::kill_process(own, rustix::process::Signal::CONT).map_err(Into::into)));
    let limit = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let core = rustix::process::Resource::Core;
    assert!(unknown(rustix::process::setrlimit(core, limit).map_err(Into::into)));
    rustix::process::getrlimit(core);
    let dumpable = rustix::process::DumpableBehavior::Dumpable;
    assert!(unknown(rustix::process::set_dumpable_behavior(dumpable).map_err(Into::into)));
    assert!(confine_calls().is_err(), "no further filter");
    for (from_the_start, later) in [(0, libc::PROT_EXEC), (libc::PROT_WRITE | libc::PROT_EXEC, 0)] {
        assert!(!mapped(libc::PROT_READ | from_the_start, later));
    }
    assert!(mapped(libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ));
    done();
}

/// As glibc and the kernel name it; the crate does not on every system.
const IPPROTO_MPTCP: i32 = 262;

fn socket(family: i32) -> std::io::Result<()> {
    socket_of(family, libc::SOCK_DGRAM, 0)
}

/// Sends a byte by `sendto` with these flags, and no address.
fn sent(socket: &UdpSocket, flags: i32) -> std::io::Result<()> {
    let byte = [0_u8];
    // SAFETY: the descriptor is open, the byte is there, and there is no address.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), byte.as_ptr().cast(), byte.len(), flags, std::ptr::null(), 0)
    };
    if sent < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn socket_of(family: i32, kind: i32, protocol: i32) -> std::io::Result<()> {
    // SAFETY: makes a descriptor, or none.
    match unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) } {
        -1 => Err(std::io::Error::last_os_error()),
        descriptor => {
            // SAFETY: closes what was made just now.
            unsafe { libc::close(descriptor) };
            Ok(())
        }
    }
}

/// Whether a page can be had with these rights, and get those later if they are any.
fn mapped(rights: i32, later: i32) -> bool {
    const BYTES: usize = 4096;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh page at an address of the kernel's choice, which nothing uses.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), BYTES, rights, flags, -1, 0);
        page != libc::MAP_FAILED && (later == 0 || libc::mprotect(page, BYTES, later) == 0)
    }
}

/// Ended by the filter.
#[track_caller]
fn killed(name: &str) {
    let output = child(name);
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{}", output.status);
}

#[test]
fn another_program_ends_the_process() {
    if folder().is_none() {
        return killed("another_program_ends_the_process");
    }
    confine_calls().unwrap();
    let error = Command::new("/bin/true").exec();
    panic!("{error}");
}

#[test]
fn looking_into_another_process_ends_this_one() {
    if folder().is_none() {
        return killed("looking_into_another_process_ends_this_one");
    }
    confine_calls().unwrap();
    // SAFETY: asks to be traced; there is no address.
    unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
    done();
}
