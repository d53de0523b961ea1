//! Room keys.
