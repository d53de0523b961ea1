//! Every value in and out again, by every RPC, and every refusal that a number can end in.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::batch_detokenize_result::Verdict as Detokenized;
use vault_proto::v1::batch_tokenize_result::Verdict as Tokenized;
use vault_proto::v1::batches_client::BatchesClient;
use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::v1::keys_client::KeysClient;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::{
    BatchDetokenizeItem, BatchDetokenizeRequest, BatchTokenizeItem, BatchTokenizeRequest,
    CompareLastFourRequest, DetokenizeRequest, EraseTokenRequest, FindByValueRequest, GetTokenRequest,
    ListKeysRequest, ProveInclusionRequest, RotateKeysRequest, SealRequest, TokenizeRequest, UnsealRequest,
    Value,
};
use vault_tests::process::Vaultd;
use vault_tests::values::{Seeded, card, digits, ssn};

const OF_EACH_CLASS: usize = 5_000;
const REFUSED: usize = 24;
/// Text is screened for numbers that a network could have issued; this range is the one of published test
/// numbers.
const TEST_BIN: &str = "411111";
/// Of each thousand so many travel one by one: the others are quicker together.
const SINGLES: usize = 100;
const BATCH: usize = 1_000;
/// A token by its grammar that stands for nothing.
const UNKNOWN_TOKEN: &str = "tok_pan_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// All numbers that the daemon will see.
pub(crate) struct Numbers {
    good: Vec<String>,
    /// Never accepted: they occur in calls that are refused only.
    refused: Vec<String>,
}

impl Numbers {
    /// Different ones for each run.
    pub(crate) fn new(random: &mut Seeded) -> Self {
        let pan = |random: &mut Seeded| {
            let length = 13 + usize::try_from(random.below(7)).unwrap();
            random.pan(length)
        };
        let mut good: Vec<String> = (0..OF_EACH_CLASS).map(|_| pan(random)).collect();
        good.extend((0..OF_EACH_CLASS).map(|_| random.ssn()));
        let refused = (0..REFUSED).map(|_| random.pan_of(TEST_BIN, 16)).collect();
        Self { good, refused }
    }

    /// How many.
    pub(crate) const fn len(&self) -> usize {
        self.good.len() + self.refused.len()
    }

    /// Their digits.
    pub(crate) fn all(&self) -> Vec<&str> {
        self.good.iter().chain(&self.refused).map(String::as_str).collect()
    }
}

/// One connection for each principal of the vault.
pub(crate) struct Clients {
    checkout: Channel,
    billing: Channel,
    care: Channel,
    auditor: Channel,
    stranger: Channel,
}

impl Clients {
    /// Connects all.
    pub(crate) async fn connect(vaultd: &Vaultd) -> Self {
        Self {
            checkout: vaultd.connect("checkout").await,
            billing: vaultd.connect("billing").await,
            care: vaultd.connect("care").await,
            auditor: vaultd.connect("auditor").await,
            stranger: vaultd.connect("stranger").await,
        }
    }
}

/// Makes all calls; answers with everything that refusals said.
pub(crate) async fn make_every_call(clients: &Clients, numbers: &Numbers, endpoint: &str) -> Vec<Vec<u8>> {
    for (at, part) in numbers.good.chunks(BATCH).enumerate() {
        let (single, batch) = part.split_at(SINGLES);
        let mut tokens = tokenize_one_by_one(&clients.checkout, single).await;
        let key = if at % 2 == 0 { format!("batch-{at}") } else { String::new() };
        tokens.extend(tokenize_together(&clients.checkout, batch, &key).await);
        if !key.is_empty() {
            let again = tokenize_together(&clients.checkout, batch, &key).await;
            assert!(tokens.ends_with(&again), "a repeated batch gave other tokens");
        }
        detokenize_one_by_one(&clients.billing, &single[..SINGLES / 2], &tokens).await;
        look_at(&clients.billing, &single[0], &tokens[0]).await;
        detokenize_together(&clients.billing, part, &tokens).await;
        // Its number was in a record, an index row and an idempotency row.
        erase(&clients.care, &tokens[0]).await;
    }
    let mut heard = be_refused(clients, numbers).await;
    heard.extend(be_refused_in_a_batch(clients, numbers).await);
    speak_no_tls(endpoint, &numbers.refused[0]);
    heard
}

fn value(number: &str) -> Value {
    if number.len() == 9 { ssn(number) } else { card(number) }
}

