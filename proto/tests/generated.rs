//! The committed code equals what the `.proto` files generate. After changing a `.proto` file, run
//! `REGENERATE=1 cargo test -p vault-proto --test generated` and commit what it writes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;
use vault_proto::debug::PRINTABLE;

const FILES: [&str; 6] = [
    "vault/v1/audit.proto",
    "vault/v1/batches.proto",
    "vault/v1/custody.proto",
    "vault/v1/keys.proto",
    "vault/v1/tokenization.proto",
    "vault/v1/types.proto",
];

#[test]
fn the_committed_code_is_what_the_proto_files_generate() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path());
    for name in ["vault.v1.rs", "vault.v1.descriptors.bin"] {
        let fresh = fs::read(folder.path().join(name)).unwrap();
        let committed = crate_folder().join("src/gen").join(name);
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(&committed, fresh).unwrap();
        } else {
            assert!(
                fs::read(&committed).is_ok_and(|bytes| bytes == fresh),
                "src/gen/{name} is out of date: run REGENERATE=1 cargo test -p vault-proto --test generated"
            );
        }
    }
}

/// Writes the generated code and the descriptors into `folder`.
fn generate(folder: &Path) {
    let mut descriptors = protox::compile(FILES, [crate_folder()]).unwrap();
    let unprintable: Vec<String> = message_names(&descriptors)
        .into_iter()
        .filter(|name| !PRINTABLE.contains(&name.as_str()))
        .map(|name| format!(".vault.v1.{name}"))
        .collect();
    tonic_prost_build::configure()
        .build_transport(false) // clients get their channel from `connect`, which insists on TLS 1.3
        .emit_rerun_if_changed(false)
        .out_dir(folder)
        .skip_debug(unprintable)
        .compile_fds(descriptors.clone())
        .unwrap();
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(folder.join("vault.v1.descriptors.bin"), descriptors.encode_to_vec()).unwrap();
}

fn message_names(descriptors: &FileDescriptorSet) -> Vec<String> {
    let ours = descriptors.file.iter().filter(|file| file.package() == "vault.v1");
    ours.flat_map(|file| &file.message_type).map(|message| message.name().to_owned()).collect()
}

fn crate_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
