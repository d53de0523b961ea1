//! The engine that needs the network: it lives here and not in the core.

pub mod postgres;
