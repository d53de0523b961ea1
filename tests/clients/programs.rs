//! The programs, where what they need was installed, and what they say.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs, str};

#[derive(Clone, Copy)]
pub(crate) enum Language {
    Python,
    Node,
}

/// Runs a language's checks against the vault of a folder; gives what they print when all of them hold.
#[track_caller]
pub(crate) fn run(language: Language, folder: &Path, options: &[&str]) -> String {
    let place = installed();
    let command = match language {
        Language::Python => python(place),
        Language::Node => node(place),
    };
    said({ command }.arg(folder).args(options))
}

/// The tests' own folder in the repository.
pub(crate) fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

fn protos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto")
}

/// Where `install` put the packages of both languages, which it does once and whenever a lock file changes.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let target = vault_target();
        let install =
            Command::new(clients().join("install")).env("CARGO_TARGET_DIR", &target).status().unwrap();
        assert!(install.success(), "tests/clients/install says above what is missing");
        let place = target.join("clients");
        generate(&place);
        stage(&place);
        place
    })
}

/// Cargo's target folder, seen from this test's own program: `target/release/deps/clients-…`.
fn vault_target() -> PathBuf {
    env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// Python's code for the messages, from the `.proto` files as they are now.
fn generate(place: &Path) {
    let generated = place.join("python-generated");
    let _ = fs::remove_dir_all(&generated);
    fs::create_dir_all(&generated).unwrap();
    let files = fs::read_dir(protos().join("vault/v1")).unwrap().map(|entry| entry.unwrap().path());
    let mut protoc = Command::new(place.join("python/bin/python"));
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(protos());
    protoc.arg(option("--python_out=", &generated)).arg(option("--grpc_python_out=", &generated));
    said(protoc.args(files));
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    [OsStr::new(name), path.as_os_str()].into_iter().collect()
}

/// Node looks for packages in the folders above a program, so that the program goes beside them.
fn stage(place: &Path) {
    for name in ["client.mjs", "checks.mjs"] {
        fs::copy(clients().join("node").join(name), place.join("node").join(name)).unwrap();
    }
}

fn python(place: &Path) -> Command {
    let mut command = Command::new(place.join("python/bin/python"));
    command.env("PYTHONPATH", place.join("python-generated")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(clients().join("python/checks.py"));
    command
}

fn node(place: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(place.join("node/checks.mjs")).arg(protos());
    command
}

/// What a program that succeeds writes to standard output; its complaints go to the test's own.
#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| str::from_utf8(bytes).unwrap().to_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    assert_eq!(err, "", "{command:?} warns");
    out
}
