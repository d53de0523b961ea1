//! What is called, what is sent, and whether the answer is right: nothing that failed counts as a call.

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message as _;
use vault_core::limits::BATCH_ITEMS_MAX;
use vault_proto::v1::batch_detokenize_result::Verdict as Released;
use vault_proto::v1::batch_tokenize_result::Verdict as Minted;
use vault_proto::v1::value::Kind as Value;
use vault_proto::v1::{self as wire, Card, Expiry};

use crate::numbers::{DIGITS, Numbers};
use crate::site::{PURPOSE, RECIPIENT, REFERENCE};
use crate::{Done, echo};

/// Bytes of a token as text.
const TOKEN_BYTES: usize = 48;
/// Records a client remembers of each kind, so that its memory is bounded and never moves.
const REMEMBERED_MAX: usize = 1_000_000;

type Number = [u8; DIGITS];
type Token = [u8; TOKEN_BYTES];

/// A call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Nothing, in messages as long as those of the single calls are on average.
    Echo,
    Tokenize,
    Detokenize,
    /// Nothing, in messages as long as those of the batches are on average.
    BatchEcho,
    BatchTokenize,
    BatchDetokenize,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
            Self::BatchEcho => "batch_echo",
            Self::BatchTokenize => "batch_tokenize",
            Self::BatchDetokenize => "batch_detokenize",
        }
    }

    /// The echo it stands beside.
    pub(crate) const fn echo(self) -> Self {
        match self {
            Self::Echo | Self::Tokenize | Self::Detokenize => Self::Echo,
            Self::BatchEcho | Self::BatchTokenize | Self::BatchDetokenize => Self::BatchEcho,
        }
    }

    pub(crate) fn is_echo(self) -> bool {
        self == self.echo()
    }

    pub(crate) fn is_batch(self) -> bool {
        self.echo() == Self::BatchEcho
    }

    /// Values or tokens in one call; as many for the echo beside it.
    pub(crate) fn items(self) -> usize {
        if self.is_batch() { BATCH_ITEMS_MAX } else { 1 }
    }

    pub(crate) const fn path(self) -> PathAndQuery {
        PathAndQuery::from_static(match self {
            Self::Echo | Self::BatchEcho => echo::PATH,
            Self::Tokenize => "/vault.v1.Tokenization/Tokenize",
            Self::Detokenize => "/vault.v1.Tokenization/Detokenize",
            Self::BatchTokenize => "/vault.v1.Batches/BatchTokenize",
            Self::BatchDetokenize => "/vault.v1.Batches/BatchDetokenize",
        })
    }
}

/// Bytes of a request and of its answer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lengths {
    pub(crate) request: usize,
    pub(crate) answer: usize,
}

impl Lengths {
    pub(crate) const fn between(self, other: Self) -> Self {
        Self { request: (self.request + other.request) / 2, answer: (self.answer + other.answer) / 2 }
    }
}

/// What the right answer to a request holds.
pub(crate) enum Expected {
    Nothing(usize),
    TokenOf(Number),
    TokensOf(Vec<Number>),
    Number(Number),
    Numbers(Vec<Number>),
}

/// Makes requests and checks answers, of one client thread.
pub(crate) struct Stock {
    numbers: Numbers,
    /// Whether tokenizations carry idempotency keys.
    idempotency: bool,
    single: Records,
    batch: Records,
    /// Of the single calls, and of the batches.
    echoed: [Lengths; 2],
}

impl Stock {
    pub(crate) fn new(seed: u64, idempotency: bool) -> Self {
        let records = || Records { known: Vec::with_capacity(REMEMBERED_MAX), asked: 0, again: 0 };
        let (single, batch) = (records(), records());
        Self { numbers: Numbers::new(seed), idempotency, single, batch, echoed: Default::default() }
    }

    pub(crate) const fn echo(&mut self, single: Lengths, batch: Lengths) {
        self.echoed = [single, batch];
    }

