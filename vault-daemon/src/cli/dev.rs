//! `dev`: a throwaway vault, shown at work over mutual TLS by clients like any other.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tempfile::TempDir;
use tonic::transport::Channel;
use vault_core::audit::{LeafHash, Origin, Receipt, VerifierKey};
use vault_daemon::clock::SystemClock;
use vault_daemon::config::{Config, Engine, LogConfig, LogFormat, LogLevel};
use vault_daemon::confine::confine_dev;
use vault_daemon::dev::DevFolder;
use vault_daemon::telemetry::log_to_stderr;
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::value::Kind;
use vault_proto::v1::{
    Card, DetokenizeRequest, Expiry, GetStatusRequest, ProveInclusionRequest, Ssn, TokenizeRequest, Value,
};
use vault_proto::{Connector, reason};
use zeroize::Zeroizing;

use super::Done;
use super::serve::Signals;

/// What the payment networks publish for tests, and an SSN that was printed in advertisements and never
/// issued since.
const SAMPLES: [(&str, &str); 6] = [
    ("Visa", "4111111111111111"),
    ("Mastercard", "5555555555554444"),
    ("American Express", "378282246310005"),
    ("Discover", "6011111111111117"),
    ("JCB", "3530111333300000"),
    ("SSN", "078-05-1120"),
];
const PURPOSE: &str = "settlement";
const RECIPIENT: &str = "acquirer";

#[derive(Args)]
pub(super) struct Options {
    /// Exit after the transcript: 0 if every step succeeded.
    #[arg(long)]
    once: bool,
    /// Keep the vault in this folder, and open it again next time; without it the folder goes at the end.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// The storage engine.
    #[arg(long, value_enum, default_value_t = Store::Fjall)]
    store: Store,
    /// Take the `[store]` of this file instead: `engine = "postgres"`, after `vaultd migrate`.
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    store_from: Option<PathBuf>,
    /// The least urgent events that are written to stderr.
    #[arg(long, value_enum, default_value_t = Level::Warn)]
    log_level: Level,
}

#[derive(Clone, Copy, ValueEnum)]
enum Store {
    Fjall,
    Sled,
}

#[derive(Clone, Copy, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}

pub(super) fn run(options: &Options) -> Done {
    log_to_stderr(LogConfig { format: LogFormat::Text, level: options.log_level.into() });
    let temporary = TempDir::new()?;
    let path = options.dir.clone().unwrap_or_else(|| temporary.path().join("vaultd-dev"));
    let folder = DevFolder::open(&path)?;
    let engine = match options.store {
        Store::Fjall => Engine::Fjall,
        Store::Sled => Engine::Sled,
    };
    let mut config = folder.config(engine)?;
    if let Some(file) = &options.store_from {
        config.store = Config::load_store(file)?;
    }
    let kind = config.store.kind();
    confine_dev(&config, &path, temporary.path());
    let signals = Signals::catch()?;
    let daemon = folder.serve_with(config, Arc::new(SystemClock))?;
    println!("vaultd dev serves {} on {}, store {kind}", path.display(), daemon.local_addr());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(show(&path))?;
    // With it go the clients' connections, which nobody would answer a farewell on any more.
    drop(runtime);
    if !options.once {
        print_commands(&path);
        signals.until_stopped(&daemon);
    }
    if daemon.stop() { Ok(()) } else { Err("calls were cut off".into()) }
}

/// A call's refusal with its reason, or why there was no connection.
fn refused(rpc: &str, status: &tonic::Status) -> Box<dyn Error> {
    format!("{rpc}: {} {}", reason(status).unwrap_or_default(), status.message()).into()
}

