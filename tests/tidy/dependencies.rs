//! Every dependency has its reason beside it, in one place.

use crate::refuse;
use crate::source::files;

#[test]
fn every_dependency_says_why_it_is_here() {
    let files = files();
    let root = files.iter().find(|file| file.path == "Cargo.toml").unwrap();
    refuse("dependencies without a reason in Cargo.toml", &without_reason(&root.text));
}

#[test]
fn members_take_their_versions_from_the_workspace() {
    let manifests = files().into_iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    let found: Vec<String> = manifests
        .flat_map(|file| {
            own_versions(&file.text).into_iter().map(move |line| format!("{}: {line}", file.path))
        })
        .collect();
    refuse("dependencies with a version of their own", &found);
}

/// Lines of the workspace's members and dependencies that end without a comment. Its own crates say in the
/// list of members what they are.
fn without_reason(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut members = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim();
        }
        members = (members || line.starts_with("members")) && !line.starts_with(']');
        let member = members && line.trim_start().starts_with('"');
        let dependency = section == "[workspace.dependencies]" && line.starts_with(char::is_alphanumeric);
        if (member || dependency && !line.contains("path =")) && reason(line).len() < 5 {
            found.push(line.to_owned());
        }
    }
    found
}

/// The comment at a line's end, past whatever stands in quotes.
fn reason(line: &str) -> &str {
    let mut quoted = false;
    let start = line.find(|c| {
        quoted ^= c == '"';
        c == '#' && !quoted
    });
    start.map_or("", |start| line[start + 1..].trim())
}

fn own_versions(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim();
        }
        let dependency = section.ends_with("dependencies]") && line.starts_with(char::is_alphanumeric);
        let shared = line.replace(' ', "").contains("workspace=true") || line.contains("path =");
        if dependency && !shared {
            found.push(line.to_owned());
        }
    }
    found
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let manifest = r##"
members = [
    "a", # the core
    "b",
]
[workspace.dependencies]
a = { path = "a" }
good = "1" # parses tokens
bad = "1"
worse = { version = "1", features = ["#no"] }
worst = "1" #
[workspace.lints.rust]
missing_docs = "deny"
"##;
    let bad = [
        r#"    "b","#,
        r#"bad = "1""#,
        r##"worse = { version = "1", features = ["#no"] }"##,
        r##"worst = "1" #"##,
    ];
    assert_eq!(without_reason(manifest), bad);
}

#[test]
fn a_version_outside_the_workspace_is_found() {
    let manifest = r#"
[package]
name = "x"
[dependencies]
a.workspace = true
b = { workspace = true }
c = "1"
d = { path = "../d" }
[dev-dependencies]
e = { version = "2" }
[lints]
workspace = true
"#;
    assert_eq!(own_versions(manifest), [r#"c = "1""#, r#"e = { version = "2" }"#]);
}