/// As people write it, which the daemon must take apart.
fn printed(number: &str) -> Value {
    if number.len() == 9 {
        return ssn(&format!("{}-{}-{}", &number[..3], &number[3..5], &number[5..]));
    }
    let groups: Vec<&str> =
        (0..number.len()).step_by(4).map(|at| &number[at..number.len().min(at + 4)]).collect();
    card(&groups.join(" "))
}

/// A request that a good call makes.
fn asking(value: Value, key: &str) -> TokenizeRequest {
    TokenizeRequest { value: Some(value), idempotency_key: key.to_owned(), ..TokenizeRequest::default() }
}

fn revealing(token: &str) -> DetokenizeRequest {
    DetokenizeRequest {
        token: token.to_owned(),
        purpose: "settlement".to_owned(),
        recipient: "acquirer".to_owned(),
        reference: "leakage".to_owned(),
    }
}

async fn tokenize_one_by_one(checkout: &Channel, numbers: &[String]) -> Vec<String> {
    let mut client = TokenizationClient::new(checkout.clone());
    let mut tokens = Vec::new();
    for (at, number) in numbers.iter().enumerate() {
        let value = if at % 3 == 0 { printed(number) } else { value(number) };
        let key = if at % 2 == 0 { format!("{}-{at}", tokens.len()) } else { String::new() };
        // A key of its own for each value: the value's place among all is not known here.
        let key = if key.is_empty() { key } else { format!("{key}-{}", fingerprint(number)) };
        let token = client.tokenize(asking(value, &key)).await.expect("a token").into_inner().token;
        tokens.push(token);
    }
    tokens
}

/// Some letters that differ from value to value and tell nothing of it worth scanning for.
fn fingerprint(number: &str) -> String {
    let hash = vault_core::audit::leaf_hash(number.as_bytes());
    hash[..8].iter().map(|byte| char::from(b'a' + byte % 16)).collect()
}

async fn tokenize_together(checkout: &Channel, numbers: &[String], key: &str) -> Vec<String> {
    let mut client = BatchesClient::new(checkout.clone());
    let items = numbers.iter().map(|number| item(value(number))).collect();
    let request = BatchTokenizeRequest { items, idempotency_key: key.to_owned() };
    let answer = client.batch_tokenize(request).await.expect("verdicts").into_inner();
    let tokens = answer.results.into_iter().map(|result| match result.verdict {
        Some(Tokenized::Token(token)) => token,
        _ => panic!("a good value was refused"),
    });
    tokens.collect()
}

fn item(value: Value) -> BatchTokenizeItem {
    BatchTokenizeItem { value: Some(value), ..BatchTokenizeItem::default() }
}

async fn detokenize_one_by_one(billing: &Channel, numbers: &[String], tokens: &[String]) {
    let mut client = TokenizationClient::new(billing.clone());
    for (number, token) in numbers.iter().zip(tokens) {
        let answer = client.detokenize(revealing(token)).await.expect("a value").into_inner();
        assert!(digits(answer.value.as_ref()) == number.as_bytes(), "another value came back");
    }
}

async fn detokenize_together(billing: &Channel, numbers: &[String], tokens: &[String]) {
    let mut client = BatchesClient::new(billing.clone());
    let request = BatchDetokenizeRequest {
        items: tokens.iter().map(|token| BatchDetokenizeItem { token: token.clone() }).collect(),
        purpose: "settlement".to_owned(),
        recipient: "acquirer".to_owned(),
        reference: "leakage".to_owned(),
    };
    let answer = client.batch_detokenize(request).await.expect("verdicts").into_inner();
    assert_eq!(answer.results.len(), numbers.len());
    for (number, result) in numbers.iter().zip(&answer.results) {
        let Some(Detokenized::Record(record)) = &result.verdict else { panic!("a good token was refused") };
        assert!(digits(record.value.as_ref()) == number.as_bytes(), "another value came back");
    }
}

/// The RPCs that answer about a value without giving it.
async fn look_at(billing: &Channel, number: &str, token: &str) {
    let mut client = TokenizationClient::new(billing.clone());
    let request = GetTokenRequest { token: token.to_owned(), reference: String::new() };
    client.get_token(request).await.expect("a view");
    let last_four = number.as_bytes()[number.len() - 4..].to_vec();
    let request = CompareLastFourRequest { token: token.to_owned(), last_four, reference: String::new() };
    assert!(client.compare_last_four(request).await.expect("an answer").into_inner().matches);
    let request = FindByValueRequest { value: Some(value(number)), reference: String::new() };
    assert_eq!(client.find_by_value(request).await.expect("an answer").into_inner().token, token);
}