    /// The next request, and what its answer must hold; `first` counts tokens detokenized for the first time.
    pub(crate) fn request(&mut self, kind: Kind, first: &mut u64) -> (Bytes, Expected) {
        let [single, batch] = self.echoed;
        match kind {
            Kind::Echo => nothing(single),
            Kind::BatchEcho => nothing(batch),
            Kind::Tokenize => tokenize(self.numbers.draw(), self.idempotency_key()),
            Kind::BatchTokenize => {
                let numbers = (0..BATCH_ITEMS_MAX).map(|_| self.numbers.draw()).collect();
                batch_tokenize(numbers, self.idempotency_key())
            }
            Kind::Detokenize => {
                let (number, token) = self.single.walk(first);
                detokenize(number, &token)
            }
            Kind::BatchDetokenize => {
                batch_detokenize((0..BATCH_ITEMS_MAX).map(|_| self.batch.walk(first)).unzip())
            }
        }
    }

    /// Another one each time, if calls carry any.
    fn idempotency_key(&mut self) -> String {
        if self.idempotency { self.numbers.key() } else { String::new() }
    }

    /// Checks an answer and remembers its tokens.
    pub(crate) fn check(&mut self, expected: Expected, answer: &[u8]) -> Done {
        let is_right = match expected {
            Expected::Nothing(bytes) => answer.len() == bytes,
            Expected::TokenOf(number) => self.single.remember(number, token_in(answer)),
            Expected::Number(number) => answer.starts_with(&released(number)),
            Expected::TokensOf(numbers) => {
                let results = wire::BatchTokenizeResponse::decode(answer)?.results;
                results.len() == numbers.len()
                    && numbers.into_iter().zip(results).all(|(number, result)| {
                        let token = match &result.verdict {
                            Some(Minted::Token(token)) => token.as_bytes().try_into().ok(),
                            _ => None,
                        };
                        self.batch.remember(number, token)
                    })
            }
            Expected::Numbers(numbers) => {
                let results = wire::BatchDetokenizeResponse::decode(answer)?.results;
                results.len() == numbers.len()
                    && numbers.iter().zip(&results).all(|(number, result)| is_released(result, number))
            }
        };
        if is_right { Ok(()) } else { Err("an answer that is not what was asked for".into()) }
    }
}

/// Numbers and their tokens: first those never asked for, in order; when there are none, all over again.
struct Records {
    known: Vec<(Number, Token)>,
    asked: usize,
    again: usize,
}

impl Records {
    fn remember(&mut self, number: Number, token: Option<Token>) -> bool {
        let Some(token) = token.filter(|token| token.starts_with(b"tok_pan_")) else { return false };
        if self.known.len() < REMEMBERED_MAX {
            self.known.push((number, token));
        }
        true
    }

    /// A record; the vault refuses the zero token if there is none.
    fn walk(&mut self, first: &mut u64) -> (Number, Token) {
        let at = if self.asked < self.known.len() {
            self.asked += 1;
            *first += 1;
            self.asked - 1
        } else {
            self.again += 1;
            (self.again - 1).checked_rem(self.known.len()).unwrap_or(0)
        };
        let record = self.known.get(at);
        record.copied().unwrap_or(([b'0'; DIGITS], [b'0'; TOKEN_BYTES]))
    }
}

fn nothing(lengths: Lengths) -> (Bytes, Expected) {
    (echo::request(lengths.request, lengths.answer), Expected::Nothing(lengths.answer))
}

fn tokenize(number: Number, idempotency_key: String) -> (Bytes, Expected) {
    let request = wire::TokenizeRequest {
        value: Some(card(number)),
        purposes: Vec::new(),
        reference: REFERENCE.to_owned(),
        idempotency_key,
    };
    (request.encode_to_vec().into(), Expected::TokenOf(number))
}

fn batch_tokenize(numbers: Vec<Number>, idempotency_key: String) -> (Bytes, Expected) {
    let item = |number: &Number| wire::BatchTokenizeItem {
        value: Some(card(*number)),
        purposes: Vec::new(),
        reference: REFERENCE.to_owned(),
    };
    let items = numbers.iter().map(item).collect();
    let request = wire::BatchTokenizeRequest { items, idempotency_key };
    (request.encode_to_vec().into(), Expected::TokensOf(numbers))
}

