//! `vaultd` as a library: the doors around the core, and the parts of `TestVault`.

pub mod answers;
pub mod identity;
pub mod server;
pub mod tls;
