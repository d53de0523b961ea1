//! The messages that hold plaintext themselves are wiped when they are dropped.
//!
//! Whatever holds such a message (a `Value`, a request, a whole batch) drops it and so wipes it. The price: their
//! fields cannot be moved out, only taken (`std::mem::take(&mut card.pan)`) or borrowed. Wiped is the buffer as it
//! is when dropped; the transport's own buffers are not in reach from here (the daemon wipes those with its
//! allocator).

use zeroize::Zeroize;

use crate::v1::{Card, CompareLastFourRequest, Ssn, UnsealRequest};

impl Drop for Card {
    fn drop(&mut self) {
        self.pan.zeroize();
        self.cardholder_name.zeroize();
        if let Some(expiry) = &mut self.expiry {
            expiry.month.zeroize();
            expiry.year.zeroize();
        }
    }
}

impl Drop for Ssn {
    fn drop(&mut self) {
        self.number.zeroize();
    }
}

impl Drop for CompareLastFourRequest {
    fn drop(&mut self) {
        self.last_four.zeroize();
    }
}

impl Drop for UnsealRequest {
    fn drop(&mut self) {
        self.passphrase.zeroize();
    }
}
