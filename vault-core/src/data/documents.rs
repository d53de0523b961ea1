//! The vectors of `docs/format`: each stands there exactly as the code gives it.

#![allow(clippy::expect_used, reason = "tests may stop loudly")]

use std::fs;
use std::path::Path;

/// Stops unless a document of `docs/format` shows these bytes in hexadecimal, over however many lines.
#[track_caller]
pub(crate) fn shows(name: &str, bytes: &[u8]) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = document(name).split_whitespace().collect::<String>().contains(&hex);
    assert!(shown, "{name} does not show {hex}");
}

/// Stops unless a document of `docs/format` says this text.
#[track_caller]
pub(crate) fn says(name: &str, text: &str) {
    assert!(document(name).contains(text), "{name} does not say {text}");
}

fn document(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format");
    fs::read_to_string(folder.join(name)).expect("the document is there")
}

#[test]
fn bytes_that_no_document_shows_are_missed() {
    shows("token.md", b"\x01\x00\x01\x02");
    assert!(std::panic::catch_unwind(|| shows("token.md", b"\x01\x00\x01\x03")).is_err());
    assert!(
        std::panic::catch_unwind(|| says("token.md", "tok_pan_aaabacadaeafagahaiajakalamanaoaq")).is_err()
    );
}
