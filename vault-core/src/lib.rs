//! The tokenization vault as a library.

pub mod audit;
pub mod clock;
pub mod crypto;
pub mod data;
pub mod error;
pub mod keys;
pub mod limits;
pub mod policy;
pub mod store;
pub mod vault;
