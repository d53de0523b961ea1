//! The guide for callers shows nothing that was not run.

use std::fs;
use std::path::Path;

use tonic::Code;
use vault_core::error::{CeremonyFault, Error, Exhausted, Invalid, State, Unavailable};
use vault_daemon::rpc::status;

use crate::programs::clients;

const PROGRAMS: [(&str, &[&str]); 2] =
    [("python", &["python/client.py", "python/checks.py"]), ("js", &["node/client.mjs", "node/checks.mjs"])];

#[test]
fn every_code_block_of_the_guide_stands_in_a_tested_program() {
    let guide = guide();
    for (language, files) in PROGRAMS {
        let program: String =
            files.iter().map(|file| fs::read_to_string(clients().join(file)).unwrap()).collect();
        let blocks = blocks(&guide, language);
        assert!(blocks.len() >= 3, "{} blocks of {language}", blocks.len());
        for block in blocks {
            assert!(holds(&program, &block), "not in {files:?}:\n{block}");
        }
    }
}

#[test]
fn the_guide_says_what_to_do_about_every_reason() {
    let others = [
        Error::UnknownToken,
        Error::Denied,
        Error::Exhausted(Exhausted::Quota { retry_after_seconds: 1 }),
        Error::Exhausted(Exhausted::Busy),
        Error::IdempotencyKeyReused,
        Error::State(State::Sealed),
        Error::State(State::NoIndex),
        Error::State(State::TokenInactive),
        Error::State(State::KeyExpired),
        Error::State(State::NoSuchKey),
        Error::State(State::KeyInUse),
        Error::State(State::KeyUnconfirmed),
        Error::Unavailable(Unavailable::Store),
        Error::Unavailable(Unavailable::OutcomeUnknown),
        Error::Corrupt,
        Error::DeadlineExceeded,
        Error::Bug,
    ];
    let others = others.into_iter().chain(CeremonyFault::ALL.map(Error::Ceremony));
    let (guide, errors) = (guide(), Invalid::ALL.map(Error::Invalid).into_iter().chain(others));
    let rows: Vec<&str> = guide.lines().filter(|line| line.starts_with("| ")).collect();
    for error in errors {
        let (reason, code) = (format!("`{}`", error.reason()), name(status::code(&error)));
        let row =
            rows.iter().find(|row| row.contains(&reason)).unwrap_or_else(|| panic!("no row for {reason}"));
        let codes = row.split('|').nth(1).unwrap();
        assert!(codes.split(',').any(|other| other.trim() == code), "{reason} is {code}, not {codes}");
    }
}

/// A status code as gRPC writes it: `InvalidArgument` is INVALID_ARGUMENT.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn guide() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md")).unwrap()
}

/// The code blocks of one language.
fn blocks(guide: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let mut blocks = Vec::new();
    let mut rest = guide;
    while let Some(start) = rest.find(&opening) {
        rest = &rest[start + opening.len()..];
        let end = rest.find("```").expect("a block ends");
        blocks.push(rest[..end].to_owned());
        rest = &rest[end + 3..];
    }
    blocks
}

/// Whether the lines of a block follow one another in a program, however far the program indents them.
fn holds(program: &str, block: &str) -> bool {
    let program: Vec<&str> = program.lines().collect();
    let block: Vec<&str> = block.lines().collect();
    program.windows(block.len()).any(|lines| {
        let indent = lines[0].len() - lines[0].trim_start().len();
        let same = |(line, shown): (&&str, &&str)| {
            line.get(indent..).unwrap_or_default() == *shown || line.is_empty() && shown.is_empty()
        };
        lines.iter().zip(&block).all(same)
    })
}

#[test]
fn a_block_that_no_program_holds_is_found() {
    let program = "def f():\n    a()\n\n    if b():\n        c()\n";
    assert!(holds(program, "a()\n\nif b():\n    c()\n"));
    assert!(!holds(program, "a()\nif b():\n    c()\n"));
    assert!(!holds(program, "a()\n\nif b():\nc()\n"));
    assert_eq!(blocks("x\n```js\na\n```\n```sh\nb\n```\n```js\nc\n```\n", "js"), ["a\n", "c\n"]);
}
