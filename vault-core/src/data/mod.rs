//! What is protected and what stands for it.
//!
//! Values enter by the `parse` functions here and nowhere else: what they return is valid, lives in a
//! [`Secret`] and is wiped when dropped. No secret type can be printed, cloned, compared or serialised.

mod brand;
mod card;
mod class;
mod luhn;
mod mask;
mod name;
mod pan;
#[cfg(test)]
mod samples;
mod secret;
pub mod sensitive;
mod ssn;
mod text;
mod token;
mod value;

pub use brand::{Brand, known_brand_range};
pub use card::{Card, CardholderName, Expiry};
pub use class::Class;
pub use mask::{Masked, Truncation, parse_last_four};
pub use name::{DaemonName, Environment, NameError, PrincipalId, PurposeId, RecipientId, TenantId, VaultId};
pub use pan::Pan;
pub use secret::Secret;
pub use ssn::Ssn;
pub use text::CallerText;
pub use token::Token;
pub use value::{MalformedValue, Value};
