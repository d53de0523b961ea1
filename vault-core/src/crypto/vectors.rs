//! Public vectors through our own functions: C2SP for XAES-256-GCM, Wycheproof for everything below.
//!
//! Every test states how many vectors it ran and how many of them must be refused, so that an empty set
//! fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests may stop loudly and say what they ran"
)]

use sha3::Shake128;
use sha3::digest::{ExtendableOutput, Update, XofReader};
use wycheproof::TestResult;
use zeroize::Zeroizing;

use super::aead::{gcm, gcm_decrypt, gcm_encrypt};
use super::kdf::hkdf_sha256;
use super::{Key32, MacKey, NONCE_BYTES, RecordKey, VerifyingKey};

fn record_key(bytes: [u8; 32]) -> RecordKey {
    RecordKey::new(&Key32::from_bytes(Zeroizing::new(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was run, printed and compared with what the set is known to hold.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    valid: usize,
    invalid: usize,
    other_sizes: usize,
}

impl Counts {
    fn add(&mut self, result: TestResult) {
        match result {
            TestResult::Valid => self.valid += 1,
            TestResult::Invalid => self.invalid += 1,
            TestResult::Acceptable => panic!("no set used here has vectors of either outcome"),
        }
    }

    fn expect(&self, set: &str, expected: &Self) {
        println!("{set}: {self:?}");
        assert_eq!(self, expected, "{set}");
    }
}

mod xaes {
    use super::*;

    #[test]
    fn both_full_vectors() {
        let vectors: [(u8, &[u8], &str); 2] = [
            // The CMAC subkey without and with the reduction.
            (0x01, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            (0x03, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
        ];
        for (key, aad, ciphertext) in vectors {
            let key = record_key([key; 32]);
            let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
            let encrypted = key.encrypt(nonce, aad, b"XAES-256-GCM");
            assert_eq!(hex(&encrypted), ciphertext);
            assert_eq!(*key.decrypt(nonce, aad, &encrypted).unwrap(), b"XAES-256-GCM");
        }
    }

    #[test]
    fn ten_thousand_accumulated() {
        let expected = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939";
        assert_eq!(accumulated(10_000), expected);
    }

    #[test]
    #[ignore = "a million messages take minutes unoptimised: part of the long tests"]
    fn a_million_accumulated() {
        let expected = "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15";
        assert_eq!(accumulated(1_000_000), expected);
    }

    /// C2SP's "accumulated randomized tests": inputs read from one SHAKE128, ciphertexts hashed by another.
    fn accumulated(iterations: usize) -> String {
        let mut inputs = Shake128::default().finalize_xof();
        let mut ciphertexts = Shake128::default();
        for _ in 0..iterations {
            let (mut key, mut nonce) = ([0; 32], [0; NONCE_BYTES]);
            inputs.read(&mut key);
            inputs.read(&mut nonce);
            let (plaintext, aad) = (variable(&mut inputs), variable(&mut inputs));
            let key = record_key(key);
            let encrypted = key.encrypt(&nonce, &aad, &plaintext);
            assert_eq!(*key.decrypt(&nonce, &aad, &encrypted).unwrap(), plaintext);
            ciphertexts.update(&encrypted);
        }
        let mut out = [0; 32];
        ciphertexts.finalize_xof().read(&mut out);
        hex(&out)
    }

    /// `opaque x<0..255>` of RFC 8446: a length byte, then so many.
    fn variable(inputs: &mut impl XofReader) -> Vec<u8> {
        let mut length = [0];
        inputs.read(&mut length);
        let mut bytes = vec![0; length[0].into()];
        inputs.read(&mut bytes);
        bytes
    }
}

#[test]
fn aes_256_gcm_agrees_with_wycheproof() {
    use wycheproof::aead::{TestName, TestSet};
    let mut counts = Counts::default();
    for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            counts.other_sizes += group.tests.len();
            continue;
        }
        for test in group.tests {
            let cipher = gcm(test.key.as_slice().try_into().unwrap());
            let nonce = test.nonce.as_slice().try_into().unwrap();
            let stored = [test.ct.as_slice(), &test.tag].concat();
            let decrypted = gcm_decrypt(&cipher, nonce, &test.aad, &stored);
            let encrypted = gcm_encrypt(&cipher, nonce, &test.aad, &test.pt);
            let (ours, vector) = (decrypted.ok().map(|plaintext| plaintext.to_vec()), test.pt.to_vec());
            match test.result {
                TestResult::Valid => assert_eq!((ours, encrypted), (Some(vector), stored), "{}", test.tc_id),
                _ => assert!(ours.is_none() && encrypted != stored, "{}", test.tc_id),
            }
            counts.add(test.result);
        }
    }
    counts.expect("AES-256-GCM", &Counts { valid: 39, invalid: 27, other_sizes: 250 });
}

#[test]
fn hmac_sha_256_agrees_with_wycheproof() {
    use wycheproof::mac::{TestName, TestSet};
    let mut counts = Counts::default();
    for group in TestSet::load(TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            let key = MacKey::from_slice(&test.key);
            let accepted = key.verify(&[&test.msg], &test.tag);
            assert_eq!(accepted, test.result == TestResult::Valid, "{}", test.tc_id);
            let computed = key.mac(&[&test.msg])[..group.tag_size / 8] == test.tag[..];
            assert_eq!(computed, accepted, "{}", test.tc_id);
            counts.add(test.result);
        }
    }
    counts.expect("HMAC-SHA-256", &Counts { valid: 66, invalid: 108, other_sizes: 0 });
}

#[test]
fn hkdf_sha_256_agrees_with_wycheproof() {
    use wycheproof::hkdf::{TestName, TestSet};
    let mut counts = Counts::default();
    for test in
        TestSet::load(TestName::HkdfSha256).unwrap().test_groups.into_iter().flat_map(|group| group.tests)
    {
        let mut out = vec![0; test.size];
        let derived = hkdf_sha256(&test.salt, &test.ikm, &[&test.info], &mut out);
        match test.result {
            TestResult::Valid => {
                assert_eq!((derived.is_ok(), &out[..]), (true, &test.okm[..]), "{}", test.tc_id);
            }
            _ => assert!(derived.is_err(), "{}", test.tc_id),
        }
        counts.add(test.result);
    }
    counts.expect("HKDF-SHA-256", &Counts { valid: 83, invalid: 3, other_sizes: 0 });
}

#[test]
fn ed25519_agrees_with_wycheproof() {
    use wycheproof::eddsa::{TestName, TestSet};
    let mut counts = Counts::default();
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        let key = VerifyingKey::from_bytes(group.key.pk.as_slice().try_into().unwrap());
        for test in group.tests {
            // A signature of another length cannot even be asked about.
            let verified =
                test.sig.as_slice().try_into().is_ok_and(|signature| key.verify(&test.msg, signature));
            assert_eq!(verified, test.result == TestResult::Valid, "{}", test.tc_id);
            counts.add(test.result);
        }
    }
    counts.expect("Ed25519", &Counts { valid: 88, invalid: 63, other_sizes: 0 });
}
