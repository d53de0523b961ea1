//! What is protected and what stands for it.

mod name;

pub use name::{Environment, NameError, PrincipalId, PurposeId, RecipientId, TenantId, VaultId};
