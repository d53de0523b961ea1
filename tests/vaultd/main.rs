//! `vaultd` as operators run it: the built program, its commands one after another, its files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

mod confined;
mod dev;
mod production;

use std::path::Path;
use std::process::{Command, Stdio};

use vault_tests::process::program;

/// What a command ended with.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }
}

fn run(name: &str, arguments: &[&str]) -> Said {
    let output = Command::new(program(name)).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().expect("ended by itself");
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

fn vaultd(arguments: &[&str]) -> Said {
    run("vaultd", arguments)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
