//! Names say what a thing is: words that fit anything are refused.

use std::collections::BTreeSet;

use crate::refuse;
use crate::source::{files, rust_files, tokens};

const EMPTY_WORDS: [&str; 12] = [
    "common",
    "handler",
    "handlers",
    "helper",
    "helpers",
    "manager",
    "managers",
    "misc",
    "util",
    "utility",
    "utilities",
    "utils",
];

const EMPTY_VERBS: [&str; 3] = ["do_", "get_", "process_"];

const DECLARING: [&str; 13] = [
    "const",
    "enum",
    "fn",
    "let",
    "macro_rules",
    "mod",
    "mut",
    "static",
    "struct",
    "trait",
    "type",
    "union",
    "use",
];

#[test]
fn no_name_declared_here_is_empty_of_meaning() {
    let rpcs = rpc_names();
    let files = rust_files();
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            empty_names(&file.text, &rpcs).into_iter().map(move |name| format!("{}:{name}", file.path))
        })
        .collect();
    refuse("names that fit anything", &found);
}

#[test]
fn no_file_or_folder_is_empty_of_meaning() {
    let paths = files().into_iter().map(|file| file.path);
    refuse("files whose names fit anything", &paths.filter(|path| empty_path(path)).collect::<Vec<_>>());
}

/// Words of names that a file declares, of its functions also their first verb. Methods named by an RPC pass.
fn empty_names(text: &str, rpcs: &BTreeSet<String>) -> Vec<String> {
    let tokens = tokens(text);
    let declared = tokens.windows(3).filter_map(|three| {
        let [declaring, name, after] = three else { return None };
        let name = if declaring.text == "macro_rules" { after } else { name };
        (DECLARING.contains(&declaring.text.as_str()) && declaring.text != "use").then_some((declaring, name))
    });
    let empty = declared.filter(|(declaring, name)| {
        let verb = EMPTY_VERBS.iter().any(|verb| name.text.starts_with(verb));
        empty_word(&name.text) || declaring.text == "fn" && verb && !rpcs.contains(&name.text)
    });
    empty.map(|(_, name)| format!("{}: {}", name.line, name.text)).collect()
}

/// A certificate's common name is called so by its standard.
fn empty_word(name: &str) -> bool {
    let words = words(name);
    let standard = |at: usize| words[at] == "common" && words.get(at + 1).is_some_and(|next| next == "name");
    (0..words.len()).any(|at| EMPTY_WORDS.contains(&words[at].as_str()) && !standard(at))
}

fn empty_path(path: &str) -> bool {
    path.split('/').any(|part| part.split(['.', '-']).any(empty_word))
}

/// The words of `snake_case`, `CamelCase` and `SCREAMING_CASE`, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_lower = false;
    for character in name.chars() {
        if character == '_' || character.is_uppercase() && before_lower {
            words.push(String::new());
        }
        if character != '_' {
            words.last_mut().unwrap().extend(character.to_lowercase());
        }
        before_lower = character.is_lowercase();
    }
    words
}

/// The RPCs of the API as generated methods name them. AIP-131 calls reading one resource `Get…`.
fn rpc_names() -> BTreeSet<String> {
    let protos = files().into_iter().filter(|file| file.path.ends_with(".proto"));
    protos.flat_map(|file| rpcs_of(&file.text)).collect()
}

fn rpcs_of(proto: &str) -> Vec<String> {
    let lines = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
    lines.map(|line| words(line.split('(').next().unwrap_or_default().trim()).join("_")).collect()
}

#[test]
fn empty_names_are_found() {
    let bad = [
        "struct KeyManager;",
        "mod util;",
        "fn error_handler() {}",
        "trait Helpers {}",
        "const MISC: u8 = 0;",
        "let common = 1;",
        "let mut request_utils = 1;",
        "enum UTILITY {}",
        "fn get_token() {}",
        "fn do_it() {}",
        "async fn process_batch() {}",
        "macro_rules! helper { () => {} }",
    ];
    for text in bad {
        assert_eq!(empty_names(&format!("{text} //"), &BTreeSet::new()).len(), 1, "{text}");
    }
    assert!(empty_path("tests/common/mod.rs") && empty_path("src/util.rs") && empty_path("a/key-manager.md"));
}

#[test]
fn names_of_others_talk_and_rpcs_pass() {
    let rpcs = rpcs_of("service S {\n  // Reads.\n  rpc GetToken(GetTokenRequest) returns (Token);\n}\n");
    let good = [
        "use hyper_util::rt::TokioIo;",
        "// the manager",
        "let text = \"helper\";",
        "fn forget_keys() {}",
        "fn get_token() {}",
        "fn undo_all() {}",
        "fn common_name_alone_is_refused() {}",
        "struct Commonality;",
        "x.get_mut(0); y.process();",
    ];
    for text in good {
        assert_eq!(empty_names(&format!("{text} //"), &rpcs.iter().cloned().collect()), [""; 0], "{text}");
    }
    assert!(!empty_path("docs/decisions/commonmark.md"));
}
