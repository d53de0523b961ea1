//! Room audit.
