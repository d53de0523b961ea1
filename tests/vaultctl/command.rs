//! The program under test, and what it said.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::str;

use serde_json::Value;
use vault_tests::process::program;

/// What a run ended with.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| str::from_utf8(bytes).unwrap().to_owned();
        let code = output.status.code().expect("ended by itself");
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// A field of the answer, of a run that succeeded.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Value {
        self.expect(0);
        serde_json::from_str::<Value>(self.out.lines().last().unwrap()).unwrap()[name].clone()
    }

    /// As [`Said::field`], of a field that is a text.
    #[track_caller]
    pub(crate) fn text(&self, name: &str) -> String {
        self.field(name).as_str().unwrap_or_else(|| panic!("no text {name} in {}", self.out)).to_owned()
    }

    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }
}

/// The program, with no profile to find.
pub(crate) fn command() -> Command {
    let mut command = Command::new(program("vaultctl"));
    command.env_remove("VAULTCTL_PROFILE").env_remove("XDG_CONFIG_HOME");
    command
}

/// Runs the program with these arguments and this standard input.
pub(crate) fn run(arguments: &[&str], input: &str) -> Said {
    ask(command().args(arguments), input)
}

/// Runs a command with this standard input.
pub(crate) fn ask(command: &mut Command, input: &str) -> Said {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that refuses its arguments does not read, and the pipe breaks.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Said::new(&child.wait_with_output().unwrap())
}
