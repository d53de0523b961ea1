//! Checkpoints: read by an independent implementation, reading its, and refusing everything else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signed_note::{Note, StandardSigner, StandardVerifier, VerifierList};

use super::super::{Checkpoint, CheckpointError, Origin, TreeHead, VerifierKey};
use super::rows::Log;
use super::{origin, signing_key, verifier};
use crate::limits::LOG_ENTRIES_MAX;

fn head() -> TreeHead {
    Log::of(&[300]).writer.head()
}

fn signed() -> String {
    Checkpoint::sign(&origin(), &head(), &signing_key(7))
}

fn their_signer(name: &str, seed: u8) -> StandardSigner {
    let id = VerifierKey::new(Origin::parse(name).unwrap(), signing_key(seed).verifying_key()).to_string();
    let id = id.split('+').nth(1).unwrap().to_owned();
    let secret = STANDARD.encode([&[1][..], &[seed; 32]].concat());
    StandardSigner::new(&format!("PRIVATE+KEY+{name}+{id}+{secret}")).unwrap()
}

#[test]
fn an_independent_verifier_accepts_ours() {
    let note = Note::from_bytes(signed().as_bytes()).unwrap();
    let theirs = StandardVerifier::new(&verifier().to_string()).unwrap();
    let (verified, unverified) = note.verify(&VerifierList::new(vec![Box::new(theirs)])).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 0));
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(
        (checkpoint.origin(), checkpoint.size(), checkpoint.hash().0),
        (origin().as_str(), 300, head().root)
    );
    assert_eq!(checkpoint.extension(), "");
}

#[test]
fn ours_accepts_an_independent_signer_and_passes_over_witnesses() {
    let root = tlog_tiles::Hash(head().root);
    let text = tlog_tiles::Checkpoint::new(origin().as_str(), 300, root, "").unwrap().to_bytes();
    let mut note = Note::new(&text, &[]).unwrap();
    let (log, witness) = (their_signer(origin().as_str(), 7), their_signer("witness.example/w", 9));
    note.add_sigs(&[&witness, &log, &their_signer(origin().as_str(), 8)]).unwrap();
    let text = String::from_utf8(note.to_bytes()).unwrap();
    assert_eq!(verifier().verify(&text), Ok(head()));
    let witnessed = VerifierKey::new(Origin::parse("witness.example/w").unwrap(), *verifier().key());
    assert_eq!(witnessed.verify(&text), Err(CheckpointError::OtherOrigin));
}

#[test]
fn every_flipped_byte_is_noticed() {
    let checkpoint = signed().into_bytes();
    for place in 0..checkpoint.len() {
        for bit in 0..8 {
            let mut flipped = checkpoint.clone();
            flipped[place] ^= 1 << bit;
            let accepted = String::from_utf8(flipped).is_ok_and(|text| verifier().verify(&text).is_ok());
            assert!(!accepted, "bit {bit} of byte {place}");
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    let checkpoint = signed();
    for (place, _) in checkpoint.char_indices() {
        assert!(verifier().verify(&checkpoint[..place]).is_err(), "cut to {place}");
        assert!(verifier().verify(&checkpoint[place..]).is_err() || place == 0);
    }
    assert!(verifier().verify(&format!("{checkpoint}\n")).is_err());
    assert!(verifier().verify(&format!("{checkpoint}{checkpoint}")).is_err());
}

#[test]
fn another_key_or_log_is_refused() {
    let other_key = VerifierKey::new(origin(), signing_key(8).verifying_key());
    assert_eq!(other_key.verify(&signed()), Err(CheckpointError::Unsigned));
    let other_log = VerifierKey::new(Origin::parse("vault.example/log/2").unwrap(), *verifier().key());
    assert_eq!(other_log.verify(&signed()), Err(CheckpointError::OtherOrigin));
}

/// Correctly signed, yet not what this vault writes: the form counts as well as the signature.
#[test]
fn a_signed_note_of_another_form_is_refused() {
    let root = STANDARD.encode(head().root);
    let body = |lines: &str| {
        let mut note = Note::new(lines.as_bytes(), &[]).unwrap();
        note.add_sigs(&[&their_signer(origin().as_str(), 7)]).unwrap();
        verifier().verify(std::str::from_utf8(&note.to_bytes()).unwrap())
    };
    assert_eq!(body(&format!("{}\n300\n{root}\n", origin())), Ok(head()));
    let beyond = LOG_ENTRIES_MAX + 1;
    for wrong in [
        format!("{}\n300\n{root}\nextension\n", origin()),
        format!("{}\n0300\n{root}\n", origin()),
        format!("{}\n+300\n{root}\n", origin()),
        format!("{}\n{beyond}\n{root}\n", origin()),
        format!("{}\n300\n{}\n", origin(), &root[..43]),
        format!("{}\n300\n{}\n", origin(), STANDARD.encode([1; 31])),
        format!("{}\n300\n", origin()),
        format!("{} \n300\n{root}\n", origin()),
    ] {
        assert_eq!(body(&wrong), Err(CheckpointError::Malformed), "{wrong}");
    }
}

#[test]
fn repeated_and_too_many_signatures_are_refused() {
    let checkpoint = signed();
    let line = checkpoint.lines().last().unwrap();
    let foreign = "— witness.example/w AAAAAAA=\n";
    assert_eq!(verifier().verify(&format!("{checkpoint}{line}\n")), Err(CheckpointError::Malformed));
    assert_eq!(verifier().verify(&format!("{checkpoint}{}", foreign.repeat(15))), Ok(head()));
    let crowded = format!("{checkpoint}{}", foreign.repeat(16));
    assert_eq!(verifier().verify(&crowded), Err(CheckpointError::Malformed));
}

#[test]
fn a_verifier_key_has_one_text() {
    let text = verifier().to_string();
    assert_eq!(VerifierKey::parse(&text), Ok(verifier()));
    for place in 0..text.len() {
        for bit in 0..7 {
            let mut flipped = text.clone().into_bytes();
            flipped[place] ^= 1 << bit;
            let flipped = String::from_utf8(flipped).unwrap();
            assert_eq!(VerifierKey::parse(&flipped), Err(CheckpointError::KeyMalformed), "{flipped}");
        }
    }
}

#[test]
fn an_origin_is_visible_ascii_without_plus() {
    for wrong in ["", " ", "a b", "a+b", "a\n", "ä", &"x".repeat(81)] {
        assert!(Origin::parse(wrong).is_err());
    }
    assert!(Origin::parse(&"x".repeat(80)).is_ok());
}
