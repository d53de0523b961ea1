//! The messages that hold plaintext themselves are wiped when they are dropped.
//!
//! Whatever holds such a message (a `Value`, a request, a whole batch) drops it and so wipes it. The price:
//! their fields cannot be moved out, only taken (`std::mem::take(&mut card.pan)`) or borrowed. Wiped is the
//! buffer as it is when dropped; the transport's own buffers are out of reach from here (the daemon and
//! `vaultctl` have those wiped by their allocator).

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::v1::{Card, CompareLastFourRequest, Expiry, Ssn, SubmitShareRequest, UnsealRequest};

macro_rules! wiped {
    ($($message:ident { $($field:ident),* })*) => {
        /// The fields wiped on drop, as `Message.field`.
        pub const WIPED: &[&str] = &[$($(concat!(stringify!($message), ".", stringify!($field))),*),*];

        $(
            impl Zeroize for $message {
                fn zeroize(&mut self) {
                    $(self.$field.zeroize();)*
                }
            }

            impl Drop for $message {
                fn drop(&mut self) {
                    self.zeroize();
                }
            }

            impl ZeroizeOnDrop for $message {}
        )*
    };
}

wiped! {
    Card { pan, expiry, cardholder_name }
    CompareLastFourRequest { last_four }
    Ssn { number }
    SubmitShareRequest { share }
    UnsealRequest { passphrase }
}

// Two numbers that prost makes `Copy`, and so without a `Drop` of their own: the card they belong to wipes
// them.
impl Zeroize for Expiry {
    fn zeroize(&mut self) {
        self.month.zeroize();
        self.year.zeroize();
    }
}
