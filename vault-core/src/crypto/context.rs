//! Where a record belongs. Bound into its ciphertext, so that it opens nowhere else.

use super::envelope::RecordHeader;
use crate::data::{Class, Environment, TenantId, Token, VaultId};

/// The first part of every record's associated data: what it is, and the version of this encoding.
const FORMAT: &[u8] = b"vault/record/1";

/// The place of one record: a record moved to another row, tenant, class, vault or environment does not
/// decrypt.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where the vault runs.
    pub environment: &'a Environment,
    /// Which vault.
    pub vault_id: &'a VaultId,
    /// Whose record.
    pub tenant: &'a TenantId,
    /// What kind of value.
    pub class: Class,
    /// The token the record stands under.
    pub token: &'a Token,
}

impl Context<'_> {
    /// The associated data of a record here with this clear header: format, environment, vault id, tenant,
    /// class, token and header, each behind its length in two bytes (big endian), so that different contexts
    /// never give the same bytes.
    pub fn associated_data(&self, header: &RecordHeader) -> Vec<u8> {
        let token = self.token.to_bytes();
        let parts: [&[u8]; 6] = [
            FORMAT,
            self.environment.as_str().as_bytes(),
            self.vault_id.as_bytes(),
            self.tenant.as_str().as_bytes(),
            &[self.class.code()],
            &token,
        ];
        let header_bytes = header.encoded_len();
        let capacity = parts.iter().map(|part| 2 + part.len()).sum::<usize>() + 2 + header_bytes;
        let mut out = Vec::with_capacity(capacity);
        for part in parts {
            put_length(&mut out, part.len());
            out.extend_from_slice(part);
        }
        put_length(&mut out, header_bytes);
        header.encode_into(&mut out);
        debug_assert_eq!(out.len(), capacity, "one allocation, exactly used");
        out
    }
}

/// Two bytes hold every length: names have at most 32 bytes, a header at most 561.
fn put_length(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length <= usize::from(u16::MAX), "all parts are bounded");
    out.extend_from_slice(&(length as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::crypto::codec::Reader;
    use crate::crypto::{Purposes, RecordState};
    use crate::data::PurposeId;

    #[derive(Clone, Debug, PartialEq)]
    struct Place {
        environment: Environment,
        vault_id: VaultId,
        tenant: TenantId,
        class: Class,
        token: Token,
        header: RecordHeader,
    }

    impl Place {
        fn associated_data(&self) -> Vec<u8> {
            let Self { environment, vault_id, tenant, class, token, header } = self;
            Context { environment, vault_id, tenant, class: *class, token }.associated_data(header)
        }
    }

    prop_compose! {
        // Few letters and short names: neighbours that a careless encoding would confuse come up all the
        // time.
        fn headers()(
            (record_version, key_version, uses_left) in (0..3_u32, 0..3_u32, proptest::option::of(0..3_u32)),
            active in any::<bool>(),
            created_at in 0..3_u64,
            expires_at in proptest::option::of(0..3_u64),
            purposes in proptest::collection::vec("[ab]{1,3}", 0..4),
        ) -> RecordHeader {
            let purposes = purposes.iter().map(|purpose| PurposeId::parse(purpose).unwrap()).collect();
            RecordHeader {
                record_version,
                state: if active { RecordState::Active } else { RecordState::Inactive },
                created_at: Timestamp::from_micros(created_at),
                expires_at: expires_at.map(Timestamp::from_micros),
                uses_left,
                purposes: Purposes::new(purposes).unwrap(),
                key_version,
            }
        }
    }

    prop_compose! {
        fn places()(
            environment in "[ab]{1,3}",
            vault_id in prop_oneof![Just([0; 16]), Just([b'a'; 16]), any::<[u8; 16]>()],
            tenant in "[ab]{1,3}",
            pan in any::<bool>(),
            (token_pan, bits, tag) in (any::<bool>(), any::<[u8; 16]>(), any::<[u8; 4]>()),
            header in headers(),
        ) -> Place {
            let class = |pan| if pan { Class::Pan } else { Class::Ssn };
            Place {
                environment: Environment::parse(&environment).unwrap(),
                vault_id: VaultId::from_bytes(vault_id),
                tenant: TenantId::parse(&tenant).unwrap(),
                class: class(pan),
                token: Token::from_parts(class(token_pan), bits, tag),
                header,
            }
        }
    }

    /// Reads associated data back: an encoding with a left inverse confuses no two contexts.
    fn decoded(bytes: &[u8]) -> Option<Place> {
        let mut reader = Reader::new(bytes);
        let mut part = || {
            let length = reader.u16()?;
            reader.bytes(length.into())
        };
        let text = |bytes| std::str::from_utf8(bytes).ok();
        (part()? == FORMAT).then_some(())?;
        let place = Place {
            environment: Environment::parse(text(part()?)?).ok()?,
            vault_id: VaultId::from_bytes(part()?.try_into().ok()?),
            tenant: TenantId::parse(text(part()?)?).ok()?,
            class: Class::from_code(*part()?.first()?)?,
            token: Token::from_bytes(part()?).ok()?,
            header: RecordHeader::from_bytes(part()?)?,
        };
        reader.finish().map(|()| place)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_encoding_can_be_undone(place in places()) {
            prop_assert_eq!(decoded(&place.associated_data()), Some(place));
        }

        #[test]
        fn different_contexts_never_give_the_same_bytes(a in places(), b in places()) {
            prop_assert_eq!(a == b, a.associated_data() == b.associated_data());
        }
    }
}
