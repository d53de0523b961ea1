//! Every RPC and every message of the API says what it is for.

use crate::refuse;
use crate::source::files;

#[test]
fn every_service_rpc_and_message_is_explained() {
    let protos = files().into_iter().filter(|file| file.path.ends_with(".proto"));
    let found: Vec<String> = protos
        .flat_map(|file| unexplained(&file.text).into_iter().map(move |line| format!("{}:{line}", file.path)))
        .collect();
    refuse("declarations of the API without a comment above", &found);
}

fn unexplained(proto: &str) -> Vec<String> {
    let declares =
        |line: &str| ["service ", "rpc ", "message ", "enum "].iter().any(|word| line.starts_with(word));
    let lines: Vec<&str> = proto.lines().map(str::trim).collect();
    let bare = |at: &usize| {
        declares(lines[*at]) && !at.checked_sub(1).is_some_and(|above| lines[above].starts_with("//"))
    };
    (0..lines.len()).filter(bare).map(|at| format!("{}: {}", at + 1, lines[at])).collect()
}

#[test]
fn a_bare_rpc_is_found() {
    let proto =
        "// A service.\nservice S {\n  // Does.\n  rpc A(B) returns (C);\n\n  rpc D(E) returns (F);\n}\n";
    assert_eq!(unexplained(proto), ["6: rpc D(E) returns (F);"]);
}
