//! Which messages may be printed with `{:?}`. All others print their name only.

use std::fmt;

use crate::v1;

/// The messages with a derived `Debug`: only the vault writes them, and they carry no value, no token and no
/// caller-given text. A message not listed here is generated without `Debug` and gets the one below.
pub const PRINTABLE: &[&str] = &[
    "Ceremony",
    "GetCheckpointResponse",
    "GivenShare",
    "KeyVersion",
    "ListKeysResponse",
    "OtherDaemon",
    "ProveConsistencyResponse",
    "ProveInclusionResponse",
    "Receipt",
    "Refusal",
    "Rewrap",
    "VaultStatus",
];

macro_rules! name_only {
    ($($path:path => $name:literal),* $(,)?) => {
        /// The names of all messages and oneofs that print nothing but their name.
        pub const NAME_ONLY: &[&str] = &[$($name),*];

        $(impl fmt::Debug for $path {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($name)
            }
        })*
    };
}

name_only! {
    v1::BatchDetokenizeItem => "BatchDetokenizeItem",
    v1::BatchDetokenizeRequest => "BatchDetokenizeRequest",
    v1::BatchDetokenizeResponse => "BatchDetokenizeResponse",
    v1::BatchDetokenizeResult => "BatchDetokenizeResult",
    v1::BatchTokenizeItem => "BatchTokenizeItem",
    v1::BatchTokenizeRequest => "BatchTokenizeRequest",
    v1::BatchTokenizeResponse => "BatchTokenizeResponse",
    v1::BatchTokenizeResult => "BatchTokenizeResult",
    v1::BeginCeremonyRequest => "BeginCeremonyRequest",
    v1::CancelCeremonyRequest => "CancelCeremonyRequest",
    v1::Card => "Card",
    v1::CompareLastFourRequest => "CompareLastFourRequest",
    v1::CompareLastFourResponse => "CompareLastFourResponse",
    v1::DestroyKeysRequest => "DestroyKeysRequest",
    v1::DestroyKeysResponse => "DestroyKeysResponse",
    v1::DetokenizeRequest => "DetokenizeRequest",
    v1::DetokenizeResponse => "DetokenizeResponse",
    v1::DetokenizedRecord => "DetokenizedRecord",
    v1::Entry => "Entry",
    v1::EraseTokenRequest => "EraseTokenRequest",
    v1::EraseTokenResponse => "EraseTokenResponse",
    v1::Expiry => "Expiry",
    v1::FindByValueRequest => "FindByValueRequest",
    v1::FindByValueResponse => "FindByValueResponse",
    v1::GetCheckpointRequest => "GetCheckpointRequest",
    v1::GetStatusRequest => "GetStatusRequest",
    v1::GetTokenRequest => "GetTokenRequest",
    v1::GetTokenResponse => "GetTokenResponse",
    v1::ListEntriesRequest => "ListEntriesRequest",
    v1::ListEntriesResponse => "ListEntriesResponse",
    v1::ListKeysRequest => "ListKeysRequest",
    v1::MaskedValue => "MaskedValue",
    v1::ProveConsistencyRequest => "ProveConsistencyRequest",
    v1::ProveInclusionRequest => "ProveInclusionRequest",
    v1::RotateKeysRequest => "RotateKeysRequest",
    v1::RotateKeysResponse => "RotateKeysResponse",
    v1::SealRequest => "SealRequest",
    v1::Ssn => "Ssn",
    v1::SubmitShareRequest => "SubmitShareRequest",
    v1::TokenizeRequest => "TokenizeRequest",
    v1::TokenizeResponse => "TokenizeResponse",
    v1::UnsealRequest => "UnsealRequest",
    v1::Value => "Value",
    v1::batch_detokenize_result::Verdict => "BatchDetokenizeResult.verdict",
    v1::batch_tokenize_result::Verdict => "BatchTokenizeResult.verdict",
    v1::entry::Actor => "Entry.actor",
    v1::value::Kind => "Value.kind",
}
