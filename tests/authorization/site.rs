//! One vault, two tenants, a certificate for everybody.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use tonic::transport::Channel;
use vault_core::clock::Clock;
use vault_daemon::TestVault;
use vault_daemon::certificates::{Authority, Request, Validity};
use vault_daemon::clock::SystemClock;
use vault_daemon::config::Config;
use vault_daemon::tls::ClientCaFiles;
use vault_proto::Connector;
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::{
    Card, Entry, ListEntriesRequest, Receipt, SealRequest, TokenizeRequest, UnsealRequest, Value, value,
};
use vault_tests::engines::test_vault;

pub(crate) const POLICY: &str = include_str!("policy.toml");
/// Who sets the stage and looks at the log; none of them has a column of its own.
const STAGE: [&str; 3] = ["rival-checkout", "watch", "opener"];
const COLUMNS: [&str; 9] =
    ["checkout", "prover", "billing", "viewer", "care", "auditor", "overseer", "custodian", "stranger"];

/// About whose data a call asks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Whose {
    /// The caller's own tenant's: shop.
    Own,
    /// Another tenant's: rival.
    Foreign,
    /// Nobody's.
    Vault,
}

impl Whose {
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "own" => Self::Own,
            "foreign" => Self::Foreign,
            "vault" => Self::Vault,
            _ => panic!("{word} is not whose"),
        }
    }
}

/// A record to ask about.
pub(crate) struct Target {
    pub(crate) pan: &'static str,
    pub(crate) token: String,
    pub(crate) receipt: Receipt,
}

/// The vault and everybody's connection to it.
pub(crate) struct Site {
    channels: HashMap<&'static str, Channel>,
    passphrase: Vec<u8>,
    own: Option<Target>,
    foreign: Option<Target>,
    _vault: TestVault,
}

impl Site {
    pub(crate) async fn start(engine: &str) -> Self {
        let now = SystemClock.now();
        let authority = Authority::root("tests", Validity::hours_from(now, 24)).unwrap();
        let vault = test_vault(engine, |folder, config| admit_clients_of(&authority, folder, config));
        let mut channels = HashMap::new();
        for name in COLUMNS.into_iter().chain(STAGE) {
            let connector = connector(&vault, &authority, name);
            channels.insert(name, connector.connect().await.unwrap());
        }
        let mut passphrase = fs::read(vault.folder().join("passphrase")).unwrap();
        assert_eq!(passphrase.pop(), Some(b'\n'));
        let mut site = Self { channels, passphrase, own: None, foreign: None, _vault: vault };
        site.own = Some(site.target("checkout", "4111111111111111").await);
        site.foreign = Some(site.target("rival-checkout", "5555555555554444").await);
        site
    }

    pub(crate) fn channel(&self, principal: &str) -> Channel {
        self.channels[principal].clone()
    }

    /// What is asked about; for an RPC that concerns no tenant, shop's.
    pub(crate) fn of(&self, whose: Whose) -> &Target {
        let target = if whose == Whose::Foreign { &self.foreign } else { &self.own };
        target.as_ref().unwrap()
    }

    /// A record that may go: made anew for each call that could erase it, if the vault is open.
    pub(crate) async fn spare(&self) -> Option<String> {
        let request = TokenizeRequest { value: Some(card("378282246310005")), ..TokenizeRequest::default() };
        let answer = TokenizationClient::new(self.channel("checkout")).tokenize(request).await.ok()?;
        Some(answer.into_inner().token.clone())
    }

    async fn target(&self, principal: &str, pan: &'static str) -> Target {
        let request = TokenizeRequest { value: Some(card(pan)), ..TokenizeRequest::default() };
        let mut client = TokenizationClient::new(self.channel(principal));
        let answer = client.tokenize(request).await.unwrap().into_inner();
        Target { pan, token: answer.token.clone(), receipt: answer.receipt.clone().unwrap() }
    }

    pub(crate) fn unseal_request(&self) -> UnsealRequest {
        UnsealRequest { passphrase: self.passphrase.clone(), hsm: false }
    }

    pub(crate) async fn unseal(&self) {
        CustodyClient::new(self.channel("opener")).unseal(self.unseal_request()).await.unwrap();
    }

    pub(crate) async fn seal(&self) {
        let request = SealRequest { reason: "test".to_owned() };
        CustodyClient::new(self.channel("opener")).seal(request).await.unwrap();
    }

    /// Where the log ends now; reading it is an entry too, which is already counted.
    pub(crate) async fn log_size(&self) -> u64 {
        let request = ListEntriesRequest { start_index: 0, page_size: 1 };
        let listed = AuditClient::new(self.channel("watch")).list_entries(request).await.unwrap();
        listed.into_inner().log_size
    }

    /// Everybody's entries from `mark` on, but for those of who looks.
    pub(crate) async fn entries_since(&self, mark: u64) -> Vec<Entry> {
        let request = ListEntriesRequest { start_index: mark, page_size: 500 };
        let listed =
            AuditClient::new(self.channel("watch")).list_entries(request).await.unwrap().into_inner();
        assert_eq!(listed.next_index, listed.log_size, "one page is enough");
        let others = |entry: &Entry| crate::entries::actor(entry) != Some("watch");
        listed.entries.into_iter().filter(others).collect()
    }
}

pub(crate) fn card(pan: &str) -> Value {
    let card = Card { pan: pan.as_bytes().to_vec(), expiry: None, cardholder_name: None };
    Value { kind: Some(value::Kind::Card(card)) }
}

/// The URI in everybody's certificate.
pub(crate) fn identity(principal: &str) -> String {
    format!("spiffe://tests/{principal}")
}

/// Puts the policy of these tests in force, and this CA in the place of the usual one.
fn admit_clients_of(authority: &Authority, folder: &Path, config: &mut Config) {
    let certificate = folder.join("certs/clients.pem");
    fs::write(&certificate, authority.certificate_pem()).unwrap();
    fs::write(folder.join("policy.toml"), POLICY).unwrap();
    config.listen.tls.client_cas =
        vec![ClientCaFiles { name: "tests".to_owned(), certificate, revocation_lists: Vec::new() }];
}

fn connector(vault: &TestVault, authority: &Authority, principal: &str) -> Connector {
    let validity = Validity::hours_from(SystemClock.now(), 24);
    let leaf = authority.issue(&Request::client(&identity(principal), validity)).unwrap();
    let server_ca = fs::read(vault.folder().join("certs/ca.pem")).unwrap();
    let (chain, key) = (leaf.chain_pem.as_bytes(), leaf.private_key_pem.as_bytes());
    Connector::new(&vault.local_addr().to_string(), &server_ca, chain, key).unwrap()
}