/// The transcript: every line is something that just happened over mutual TLS.
async fn show(folder: &Path) -> Done {
    let connect = async |principal| Connector::from_dev_folder(folder, principal)?.connect().await;
    let mut checkout = TokenizationClient::new(connect("checkout").await?);
    let mut billing = TokenizationClient::new(connect("billing").await?);
    let verifier = Verifier::new(connect("auditor").await?, connect("custodian").await?).await?;

    println!("\ncheckout gives values and keeps tokens:");
    let mut kept = Vec::new();
    for (name, number) in SAMPLES {
        let request = TokenizeRequest {
            value: Some(value(name, number)),
            purposes: vec![PURPOSE.to_owned()],
            reference: "dev-transcript".to_owned(),
            ..TokenizeRequest::default()
        };
        let answer = checkout.tokenize(request).await.map_err(|status| refused("Tokenize", &status))?;
        let answer = answer.into_inner();
        let masked = answer.masked.map(|masked| masked.text).unwrap_or_default();
        let proven = verifier.verify(answer.receipt).await?;
        println!("  {name:<17} {masked:<20} -> {}  {proven}", answer.token);
        kept.push((name, number, answer.token));
    }

    println!("\nbilling gets values back, for {PURPOSE}, to send them to {RECIPIENT}:");
    for (name, number, token) in kept {
        let request = DetokenizeRequest {
            token: token.clone(),
            purpose: PURPOSE.to_owned(),
            recipient: RECIPIENT.to_owned(),
            reference: "dev-transcript".to_owned(),
        };
        let answer = billing.detokenize(request).await.map_err(|status| refused("Detokenize", &status))?;
        let answer = answer.into_inner();
        let released = Zeroizing::new(digits_of(answer.value.as_ref()));
        let given = Zeroizing::new(number.replace('-', "").into_bytes());
        if *released != *given {
            return Err(format!("{name}: another value came back than was given").into());
        }
        let last_four =
            String::from_utf8_lossy(released.get(released.len().saturating_sub(4)..).unwrap_or_default())
                .into_owned();
        let proven = verifier.verify(answer.receipt).await?;
        println!("  {token} -> {name}, ends in {last_four}, as given  {proven}");
    }

    println!("\ncheckout asks for a value back:");
    let request = DetokenizeRequest {
        token: "tok_pan_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
        purpose: PURPOSE.to_owned(),
        recipient: RECIPIENT.to_owned(),
        reference: "dev-transcript".to_owned(),
    };
    match checkout.detokenize(request).await {
        Err(status) if reason(&status).as_deref() == Some("DENIED") => {
            println!("  DENIED, and the log says so");
        }
        Err(status) => return Err(refused("Detokenize", &status)),
        Ok(_) => return Err("checkout was let through".into()),
    }
    println!("\nthe log's verifier key: {}", verifier.key);
    Ok(())
}

fn value(name: &str, number: &str) -> Value {
    let digits = number.as_bytes().to_vec();
    let kind = match name {
        "SSN" => Kind::Ssn(Ssn { number: digits }),
        _ => Kind::Card(Card {
            pan: digits,
            expiry: Some(Expiry { month: 12, year: 2030 }),
            cardholder_name: Some(b"Test Card".to_vec()),
        }),
    };
    Value { kind: Some(kind) }
}

fn digits_of(value: Option<&Value>) -> Vec<u8> {
    match value.and_then(|value| value.kind.as_ref()) {
        Some(Kind::Card(card)) => card.pan.clone(),
        Some(Kind::Ssn(ssn)) => ssn.number.clone(),
        None => Vec::new(),
    }
}

/// Verifies receipts as anybody could who has the log's public key.
struct Verifier {
    audit: AuditClient<Channel>,
    key: VerifierKey,
}

impl Verifier {
    async fn new(auditor: Channel, custodian: Channel) -> Result<Self, Box<dyn Error>> {
        let mut custody = CustodyClient::new(custodian);
        let status =
            custody.get_status(GetStatusRequest {}).await.map_err(|status| refused("GetStatus", &status))?;
        let key = VerifierKey::parse(&status.into_inner().log_verifier_key)?;
        Ok(Self { audit: AuditClient::new(auditor), key })
    }

    async fn verify(&self, receipt: Option<vault_proto::v1::Receipt>) -> Result<String, Box<dyn Error>> {
        let receipt = receipt.ok_or("an answer without a receipt")?;
        let leaf_hash = LeafHash::try_from(receipt.leaf_hash.as_slice())?;
        let receipt = Receipt { origin: Origin::parse(&receipt.origin)?, index: receipt.index, leaf_hash };
        let request = ProveInclusionRequest { index: receipt.index, leaf_hash: leaf_hash.to_vec() };
        let proof = self.audit.clone().prove_inclusion(request).await;
        let proof = proof.map_err(|status| refused("ProveInclusion", &status))?.into_inner();
        let head = self.key.verify(&proof.checkpoint)?;
        let path: Result<Vec<LeafHash>, _> =
            proof.hashes.iter().map(|hash| LeafHash::try_from(hash.as_slice())).collect();
        if receipt.origin != *self.key.origin() || !receipt.verify(&head, &path?) {
            return Err("a receipt that the signed checkpoint does not prove".into());
        }
        Ok(format!("entry {} proven in a log of {}", receipt.index, head.size))
    }
}

fn print_commands(folder: &Path) {
    let folder = folder.display();
    println!("\nserving until Ctrl-C; try:");
    println!("  cargo run --release --bin vaultctl -- --dev {folder} --as custodian status");
    println!(
        "  echo 4111111111111111 | \
         cargo run --release --bin vaultctl -- --dev {folder} --as checkout tokenize --from -"
    );
    println!("  cargo run --release --bin vaultctl -- --dev {folder} --as auditor audit tail");
    println!("  curl -s http://$(cat {folder}/metrics-endpoint)/metrics");
}
