//! A room of the core uses only rooms to its left.

use crate::refuse;
use crate::source::{Token, rust_files, tokens};

const ROOMS: [&str; 7] = ["data", "crypto", "keys", "policy", "audit", "store", "vault"];

/// What every room may use, and what uses none.
const SHARED: [&str; 3] = ["clock", "error", "limits"];

const SOURCE: &str = "vault-core/src/";

#[test]
fn every_room_uses_only_rooms_to_its_left() {
    let files = rust_files();
    let core = files.iter().filter_map(|file| Some((file.path.strip_prefix(SOURCE)?, file)));
    let breaches: Vec<String> = core.flat_map(|(path, file)| breaches(path, &file.text)).collect();
    refuse("rooms, left to right: data crypto keys policy audit store vault", &breaches);
}

#[test]
fn the_folders_of_the_core_are_the_rooms() {
    let files = rust_files();
    let paths: Vec<&str> = files.iter().filter_map(|file| file.path.strip_prefix(SOURCE)).collect();
    let unknown = paths.iter().filter(|path| **path != "lib.rs" && rank(modules(path)[0]).is_none());
    refuse("neither a room nor shared", &unknown.map(|path| (*path).to_owned()).collect::<Vec<_>>());
    let missing: Vec<&&str> =
        ROOMS.iter().filter(|room| !paths.iter().any(|path| modules(path)[0] == **room)).collect();
    assert!(missing.is_empty(), "no such rooms: {missing:?}");
}

/// Uses of rooms that are not to the left. The path is that of a file below the core's `src`.
fn breaches(path: &str, text: &str) -> Vec<String> {
    let modules = modules(path);
    if path == "lib.rs" {
        return Vec::new();
    }
    let own = rank(modules[0]).unwrap_or(0);
    let forbidden = |name: &str| {
        rank(name).is_none_or(|other| other > own || own == 0 && other == own && name != modules[0])
    };
    let tokens = tokens(text);
    let used = used_from_the_root(&tokens, modules.len());
    let breach = |(name, line): (String, usize)| format!("{SOURCE}{path}:{line}: uses {name}");
    used.into_iter().filter(|(name, _)| forbidden(name)).map(breach).collect()
}

/// 0 for what is shared, then the rooms from left to right; `None` for anything else at the root.
fn rank(name: &str) -> Option<usize> {
    let room = ROOMS.iter().position(|room| *room == name).map(|place| place + 1);
    room.or_else(|| SHARED.contains(&name).then_some(0))
}

/// The modules a file lies in: `keys/seal.rs` is `["keys", "seal"]`.
fn modules(path: &str) -> Vec<&str> {
    path.trim_end_matches(".rs").split('/').filter(|module| *module != "mod").collect()
}

/// What a file names directly below the crate's root, by `crate::` or by climbing there with `super::`.
fn used_from_the_root(tokens: &[Token], modules: usize) -> Vec<(String, usize)> {
    let mut used = Vec::new();
    // For each open brace, whether a module of this file opened it: `super` climbs those first.
    let mut braces: Vec<bool> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at].text.as_str());
        match token.text.as_str() {
            "{" => braces.push(before(2) == "mod"),
            "}" => _ = braces.pop(),
            "crate" => used.extend(names_after(tokens, at + 1)),
            "super" if before(1) != "::" => {
                let climbed = climb(tokens, at);
                let depth = modules + braces.iter().filter(|module| **module).count();
                if climbed >= depth {
                    used.extend(names_after(tokens, at + 2 * climbed - 1));
                }
            }
            _ => {}
        }
    }
    used
}

/// How many times `super` stands here in a row.
fn climb(tokens: &[Token], at: usize) -> usize {
    let next = tokens.get(at..).unwrap_or_default();
    next.chunks(2).take_while(|pair| pair[0].text == "super").count()
}

/// The names that follow a `::`: one, or the first of each path in braces.
fn names_after(tokens: &[Token], at: usize) -> Vec<(String, usize)> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    if text(at) != "::" {
        return Vec::new();
    }
    let name = |at: usize| (text(at).to_owned(), tokens.get(at).map_or(0, |token| token.line));
    if text(at + 1) != "{" {
        return vec![name(at + 1)];
    }
    let (mut names, mut depth, mut at) = (vec![name(at + 2)], 1, at + 2);
    while depth > 0 && at < tokens.len() {
        match text(at) {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 && text(at + 1) != "}" => names.push(name(at + 1)),
            _ => {}
        }
        at += 1;
    }
    names
}

#[test]
fn a_use_of_a_room_to_the_right_is_found() {
    let bad = [
        ("data/pan.rs", "use crate::crypto::Key32;"),
        ("data/mod.rs", "use crate::{error::Invalid, keys::{Keyring, Anchor}};"),
        ("crypto/mod.rs", "fn f() { crate::store::open() }"),
        ("crypto/mac.rs", "use super::super::vault::Vault;"),
        ("crypto/mod.rs", "use super::policy;"),
        ("keys/seal.rs", "mod tests { use super::super::super::audit::Entry; }"),
        ("keys/seal.rs", "pub use crate::{data, store as s};"),
        ("audit/mod.rs", "type S = dyn crate::store::Store;"),
        ("store/rows.rs", "use crate::*;"),
        ("store/rows.rs", "use crate::Vault;"),
        ("error.rs", "use crate::data::Pan;"),
        ("limits.rs", "use crate::error::Invalid;"),
    ];
    for (path, text) in bad {
        assert_eq!(breaches(path, text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn uses_to_the_left_and_of_what_is_shared_pass() {
    let good = [
        ("vault/mod.rs", "use crate::{data::{Pan, Token}, store::Store, clock, error::Error, limits};"),
        ("crypto/mac.rs", "use super::key::Key32; use super::super::data::Token; use crate::crypto::kdf;"),
        (
            "data/pan.rs",
            "// use crate::vault::Vault;\nlet text = \"crate::vault::Vault\"; pub(crate) fn f() {}",
        ),
        (
            "keys/seal.rs",
            "mod tests { use super::*; use super::super::Keyring; mod deep { use super::super::x; } }",
        ),
        ("error.rs", "use crate::error::Invalid;"),
        ("lib.rs", "pub use crate::vault::Vault;"),
    ];
    for (path, text) in good {
        assert_eq!(breaches(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}
