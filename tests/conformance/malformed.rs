//! Requests that are refused for what is in them.

use vault_proto::v1 as wire;
use vault_proto::v1::batch_tokenize_result::Verdict;
use vault_proto::v1::batches_client::BatchesClient;

use crate::cases::{USED_KEY, cases, unknown_tokens};
use crate::rpcs::Refused;
use crate::site::{EVERY_ENGINE, FOREIGN, OWN, OWN_SSN, Site};
use crate::{check, requests};

#[tokio::test]
async fn every_rpc_refuses_every_bad_request_with_its_reason() {
    for engine in EVERY_ENGINE {
        let site = Site::start_on(engine).await;
        for rpc in ["Tokenize", "BatchTokenize"] {
            site.ask("checkout", requests::with_key(rpc, OWN, USED_KEY)).await.unwrap();
        }
        // A stranger may leave 60 entries a minute; this many calls in one second of the vault's clock are
        // more.
        let (strangers, others): (Vec<_>, Vec<_>) =
            cases(&site.stage).into_iter().partition(|case| case.by == "stranger");
        assert!(strangers.len() < 60);
        check::all(&site, &strangers).await;
        check::all(&site, &others).await;
    }
}

#[tokio::test]
async fn unknown_foreign_erased_and_restricted_tokens_have_one_and_the_same_answer() {
    for engine in EVERY_ENGINE {
        let site = Site::start_on(engine).await;
        let kept = site.store.kept();
        let gone = requests::with_key("Tokenize", "6011111111111117", "gone");
        let erased = site.ask("checkout", gone).await.unwrap().token;
        assert!(site.store.kept().len() > kept.len());
        site.ask("care", requests::erase(&erased, "case-1")).await.unwrap();
        assert!(site.store.kept() == kept, "record, index and idempotency rows are gone");
        let mut tokens = unknown_tokens(&site.stage);
        tokens.push(("erased", erased));
        for rpc in ["Detokenize", "BatchDetokenize", "GetToken", "CompareLastFour", "EraseToken"] {
            let mut answers = Vec::new();
            let restricted =
                rpc.ends_with("etokenize").then(|| ("restricted", site.stage.restricted.clone()));
            for (_, token) in tokens.iter().cloned().chain(restricted) {
                answers.push(Refused::of(
                    site.ask(requests::caller(rpc), requests::with_token(rpc, &token)).await,
                ));
            }
            assert_eq!(
                answers[0].as_ref().and_then(|got| got.reason.as_deref()),
                Some("UNKNOWN_TOKEN"),
                "{rpc}"
            );
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{rpc}: {answers:?}");
        }
    }
}

#[tokio::test]
async fn a_bad_item_refuses_nothing_but_itself() {
    for engine in EVERY_ENGINE {
        let site = Site::start_on(engine).await;
        let item = |pan: &str| wire::BatchTokenizeItem {
            value: Some(requests::card(pan)),
            ..wire::BatchTokenizeItem::default()
        };
        let batch = requests::batch_tokenize(vec![item(OWN), item("4111111111111112"), item(FOREIGN)]);
        let kept = site.store.kept().len();
        let answer = site.ask("checkout", batch).await.unwrap();
        // The value before it was there already; the one after it is new: a record and its index row.
        assert!(answer.token.starts_with("tok_pan_"));
        assert_eq!(site.store.kept().len(), kept + 2);
    }
}

#[tokio::test]
async fn an_item_of_a_class_that_the_tenant_lacks_refuses_nothing_but_itself() {
    for engine in EVERY_ENGINE {
        let site = Site::start_on(engine).await;
        let item = |value| wire::BatchTokenizeItem { value: Some(value), ..Default::default() };
        let items = vec![item(requests::ssn(OWN_SSN)), item(requests::card(OWN))];
        let afresh = ["DENIED", "DONE"].as_slice();
        for (key, again) in [("", afresh), ("both-classes", ["REPLAYED"].as_slice())] {
            let request =
                wire::BatchTokenizeRequest { items: items.clone(), idempotency_key: key.to_owned() };
            for outcomes in [afresh, again] {
                let mark = site.log_size().await;
                let mut client = BatchesClient::new(site.channel("cards-checkout"));
                let answer = client.batch_tokenize(request.clone()).await.unwrap().into_inner();
                let verdicts: Vec<_> =
                    answer.results.into_iter().map(|result| result.verdict.unwrap()).collect();
                let [Verdict::Refusal(refusal), Verdict::Token(token)] = verdicts.as_slice() else {
                    panic!("{verdicts:?}");
                };
                assert_eq!(refusal.reason, "DENIED", "{key}");
                assert!(token.starts_with("tok_pan_"), "{key}");
                let entries = site.entries_since(mark).await;
                let entered: Vec<&str> = entries.iter().map(|entry| entry.outcome.as_str()).collect();
                assert_eq!(entered, outcomes, "{key}");
            }
        }
    }
}
