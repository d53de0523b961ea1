//! `vaultd` as a library: the doors around the core, and the parts of `TestVault`.

pub mod identity;
pub mod tls;
