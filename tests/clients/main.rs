//! The vault called from other languages: Python's `grpcio` and Node's `@grpc/grpc-js`, with nothing of ours
//! but the `.proto` files. The programs are in `python/` and `node/`; each asserts what it shows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

mod guide;
mod lossy;
mod programs;

use vault_daemon::TestVault;
use vault_daemon::config::Engine;
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::{Entry, ListEntriesRequest};
use vault_tests::process::Vaultd;

use crate::lossy::LossyNetwork;
use crate::programs::{Language, run};

/// Items of the batch whose answer is lost; the programs send as many.
const LOST_ITEMS: usize = 200;

#[test]
fn python_calls_the_vault_with_nothing_but_the_proto_files() {
    calls_the_vault(Language::Python, "python: values, batches and refusals are as the .proto files say\n");
}

#[test]
fn node_calls_the_vault_with_nothing_but_the_proto_files() {
    calls_the_vault(Language::Node, "node: values, batches and refusals are as the .proto files say\n");
}

#[test]
fn python_asks_again_for_a_lost_answer_and_nothing_is_stored_twice() {
    asks_again(Language::Python, "python: 200 tokens after a lost answer\n");
}

#[test]
fn node_asks_again_for_a_lost_answer_and_nothing_is_stored_twice() {
    asks_again(Language::Node, "node: 200 tokens after a lost answer\n");
}

fn calls_the_vault(language: Language, summary: &str) {
    let folder = tempfile::tempdir().unwrap();
    let vaultd = Vaultd::start(folder.path(), "fjall", &[]);
    assert_eq!(run(language, vaultd.vault_folder(), &[]), summary);
    assert!(vaultd.stop().success(), "no call was cut off");
}

/// With a vault that makes a new token each time: one value stored twice would show.
fn asks_again(language: Language, summary: &str) {
    let vault = TestVault::start_with(Engine::Fjall, |folder, _| {
        let policy = folder.join("policy.toml");
        let text = std::fs::read_to_string(&policy).unwrap();
        let new_tokens = text.replace("one_token_per_value = true", "one_token_per_value = false");
        assert_ne!(text, new_tokens);
        std::fs::write(&policy, new_tokens.replace("\"find-by-value\", ", "")).unwrap();
    });
    let vault = vault.unwrap();
    let network = LossyNetwork::before(vault.local_addr());
    let endpoint = network.local_addr().to_string();
    assert_eq!(run(language, vault.folder(), &["--lost-answer", &endpoint]), summary);
    assert_eq!(network.answers_lost(), 1);

    let entries = entries(&vault);
    let ended = |outcome: &str| entries.iter().filter(|entry| entry.outcome == outcome).count();
    assert_eq!(ended("DONE"), LOST_ITEMS, "stored once");
    assert!(ended("REPLAYED") >= 1, "and the stored answer given again");
}

/// What the log says of tokenizing.
fn entries(vault: &TestVault) -> Vec<Entry> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = ListEntriesRequest { start_index: 0, page_size: 500 };
    let entries = runtime.block_on(async {
        let mut auditor = AuditClient::new(vault.connector("auditor").unwrap().connect().await.unwrap());
        let mut entries = Vec::new();
        let mut request = request;
        loop {
            let page = auditor.list_entries(request).await.unwrap().into_inner();
            entries.extend(page.entries);
            if page.next_index == page.log_size {
                return entries;
            }
            request.start_index = page.next_index;
        }
    });
    entries.into_iter().filter(|entry| entry.action == "tokenize").collect()
}
