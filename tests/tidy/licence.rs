//! The licence that the manifests name is the one that stands in the tree, whole.

use vault_core::crypto::sha256;

use crate::source::files;

/// SHA-256 of the text as apache.org publishes it.
const APACHE_2_0: &str = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30";

#[test]
fn the_licence_that_every_crate_names_stands_in_the_tree() {
    let files = files();
    let text = files.iter().find(|file| file.path == "LICENSE").expect("there is no LICENSE");
    let hash: String = sha256(&[text.text.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, APACHE_2_0, "LICENSE is not the Apache License 2.0 as published");
    for manifest in files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        let named = manifest.text.lines().find(|line| line.starts_with("license"));
        let expected = if manifest.path == "Cargo.toml" {
            "license = \"Apache-2.0\""
        } else {
            "license.workspace = true"
        };
        assert_eq!(named, Some(expected), "{}", manifest.path);
    }
}
