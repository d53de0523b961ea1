//! What is protected and what stands for it.

mod brand;
mod class;
mod luhn;
mod name;
mod secret;
pub mod sensitive;
mod text;
mod token;

pub use brand::{Brand, known_brand_range};
pub use class::Class;
pub use name::{DaemonName, Environment, NameError, PrincipalId, PurposeId, RecipientId, TenantId, VaultId};
pub use secret::Secret;
pub use text::CallerText;
pub use token::Token;