async fn erase(care: &Channel, token: &str) {
    let mut client = TokenizationClient::new(care.clone());
    let request = EraseTokenRequest { token: token.to_owned(), reference: "leakage".to_owned() };
    assert!(client.erase_token(request).await.expect("an answer").into_inner().receipt.is_some());
}

/// Collects what refusals say, each to be had by a call that must fail.
#[derive(Default)]
struct Heard(Vec<Vec<u8>>);

impl Heard {
    fn refused<T>(&mut self, what: &str, answer: Result<Response<T>, Status>) {
        let Err(status) = answer else { panic!("a call that must fail was answered: {what}") };
        self.0.push(format!("{status:?} {status}").into_bytes());
        self.0.push(status.message().as_bytes().to_vec());
        self.0.push(status.details().to_vec());
        for value in status.metadata().as_ref().values() {
            self.0.push(value.as_bytes().to_vec());
        }
    }
}

/// Numbers wherever a caller could put one by mistake.
async fn be_refused(clients: &Clients, numbers: &Numbers) -> Vec<Vec<u8>> {
    let mut heard = Heard::default();
    let mut checkout = TokenizationClient::new(clients.checkout.clone());
    for number in &numbers.refused {
        for (what, request) in bad_tokenizations(number) {
            heard.refused(what, checkout.tokenize(request).await);
        }
        be_refused_values(clients, number, &mut heard).await;
        be_refused_elsewhere(clients, number, &mut heard).await;
    }
    let kept = asking(value(&numbers.good[0]), "kept-key");
    checkout.tokenize(kept).await.expect("a token");
    heard.refused(
        "checkout tokenize",
        checkout.tokenize(asking(value(&numbers.refused[0]), "kept-key")).await,
    );
    heard.0
}

/// One field after another that is wrong, with the number in it or beside it.
fn bad_tokenizations(number: &str) -> Vec<(&'static str, TokenizeRequest)> {
    let good = || asking(card(number), "");
    let wrong_check_digit = {
        let last = number.as_bytes()[number.len() - 1];
        format!("{}{}", &number[..number.len() - 1], (last - b'0' + 1) % 10)
    };
    vec![
        ("check digit", asking(card(&wrong_check_digit), "")),
        // The number whole, and something that makes it none.
        ("letter", asking(card(&format!("{number}x")), "")),
        ("length", asking(card(&format!("{number}0000000")), "")),
        ("track 1", asking(card(&format!("%B{number}^TEST/CARD^3012101000000000?")), "")),
        ("track 2", asking(card(&format!(";{number}=30121010000000000000?")), "")),
        ("PAN as SSN", asking(ssn(number), "")),
        ("SSN never issued", asking(ssn(&format!("666{}", &number[..6])), "")),
        ("no value", asking(Value { kind: None }, number)),
        ("PAN as key", asking(card(number), number)),
        ("PAN as reference", TokenizeRequest { reference: number.to_owned(), ..good() }),
        ("PAN in reference", TokenizeRequest { reference: format!("case-{number}"), ..good() }),
        ("PAN as purpose", TokenizeRequest { purposes: vec![number.to_owned()], ..good() }),
        ("too long for the door", TokenizeRequest { reference: number.repeat(5_000), ..good() }),
    ]
}

async fn be_refused_values(clients: &Clients, number: &str, heard: &mut Heard) {
    let mut billing = TokenizationClient::new(clients.billing.clone());
    let mut bad: Vec<DetokenizeRequest> =
        [number, &format!("tok_pan_{number}"), UNKNOWN_TOKEN].map(revealing).into();
    bad.extend([
        DetokenizeRequest { purpose: number.to_owned(), ..revealing(UNKNOWN_TOKEN) },
        DetokenizeRequest { recipient: number.to_owned(), ..revealing(UNKNOWN_TOKEN) },
        DetokenizeRequest { reference: number.to_owned(), ..revealing(UNKNOWN_TOKEN) },
    ]);
    for request in bad {
        heard.refused("billing detokenize", billing.detokenize(request).await);
    }
    let last_four = number.as_bytes().to_vec();
    let (token, reference) = (UNKNOWN_TOKEN.to_owned(), String::new());
    heard.refused(
        "billing compare_last_four",
        billing.compare_last_four(CompareLastFourRequest { token, last_four, reference }).await,
    );
    let request = GetTokenRequest { token: number.to_owned(), reference: number.to_owned() };
    heard.refused("billing get_token", billing.get_token(request).await);
    let mut request = Request::new(revealing(UNKNOWN_TOKEN));
    request.metadata_mut().insert("x-note", number.parse().expect("a header"));
    heard.refused("billing detokenize", billing.detokenize(request).await);
}

