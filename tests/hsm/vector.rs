//! What docs/format says of an HSM's secret, in a token that was given the documented key.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use vault_core::crypto::{Entropy, EntropyFault};
use vault_core::keys::{Hsm, HsmKeyId, HsmSecret};
use vault_daemon::config::HsmConfig;
use vault_daemon::hsm::Token;

use crate::token::{LABEL, MODULE, PIN, Tokens};

const KEY: [u8; 32] = [9; 32];
const ID: u8 = 0xab;

struct Same(u8);

impl Entropy for Same {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), EntropyFault> {
        bytes.fill(self.0);
        Ok(())
    }
}

/// The slot of kind 3 that the document shows, in bytes.
fn documented() -> Vec<u8> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format/keyring.md");
    let document = fs::read_to_string(document).unwrap();
    let (_, after) = document.split_once("The slot of kind 3:").expect("the vector is there");
    let hex: String =
        after.split("```").nth(1).unwrap().trim_start_matches("text").split_whitespace().collect();
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[test]
fn a_token_with_the_documented_key_decrypts_the_documented_secret() {
    // A module asks the environment of its process where its tokens are: this test is run again with one.
    if env::var_os("SOFTHSM2_CONF").is_some() {
        return decrypts();
    }
    let tokens = Tokens::new();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, KEY).unwrap();
    let id = format!("{ID:02x}").repeat(HsmKeyId::BYTES);
    let write = ["--write-object", key.to_str().unwrap(), "--type", "secrkey", "--key-type", "AES:32"];
    tokens.tool(&[&write[..], &["--id", &id, "--sensitive"]].concat());
    let name = "vector::a_token_with_the_documented_key_decrypts_the_documented_secret";
    let mut again = Command::new(env::current_exe().unwrap());
    again.env("SOFTHSM2_CONF", tokens.config()).env("PIN_FILE", pin_file(folder.path()));
    let said = again.args(["--exact", name, "--nocapture"]).output().unwrap();
    let text = [&said.stdout[..], &said.stderr].map(String::from_utf8_lossy).concat();
    assert!(said.status.success() && text.contains("1 passed"), "{text}");
}

fn pin_file(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("pin");
    fs::write(&file, PIN).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    file
}

fn decrypts() {
    let slot = documented();
    let (kind, rest) = slot.split_first().unwrap();
    let (id, rest) = rest.split_at(HsmKeyId::BYTES);
    let (iv, ciphertext) = rest.split_at(12);
    assert_eq!((*kind, id), (3, &[ID; HsmKeyId::BYTES][..]));
    let secret = HsmSecret { iv: iv.try_into().unwrap(), ciphertext: ciphertext.try_into().unwrap() };
    let bound = [b"vault/hsm-slot/1\x04test".as_slice(), &[3; 16], &[ID; HsmKeyId::BYTES]].concat();
    let token = Token::new(HsmConfig {
        module: MODULE.into(),
        token_label: Some(LABEL.to_owned()),
        token_serial: None,
        pin_file: env::var_os("PIN_FILE").unwrap().into(),
    });
    let key = HsmKeyId::draw(&mut Same(ID)).unwrap();
    let opened = token.asked_for().decrypt(&key, &bound, &secret).unwrap();
    // And the token writes what it reads.
    let again = token.asked_for().encrypt(&key, secret.iv, &bound, &opened).unwrap();
    assert_eq!(again, secret);
    let mut other = bound.clone();
    other[20] ^= 1;
    assert!(token.asked_for().decrypt(&key, &other, &secret).is_err());
}
