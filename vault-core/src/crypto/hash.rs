//! SHA-256 (FIPS 180-4), for what is public: the Merkle log, file checksums, policy hashes. Never for a
//! value: an unkeyed digest of a card number is a card number (PCI DSS 3.5.1.1).

use ring::digest;

/// SHA-256 of the parts one after another, 32 bytes. Nothing separates the parts.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_fips_180_4() {
        let of_abc: String = sha256(&[b"a", b"", b"bc"]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(of_abc, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