/// By callers who may not, and by other services.
async fn be_refused_elsewhere(clients: &Clients, number: &str, heard: &mut Heard) {
    for denied in [&clients.billing, &clients.auditor, &clients.stranger] {
        let mut client = TokenizationClient::new(denied.clone());
        heard.refused("client tokenize", client.tokenize(asking(card(number), "")).await);
    }
    let mut checkout = TokenizationClient::new(clients.checkout.clone());
    heard.refused("checkout detokenize", checkout.detokenize(revealing(UNKNOWN_TOKEN)).await);
    let request = FindByValueRequest { value: Some(card(number)), reference: String::new() };
    heard.refused("checkout find_by_value", checkout.find_by_value(request).await);
    let mut care = TokenizationClient::new(clients.care.clone());
    for (token, reference) in [(number, "case-1"), (UNKNOWN_TOKEN, number)] {
        let request = EraseTokenRequest { token: token.to_owned(), reference: reference.to_owned() };
        heard.refused("care erase_token", care.erase_token(request).await);
    }
    let mut custody = CustodyClient::new(clients.auditor.clone());
    heard.refused("custody seal", custody.seal(SealRequest { reason: number.to_owned() }).await);
    let mut keys = KeysClient::new(clients.auditor.clone());
    for (tenant, reason) in [(number, "case-1"), ("shop", number)] {
        let (tenant, reason) = (tenant.to_owned(), reason.to_owned());
        let request = RotateKeysRequest { tenant, class: 1, reason };
        heard.refused("keys rotate_keys", keys.rotate_keys(request).await);
    }
    let page = ListKeysRequest { page_token: format!("{number}-"), ..ListKeysRequest::default() };
    heard.refused("keys list_keys", keys.list_keys(page).await);
    let passphrase = number.as_bytes().to_vec();
    heard.refused("custody unseal", custody.unseal(UnsealRequest { passphrase, hsm: false }).await);
    let mut audit = AuditClient::new(clients.auditor.clone());
    let request = ProveInclusionRequest { index: 0, leaf_hash: number.as_bytes().repeat(2) };
    heard.refused("audit prove_inclusion", audit.prove_inclusion(request).await);
}

/// Refused items among good ones, and whole batches.
async fn be_refused_in_a_batch(clients: &Clients, numbers: &Numbers) -> Vec<Vec<u8>> {
    let mut heard = Heard::default();
    let mut checkout = BatchesClient::new(clients.checkout.clone());
    let items = numbers.refused.iter().flat_map(|number| {
        let reference = number.to_owned();
        [item(card(&format!("{number}x"))), BatchTokenizeItem { reference, ..item(card(number)) }]
    });
    let request = BatchTokenizeRequest { items: items.collect(), ..BatchTokenizeRequest::default() };
    let answer = checkout.batch_tokenize(request).await.expect("verdicts").into_inner();
    for result in answer.results {
        let Some(Tokenized::Refusal(refusal)) = result.verdict else { panic!("a bad value was taken") };
        heard.0.push(format!("{} {}", refusal.reason, refusal.message).into_bytes());
    }
    let number = &numbers.refused[0];
    let items = vec![item(card(number)); BATCH + 1];
    let too_many = BatchTokenizeRequest { items, ..BatchTokenizeRequest::default() };
    heard.refused("checkout batch_tokenize", checkout.batch_tokenize(too_many).await);
    let items = vec![item(card(number))];
    let keyed = BatchTokenizeRequest { items, idempotency_key: number.clone() };
    heard.refused("checkout batch_tokenize", checkout.batch_tokenize(keyed).await);
    heard.0
}

/// What the plaintext listener says to whoever asks, a number in the question or not.
pub(crate) fn scrape(endpoint: &str, numbers: &Numbers) -> Vec<Vec<u8>> {
    let number = &numbers.refused[0];
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(endpoint).expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx: {number}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        answer
    };
    let metrics = ask("/metrics");
    assert!(
        String::from_utf8_lossy(&metrics).contains("# TYPE vaultd_calls counter"),
        "these are no metrics"
    );
    vec![metrics, ask("/live"), ask("/ready"), ask(&format!("/{number}"))]
}

/// A number sent to the port without TLS around it.
fn speak_no_tls(endpoint: &str, number: &str) {
    let mut stream = TcpStream::connect(endpoint).expect("a connection");
    let request = format!("POST /{number} HTTP/1.1\r\nx: {number}\r\n\r\n");
    // In one piece: after the first byte that is no TLS the daemon may close.
    stream.write_all(request.as_bytes()).expect("a request");
}
