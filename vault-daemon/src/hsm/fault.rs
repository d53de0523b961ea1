//! What a module's answers mean to the vault.

use std::fmt::Display;

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use vault_core::error::HsmFault;

/// The vault has few words for what a module can answer; the log has the module's own. It speaks of functions
/// and numbers, never of what they were given.
pub(super) fn tell(error: &dyn Display) {
    tracing::warn!(event = "hsm_refused", error = %error);
}

/// The fault behind an answer.
#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
pub(super) fn of(error: Error) -> HsmFault {
    tell(&error);
    match &error {
        Error::Pkcs11(answer, function) => of_answer(answer, *function),
        _ => HsmFault::Failed,
    }
}

/// The fault behind a module that does not start.
#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
pub(super) fn of_module(error: Error) -> HsmFault {
    tell(&error);
    HsmFault::Module
}

/// The fault behind a decryption: tokens have several words for a tag that does not fit.
pub(super) fn of_decryption(error: Error) -> HsmFault {
    let unauthentic = matches!(
        &error,
        Error::Pkcs11(
            RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                | RvError::GeneralError
                | RvError::FunctionFailed
                | RvError::DataInvalid,
            Function::Decrypt
        )
    );
    let fault = of(error);
    if unauthentic { HsmFault::OtherKey } else { fault }
}

const fn of_answer(answer: &RvError, function: Function) -> HsmFault {
    match answer {
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => HsmFault::WrongPin,
        RvError::PinLocked | RvError::PinExpired => HsmFault::PinLocked,
        // Of a PIN nobody knows whether the token counted it: not again without a person.
        RvError::DeviceError if matches!(function, Function::Login) => HsmFault::Failed,
        RvError::DeviceError
        | RvError::DeviceRemoved
        | RvError::SessionClosed
        | RvError::SessionHandleInvalid
        | RvError::SlotIdInvalid
        | RvError::TokenNotPresent => HsmFault::Away,
        RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::FunctionNotSupported
        | RvError::KeyFunctionNotPermitted
        | RvError::KeyTypeInconsistent
        | RvError::TemplateInconsistent
        | RvError::AttributeTypeInvalid
        | RvError::AttributeValueInvalid
        | RvError::TokenWriteProtected => HsmFault::Unfit,
        RvError::ArgumentsBad if matches!(function, Function::EncryptInit | Function::DecryptInit) => {
            HsmFault::Unfit
        }
        _ => HsmFault::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_called_away_and_no_answer_to_a_pin_is_but_a_lost_token() {
        let told = |answer, function| of(Error::Pkcs11(answer, function));
        assert_eq!(told(RvError::PinIncorrect, Function::Login), HsmFault::WrongPin);
        assert_eq!(told(RvError::PinLocked, Function::Login), HsmFault::PinLocked);
        assert_eq!(told(RvError::TokenNotPresent, Function::OpenSession), HsmFault::Away);
        assert_eq!(told(RvError::MechanismInvalid, Function::EncryptInit), HsmFault::Unfit);
        assert_eq!(told(RvError::ArgumentsBad, Function::DecryptInit), HsmFault::Unfit);
        for answer in [RvError::ArgumentsBad, RvError::GeneralError, RvError::DeviceError] {
            let fault = told(answer, Function::Login);
            assert_eq!((fault, fault.may_pass()), (HsmFault::Failed, false));
        }
        assert_eq!(told(RvError::DeviceError, Function::OpenSession), HsmFault::Away);
    }

    #[test]
    fn a_tag_that_does_not_fit_is_another_key_and_a_lost_token_is_not() {
        let told = |answer, function| of_decryption(Error::Pkcs11(answer, function));
        for answer in [RvError::EncryptedDataInvalid, RvError::GeneralError] {
            assert_eq!(told(answer, Function::Decrypt), HsmFault::OtherKey);
        }
        assert_eq!(told(RvError::GeneralError, Function::DecryptInit), HsmFault::Failed);
        assert_eq!(told(RvError::DeviceRemoved, Function::Decrypt), HsmFault::Away);
    }
}
