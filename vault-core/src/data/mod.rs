//! What is protected and what stands for it.
//!
//! Values enter by the `parse` functions here and nowhere else: what they return is valid, lives in a
//! [`Secret`] and is wiped when dropped. No secret type can be printed, cloned, compared or serialised:
//!
//! ```
//! # use vault_core::data::Ssn;
//! fn keep(_: &impl serde::Serialize) {}
//! let ssn = Ssn::parse(b"123-45-6789")?;
//! println!("{:?}", ssn.last_four());
//! println!("{}", ssn.expose_digits().len());
//! let copy = ssn.last_four().clone();
//! assert!(copy == ssn.last_four());
//! keep(&ssn.last_four());
//! # Ok::<(), vault_core::error::Invalid>(())
//! ```
//!
//! The same with the value itself does not compile:
//!
//! ```compile_fail,E0277
//! # use vault_core::data::Ssn;
//! # fn keep(_: &impl serde::Serialize) {}
//! let ssn = Ssn::parse(b"123-45-6789")?;
//! println!("{:?}", ssn);
//! # Ok::<(), vault_core::error::Invalid>(())
//! ```
//! ```compile_fail,E0277
//! # use vault_core::data::Ssn;
//! # fn keep(_: &impl serde::Serialize) {}
//! let ssn = Ssn::parse(b"123-45-6789")?;
//! println!("{}", ssn);
//! # Ok::<(), vault_core::error::Invalid>(())
//! ```
//! ```compile_fail,E0599
//! # use vault_core::data::Ssn;
//! # fn keep(_: &impl serde::Serialize) {}
//! let ssn = Ssn::parse(b"123-45-6789")?;
//! let copy = ssn.clone();
//! # Ok::<(), vault_core::error::Invalid>(())
//! ```
//! ```compile_fail,E0369
//! # use vault_core::data::Ssn;
//! # fn keep(_: &impl serde::Serialize) {}
//! let ssn = Ssn::parse(b"123-45-6789")?;
//! assert!(ssn == ssn);
//! # Ok::<(), vault_core::error::Invalid>(())
//! ```
//! ```compile_fail,E0277
//! # use vault_core::data::Ssn;
//! # fn keep(_: &impl serde::Serialize) {}
//! let ssn = Ssn::parse(b"123-45-6789")?;
//! keep(&ssn);
//! # Ok::<(), vault_core::error::Invalid>(())
//! ```
//!
//! `tests/secrets_stay_secret.rs` asks the same of every secret type and every trait by which one could
//! leave.

mod brand;
mod card;
mod class;
#[cfg(test)]
pub(crate) mod documents;
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
pub use name::{Environment, NameError, PrincipalId, PurposeId, RecipientId, TenantId, VaultId};
pub use pan::Pan;
pub use secret::Secret;
pub use ssn::Ssn;
pub use text::CallerText;
pub use token::Token;
pub use value::{MalformedValue, Value};
