//! A secret cannot be printed, cloned, compared, serialised or taken for its bytes.
//!
//! Each line asks the compiler whether a type has a trait, and the answer is compared: exact, and the same on
//! every machine, where the text of a compiler's error differs with its version. The doc tests of
//! `vault_core::data` show the same from a user's side: what must not compile, beside its twin that does.

use std::borrow::Borrow;
use std::fmt::{Binary, Debug, Display, LowerHex, Octal, Pointer, UpperHex};
use std::hash::Hash;
use std::ops::{Deref, Index};

use serde::Serialize;
use serde::de::DeserializeOwned;
use vault_core::data::{Card, CardholderName, Class, Expiry, Masked, Pan, Secret, Ssn, Token, Value};

/// Whether a type has a trait. An inherent constant hides the trait's of the same name, but exists only
/// where its bound holds.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code, reason = "used only where the bound does not hold")]
        trait Otherwise {
            const HAS: bool = false;
        }
        impl<T> Otherwise for T {}
        #[allow(dead_code, reason = "nothing is ever made of it")]
        struct Probe<T>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "used only where the bound holds")]
        impl<T: $($bound)+> Probe<T> {
            const HAS: bool = true;
        }
        <Probe<$type>>::HAS
    }};
}

/// The traits of a type, of those by which a secret could leave it or multiply.
macro_rules! leaks {
    ($type:ty) => {{
        let found = [
            ("Debug", has!($type: Debug)),
            ("Display", has!($type: Display)),
            ("ToString", has!($type: ToString)),
            ("LowerHex", has!($type: LowerHex)),
            ("UpperHex", has!($type: UpperHex)),
            ("Octal", has!($type: Octal)),
            ("Binary", has!($type: Binary)),
            ("Pointer", has!($type: Pointer)),
            ("Clone", has!($type: Clone)),
            ("Copy", has!($type: Copy)),
            ("PartialEq", has!($type: PartialEq)),
            ("PartialOrd", has!($type: PartialOrd)),
            ("Hash", has!($type: Hash)),
            ("Serialize", has!($type: Serialize)),
            ("Deserialize", has!($type: DeserializeOwned)),
            ("Deref", has!($type: Deref)),
            ("Index", has!($type: Index<usize>)),
            ("AsRef<[u8]>", has!($type: AsRef<[u8]>)),
            ("AsRef<str>", has!($type: AsRef<str>)),
            ("Borrow<[u8]>", has!($type: Borrow<[u8]>)),
            ("Into<Vec<u8>>", has!($type: Into<Vec<u8>>)),
            ("Into<String>", has!($type: Into<String>)),
            ("IntoIterator", has!($type: IntoIterator)),
        ];
        found.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect::<Vec<_>>()
    }};
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_secret_leaks_nothing_whatever_it_holds() {
    assert_eq!(leaks!(Secret<[u8; 32]>), NOTHING);
    assert_eq!(leaks!(Secret<Vec<u8>>), NOTHING);
    assert_eq!(leaks!(Secret<String>), NOTHING);
    assert_eq!(leaks!(Secret<u64>), NOTHING);
}

#[test]
fn values_leak_nothing() {
    assert_eq!(leaks!(Pan), NOTHING);
    assert_eq!(leaks!(Ssn), NOTHING);
    assert_eq!(leaks!(Expiry), NOTHING);
    assert_eq!(leaks!(CardholderName), NOTHING);
    assert_eq!(leaks!(Card), NOTHING);
    assert_eq!(leaks!(Value), NOTHING);
}

/// So that no log prints a whole token by accident: `Debug` shows four of its letters.
#[test]
fn a_token_is_printed_by_its_own_name_only() {
    assert_eq!(leaks!(Token), ["Debug", "Clone", "Copy", "PartialEq", "PartialOrd", "Hash"]);
}

#[test]
fn the_question_is_answered_with_yes_where_it_should_be() {
    assert_eq!(leaks!(Class).first(), Some(&"Debug"));
    assert_eq!(leaks!(Masked), ["Debug", "Display", "ToString", "Clone", "PartialEq"]);
    let bytes = [
        "Debug",
        "Clone",
        "PartialEq",
        "PartialOrd",
        "Hash",
        "Serialize",
        "Deserialize",
        "Deref",
        "Index",
        "AsRef<[u8]>",
        "Borrow<[u8]>",
        "Into<Vec<u8>>",
        "IntoIterator",
    ];
    assert_eq!(leaks!(Vec<u8>), bytes);
    let hex =
        [has!(u64: LowerHex), has!(u64: UpperHex), has!(u64: Octal), has!(u64: Binary), has!(&u8: Pointer)];
    assert_eq!(hex, [true; 5]);
    assert_eq!([has!(String: AsRef<str>), has!(String: Into<String>), has!(u8: Copy)], [true; 3]);
}