fn detokenize(number: Number, token: &Token) -> (Bytes, Expected) {
    let request = wire::DetokenizeRequest {
        token: text(token),
        purpose: PURPOSE.to_owned(),
        recipient: RECIPIENT.to_owned(),
        reference: REFERENCE.to_owned(),
    };
    (request.encode_to_vec().into(), Expected::Number(number))
}

fn batch_detokenize((numbers, tokens): (Vec<Number>, Vec<Token>)) -> (Bytes, Expected) {
    let items = tokens.iter().map(|token| wire::BatchDetokenizeItem { token: text(token) }).collect();
    let request = wire::BatchDetokenizeRequest {
        items,
        purpose: PURPOSE.to_owned(),
        recipient: RECIPIENT.to_owned(),
        reference: REFERENCE.to_owned(),
    };
    (request.encode_to_vec().into(), Expected::Numbers(numbers))
}

fn card(number: Number) -> wire::Value {
    let expiry = Some(Expiry { month: 12, year: 2030 });
    let card = Card { pan: number.to_vec(), expiry, cardholder_name: None };
    wire::Value { kind: Some(Value::Card(card)) }
}

fn text(token: &Token) -> String {
    String::from_utf8_lossy(token).into_owned()
}

/// The token of a `TokenizeResponse`, whose first field it is, without decoding the rest.
fn token_in(answer: &[u8]) -> Option<Token> {
    answer.strip_prefix(&[0x0a, TOKEN_BYTES as u8])?.first_chunk().copied()
}

/// How the right `DetokenizeResponse` begins.
fn released(number: Number) -> Vec<u8> {
    let value = Some(card(number));
    wire::DetokenizeResponse { value, receipt: None, record_version: 0, create_time: None }.encode_to_vec()
}

fn is_released(result: &wire::BatchDetokenizeResult, number: &Number) -> bool {
    let Some(Released::Record(record)) = &result.verdict else { return false };
    let value = record.value.as_ref().and_then(|value| value.kind.as_ref());
    matches!(value, Some(Value::Card(card)) if card.pan == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &[u8; TOKEN_BYTES] = b"tok_pan_abcdefghijklmnopabcdefghijklmnopabcdefgh";
    const NUMBER: &Number = b"4111111111111111";

    fn tokenized() -> Vec<u8> {
        wire::TokenizeResponse { token: text(TOKEN), masked: None, receipt: None }.encode_to_vec()
    }

    #[test]
    fn a_token_is_remembered_and_asked_for_again() {
        let mut stock = Stock::new(1, false);
        stock.check(Expected::TokenOf(*NUMBER), &tokenized()).unwrap();
        let mut first = 0;
        for tokenized_between in [false, true, false] {
            if tokenized_between {
                stock.check(Expected::TokenOf(*NUMBER), &tokenized()).unwrap();
            }
            let (request, expected) = stock.request(Kind::Detokenize, &mut first);
            assert_eq!(wire::DetokenizeRequest::decode(request).unwrap().token.as_bytes(), TOKEN);
            assert!(matches!(expected, Expected::Number(number) if number == *NUMBER));
        }
        assert_eq!(first, 2, "the last one was asked for before");
    }

    #[test]
    fn wrong_answers_are_no_calls() {
        let mut stock = Stock::new(1, false);
        assert!(stock.check(Expected::TokenOf(*NUMBER), b"").is_err());
        assert!(stock.check(Expected::Nothing(3), b"12").is_err());
        let other = released(*b"5555555555554444");
        assert!(stock.check(Expected::Number(*NUMBER), &other).is_err());
        assert!(stock.check(Expected::Number(*b"5555555555554444"), &other).is_ok());
        let refusal = wire::Refusal { code: 7, reason: "DENIED".into(), message: String::new() };
        let refused = wire::BatchTokenizeResult { verdict: Some(Minted::Refusal(refusal)), receipt: None };
        let refused = wire::BatchTokenizeResponse { results: vec![refused] }.encode_to_vec();
        assert!(stock.check(Expected::TokensOf(vec![*NUMBER]), &refused).is_err());
        assert!(stock.check(Expected::Numbers(vec![*NUMBER]), b"").is_err());
    }
}
