//! Messages changed field by field, so that what is changed still decodes and meets the checks behind.

use bytes::Buf as _;
use prost::encoding::{decode_varint, encode_varint};

use crate::mutation::{Random, mutated};

/// Numbers at which checks tend to turn.
const NUMBERS: [u64; 10] = [0, 1, 12, 13, 501, 1_999, 2_100, u32::MAX as u64, i64::MAX as u64, u64::MAX];

/// A field: its number and wire type, and what follows.
#[derive(Clone)]
struct Field {
    key: u64,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Number(u64),
    Bytes(Vec<u8>),
}

/// `message` with one to three of its fields changed, at any depth.
pub(crate) fn changed(random: &mut Random, message: &[u8], words: &[&[u8]]) -> Vec<u8> {
    let Some(mut fields) = fields(message).filter(|fields| !fields.is_empty()) else {
        return mutated(random, &[message.to_vec()], words);
    };
    for _ in 0..=random.below(3) {
        let at = random.below(fields.len());
        match random.below(10) {
            0 if fields.len() > 1 => drop(fields.remove(at)),
            1 => fields.push(fields[at].clone()),
            2 => fields[at].key = fields[at].key % 8 + 8 * (1 + random.below(8) as u64),
            _ => change(random, &mut fields[at], words),
        }
    }
    encoded(&fields)
}

fn change(random: &mut Random, field: &mut Field, words: &[&[u8]]) {
    match &mut field.content {
        Content::Number(number) if random.below(2) == 0 => *number = *random.pick(&NUMBERS),
        Content::Number(number) => *number = random.next() >> random.below(64),
        // Digits, too, may read as a message; half of the time they are taken for what they are.
        Content::Bytes(bytes)
            if random.below(2) == 0 && fields(bytes).is_some_and(|inner| !inner.is_empty()) =>
        {
            *bytes = changed(random, bytes, words);
        }
        Content::Bytes(bytes) => *bytes = mutated(random, std::slice::from_ref(bytes), words),
    }
}

/// The fields of a message of numbers, texts and messages: those of `vault.v1` have no others.
fn fields(mut message: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while message.has_remaining() {
        let key = decode_varint(&mut message).ok()?;
        let content = match key % 8 {
            0 => Content::Number(decode_varint(&mut message).ok()?),
            2 => {
                let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Content::Bytes(bytes.to_vec())
            }
            _ => return None,
        };
        fields.push(Field { key, content });
    }
    Some(fields)
}

fn encoded(fields: &[Field]) -> Vec<u8> {
    let mut message = Vec::new();
    for field in fields {
        encode_varint(field.key, &mut message);
        match &field.content {
            Content::Number(number) => encode_varint(*number, &mut message),
            Content::Bytes(bytes) => {
                encode_varint(bytes.len() as u64, &mut message);
                message.extend_from_slice(bytes);
            }
        }
    }
    message
}

#[test]
fn a_message_is_taken_apart_and_put_together_and_its_changes_still_decode() {
    let calls = crate::daemon::sound_calls("tok_pan_fjbplbpepbnnnnnfhclmnoamkmofhlaecoioidpi");
    let mut random = Random::of("fields");
    for (_, path, message) in calls {
        assert_eq!(encoded(&fields(&message).unwrap()), message, "{path}");
        let changed = changed(&mut random, &message, &[]);
        assert!(message.is_empty() || fields(&changed).is_some(), "{path}");
    }
}
