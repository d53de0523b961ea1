//! A terminal to run the program at.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use vault_tests::process::program;

/// Runs the program at a terminal of its own, types `typed` as soon as `prompt` stands there, and gives all
/// that was to be seen.
pub(crate) fn run(arguments: &[&str], prompt: &str, typed: &str) -> String {
    let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&own).unwrap();
    unlockpt(&own).unwrap();
    let name = ptsname(&own, Vec::new()).unwrap().into_string().unwrap();
    let theirs = OpenOptions::new().read(true).write(true).open(name).unwrap();
    let side = || Stdio::from(theirs.try_clone().unwrap());
    // A program asks at its controlling terminal, wherever its input comes from.
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(program("vaultctl")).args(arguments);
    let mut child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    drop((command, theirs));
    let seen = watch(File::from(own), prompt, typed);
    assert!(child.wait().unwrap().success(), "{seen}");
    seen
}

fn watch(mut terminal: File, prompt: &str, typed: &str) -> String {
    let mut seen = Vec::new();
    let mut asked = prompt.is_empty();
    let mut piece = [0; 1_024];
    loop {
        match terminal.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => seen.extend_from_slice(&piece[..length]),
            // How a terminal ends whose other side is closed.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
        if !asked && String::from_utf8_lossy(&seen).contains(prompt) {
            asked = true;
            wait_until_nothing_is_shown(&terminal);
            terminal.write_all(format!("{typed}\n").as_bytes()).unwrap();
        }
    }
    String::from_utf8(seen).unwrap()
}

/// Types no sooner than people do: the prompt stands there a few microseconds before the echo is off.
fn wait_until_nothing_is_shown(terminal: &File) {
    let begun = Instant::now();
    while tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ECHO) {
        assert!(begun.elapsed() < Duration::from_secs(10), "what is typed at the prompt would be shown");
        sleep(Duration::from_millis(1));
    }
}
