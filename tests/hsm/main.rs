//! A vault that an HSM opens, alone or together with custodians: the real daemon over real TLS, and a token
//! of SoftHSM 2 that `pkcs11-tool` looks into.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

mod alone;
mod foreign;
mod host;
mod reseal;
mod together;
mod token;
mod vector;
