//! Unsafe code stands in `vault-guard` and in the test-only recorder, where it is audited.

use crate::refuse;
use crate::source::{rust_files, tokens};

const AUDITED: [&str; 2] = ["vault-guard/", "tests/recorder/"];

#[test]
fn only_audited_crates_hold_unsafe_code() {
    let elsewhere =
        rust_files().into_iter().filter(|file| !AUDITED.iter().any(|place| file.path.starts_with(place)));
    let found: Vec<String> = elsewhere
        .flat_map(|file| lines(&file.text).into_iter().map(move |line| format!("{}:{line}", file.path)))
        .collect();
    refuse("unsafe code outside vault-guard", &found);
}

fn lines(text: &str) -> Vec<usize> {
    tokens(text).into_iter().filter(|token| token.text == "unsafe").map(|token| token.line).collect()
}

#[test]
fn unsafe_code_is_found_and_talk_of_it_is_not() {
    assert_eq!(lines("fn f() {\n    unsafe { g() }\n}\nunsafe impl Send for X {}"), [2, 4]);
    assert_eq!(lines("// unsafe\n#![forbid(unsafe_code)]\nlet s = \"unsafe\";"), [0; 0]);
}
