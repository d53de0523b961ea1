//! Tests that start themselves again as a process of their own: to be traced, or to die without harm.
//!
//! A child is the test program with one ignored test, which does what the environment says.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio, exit};
use std::thread;
use std::time::Duration;

const ORDER: &str = "VAULT_SIMULATION_ORDER";
const FOLDER: &str = "VAULT_SIMULATION_FOLDER";
const MARKS: &str = "VAULT_SIMULATION_MARKS";

/// Longer than any child needs on a slow machine: an engine that hangs is ended and seen.
const TIME_MAX: Duration = Duration::from_secs(120);
/// The exit code of a child that took too long.
pub const TOO_LONG: i32 = 70;

/// What a child is told.
pub struct Order {
    /// Words that the test understands.
    pub words: Vec<String>,
    /// Where it works.
    pub folder: PathBuf,
    /// Where it says how far it has come.
    pub marks: Option<PathBuf>,
}

impl Order {
    /// The order of this process; `None` in one that is no child. Ends the process when it takes too long.
    ///
    /// # Panics
    /// When the order is incomplete.
    pub fn given() -> Option<Self> {
        let words = env::var(ORDER).ok()?.split(' ').map(str::to_owned).collect();
        thread::spawn(|| {
            thread::sleep(TIME_MAX);
            exit(TOO_LONG);
        });
        let folder = env::var_os(FOLDER).expect("a child's folder").into();
        Some(Self { words, folder, marks: env::var_os(MARKS).map(PathBuf::from) })
    }

    /// A word of the order.
    ///
    /// # Panics
    /// When it is not there.
    pub fn word(&self, at: usize) -> &str {
        &self.words[at]
    }

    /// A number of the order.
    ///
    /// # Panics
    /// When it is not there.
    pub fn number(&self, at: usize) -> u64 {
        self.words[at].parse().expect("a number in an order")
    }
}

/// This program as a child that runs the ignored test `test` with an order.
///
/// # Panics
/// When this program cannot be found.
pub fn command(test: &str, order: &str, folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", test]);
    command.env(ORDER, order).env(FOLDER, folder).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command
}

/// The same, told where to say how far it has come; what it prints goes into a file.
///
/// # Panics
/// When the file cannot be made.
pub fn marking(test: &str, order: &str, folder: &Path, marks: &Path, output: &Path) -> Command {
    let mut command = command(test, order, folder);
    let output = File::create(output).expect("a file for output");
    command.env(MARKS, marks).stderr(output.try_clone().expect("a second descriptor")).stdout(output);
    command
}

/// Runs a child to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run(test: &str, order: &str, folder: &Path) -> Output {
    command(test, order, folder).output().expect("a child process")
}

/// The lines of what a child printed that say why it stopped.
pub fn complaint(output: &Output) -> String {
    let text = [output.stdout.as_slice(), b"\n", output.stderr.as_slice()].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let told: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    format!("{}: {}", output.status, told.join(" | "))
}
