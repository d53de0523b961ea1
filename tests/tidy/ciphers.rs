//! Only the crypto room names a cipher.

use crate::refuse;
use crate::source::{files, rust_files, tokens};

/// Crates of ciphers, hashes, signatures and randomness: those in use and those one might reach for.
const CIPHERS: [&str; 22] = [
    "aead",
    "aes",
    "aes_gcm",
    "argon2",
    "blake2",
    "blake3",
    "chacha20poly1305",
    "cipher",
    "cmac",
    "ctr",
    "ed25519_dalek",
    "getrandom",
    "ghash",
    "hkdf",
    "hmac",
    "openssl",
    "rand",
    "ring",
    "scrypt",
    "sha1",
    "sha2",
    "x25519_dalek",
];

#[test]
fn only_the_crypto_room_names_a_cipher() {
    let core = rust_files().into_iter().filter(|file| file.path.starts_with("vault-core/src/"));
    let elsewhere = core.filter(|file| !file.path.starts_with("vault-core/src/crypto"));
    let breaches: Vec<String> = elsewhere
        .flat_map(|file| named(&file.text).into_iter().map(move |name| format!("{}:{name}", file.path)))
        .collect();
    refuse("a cipher crate is named outside the crypto room", &breaches);
}

#[test]
fn only_the_core_depends_on_ciphers() {
    let manifests = files().into_iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    let others = manifests.filter(|file| file.path != "vault-core/Cargo.toml");
    let breaches: Vec<String> = others
        .flat_map(|file| depended(&file.text).into_iter().map(move |name| format!("{}: {name}", file.path)))
        .collect();
    refuse("a crate other than the core depends on a cipher", &breaches);
}

/// Paths that begin with a cipher crate, and imports of one.
fn named(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let word = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map_or("", |token| token.text.as_str());
    let begins = |at: usize| {
        let (before, after) = (word(at.checked_sub(1)), word(Some(at + 1)));
        let inside =
            before == "::" && word(at.checked_sub(2)).chars().all(|c| c.is_alphanumeric() || c == '_');
        let inside = inside && !word(at.checked_sub(2)).is_empty();
        !inside && after == "::" || matches!(before, "use" | "crate") && matches!(after, ";" | "as")
    };
    let found =
        tokens.iter().enumerate().filter(|(at, token)| CIPHERS.contains(&token.text.as_str()) && begins(*at));
    found.map(|(_, token)| format!("{}: {}", token.line, token.text)).collect()
}

/// Cipher crates among a manifest's dependencies, those of its tests left out.
fn depended(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim();
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default().replace('-', "_");
        if section.ends_with("dependencies]") && !section.contains("dev-") && CIPHERS.contains(&name.as_str())
        {
            found.push(name);
        }
    }
    found
}

#[test]
fn a_cipher_named_elsewhere_is_found() {
    let bad =
        ["use ring::hmac;", "fn f() { ::aes::Aes256::new() }", "use argon2 as a;", "extern crate aes_gcm;"];
    for text in bad {
        assert_eq!(named(text).len(), 1, "{text}");
    }
    let good = [
        "// use ring::hmac;",
        "use crate::crypto::hmac::Mac;",
        "let ring = 1; let hmac: u8 = 2;",
        "a::ring::b()",
    ];
    for text in good {
        assert_eq!(named(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_dependency_on_a_cipher_is_found() {
    let manifest =
        "[dependencies]\naes-gcm.workspace = true\ntoml = \"1\"\n[dev-dependencies]\nring = \"1\"\n";
    assert_eq!(depended(manifest), ["aes_gcm"]);
}
