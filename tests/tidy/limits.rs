//! A bound that no code reads protects nothing.

use crate::refuse;
use crate::source::{rust_files, tokens};

const LIMITS: &str = "vault-core/src/limits.rs";

#[test]
fn every_bound_is_kept_by_some_code() {
    let files = rust_files();
    let limits = files.iter().find(|file| file.path == LIMITS).unwrap();
    let code = files.iter().filter(|file| file.path != LIMITS && file.path.contains("/src/"));
    let used: Vec<String> = code.flat_map(|file| tokens(&file.text)).map(|token| token.text).collect();
    refuse("bounds of limits.rs that nothing keeps", &unused(&limits.text, &used));
}

fn unused(limits: &str, used: &[String]) -> Vec<String> {
    let tokens = tokens(limits);
    let named = tokens.windows(2).filter(|two| two[0].text == "const").map(|two| two[1].text.clone());
    let own: Vec<&String> = tokens.iter().map(|token| &token.text).collect();
    named
        .filter(|name| !used.contains(name) && own.iter().filter(|text| **text == name).count() < 2)
        .collect()
}

#[test]
fn an_unused_bound_is_found() {
    let limits = "pub const A: usize = 1;\npub const B: usize = 2;\npub const C: usize = A * 3;\n";
    assert_eq!(unused(limits, &["C".to_owned()]), ["B"]);
}
