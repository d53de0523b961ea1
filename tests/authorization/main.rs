//! Who may call what: every RPC, asked by every role, for its own tenant and for another's, on every engine,
//! equals a table written by hand.
//!
//! The word in a cell is what the caller sees:
//!
//! - `served`: the answer, about whom it was asked;
//! - `nothing`: an answer that holds nothing of the other tenant;
//! - `denied`: PERMISSION_DENIED `DENIED`;
//! - `unknown`: NOT_FOUND `UNKNOWN_TOKEN`, as for a token that never was;
//! - `sealed`: FAILED_PRECONDITION `SEALED`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

mod complete;
mod entries;
mod health;
mod rpcs;
mod site;

use std::collections::BTreeMap;

use vault_tests::engines::ENGINES;

use crate::entries::check_entry;
use crate::rpcs::seen;
use crate::site::{Site, Whose};

/// Principals and what they are:
///
/// | name | role | tenant | rights |
/// |---|---|---|---|
/// | checkout, billing | as named | shop | all of the role |
/// | prover | checkout | shop | prove alone |
/// | viewer | billing | shop | view alone |
/// | care | customer-service | shop | all of the role |
/// | auditor | auditor | shop | all of the role |
/// | overseer | auditor | every | all of the role |
/// | custodian | custodian | every | all of the role |
/// | stranger | none: a valid certificate that no policy knows | | |
///
/// `own` asks about what shop keeps, `foreign` about what rival keeps, with rival's real token, value and
/// receipt; `vault` marks an RPC that concerns no tenant. `unfit` is a call that is let in and finds nothing
/// to do: a step of a ceremony, since a passphrase opens this vault, or the destruction of a key that is not
/// there.
const UNSEALED: &str = "
RPC               of       checkout prover  billing viewer  care    auditor overseer custodian stranger
Tokenize          own      served   denied  denied  denied  denied  denied  denied   denied    denied
Tokenize          foreign  nothing  denied  denied  denied  denied  denied  denied   denied    denied
Detokenize        own      denied   denied  served  denied  denied  denied  denied   denied    denied
Detokenize        foreign  denied   denied  unknown denied  denied  denied  denied   denied    denied
GetToken          own      denied   denied  served  served  served  denied  denied   denied    denied
GetToken          foreign  denied   denied  unknown unknown unknown denied  denied   denied    denied
CompareLastFour   own      denied   denied  served  denied  served  denied  denied   denied    denied
CompareLastFour   foreign  denied   denied  unknown denied  unknown denied  denied   denied    denied
FindByValue       own      served   denied  served  denied  denied  denied  denied   denied    denied
FindByValue       foreign  nothing  denied  nothing denied  denied  denied  denied   denied    denied
EraseToken        own      denied   denied  denied  denied  served  denied  denied   denied    denied
EraseToken        foreign  denied   denied  denied  denied  unknown denied  denied   denied    denied
BatchTokenize     own      served   denied  denied  denied  denied  denied  denied   denied    denied
BatchTokenize     foreign  nothing  denied  denied  denied  denied  denied  denied   denied    denied
BatchDetokenize   own      denied   denied  served  denied  denied  denied  denied   denied    denied
BatchDetokenize   foreign  denied   denied  unknown denied  denied  denied  denied   denied    denied
ListEntries       own      denied   denied  denied  denied  denied  served  served   denied    denied
ListEntries       foreign  denied   denied  denied  denied  denied  nothing served   denied    denied
GetCheckpoint     vault    served   served  served  denied  served  served  served   denied    denied
ProveInclusion    own      served   served  served  denied  served  served  served   denied    denied
ProveInclusion    foreign  served   served  served  denied  served  served  served   denied    denied
ProveConsistency  vault    served   served  served  denied  served  served  served   denied    denied
GetStatus         vault    denied   denied  denied  denied  denied  served  served   served    denied
ListKeys          own      denied   denied  denied  denied  denied  served  served   served    denied
ListKeys          foreign  denied   denied  denied  denied  denied  nothing served   served    denied
RotateKeys        vault    denied   denied  denied  denied  denied  denied  denied   served    denied
DestroyKeys       vault    denied   denied  denied  denied  denied  denied  denied   unfit     denied
BeginCeremony     vault    denied   denied  denied  denied  denied  denied  denied   unfit     denied
SubmitShare       vault    denied   denied  denied  denied  denied  denied  denied   unfit     denied
CancelCeremony    vault    denied   denied  denied  denied  denied  denied  denied   unfit     denied
Unseal            vault    denied   denied  denied  denied  denied  denied  denied   served    denied
Seal              vault    denied   denied  denied  denied  denied  denied  denied   served    denied
";

/// The same while the keys are not in memory: status and unsealing are decided as ever, all else is refused
/// before anything of the request is looked at.
const SEALED: &str = "
RPC               of       checkout prover  billing viewer  care    auditor overseer custodian stranger
Tokenize          own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
Detokenize        own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
GetToken          own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
CompareLastFour   own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
FindByValue       own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
EraseToken        own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
BatchTokenize     own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
BatchDetokenize   own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
ListEntries       own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
GetCheckpoint     vault    sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
ProveInclusion    own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
ProveConsistency  vault    sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
GetStatus         vault    denied   denied  denied  denied  denied  served  served   served    denied
ListKeys          own      sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
RotateKeys        vault    sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
DestroyKeys       vault    sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
BeginCeremony     vault    denied   denied  denied  denied  denied  denied  denied   unfit     denied
SubmitShare       vault    denied   denied  denied  denied  denied  denied  denied   unfit     denied
CancelCeremony    vault    denied   denied  denied  denied  denied  denied  denied   unfit     denied
Unseal            vault    denied   denied  denied  denied  denied  denied  denied   served    denied
Seal              vault    sealed   sealed  sealed  sealed  sealed  sealed  sealed   sealed    sealed
";

/// By whom, for what reason; how often.
type Refusals = BTreeMap<(Option<String>, String), u32>;

/// One cell of a table.
struct Cell {
    rpc: &'static str,
    of: Whose,
    principal: &'static str,
    expected: &'static str,
}

/// The cells of a table, row by row.
fn cells(table: &'static str) -> Vec<Cell> {
    let mut lines = table.lines().filter(|line| !line.is_empty()).map(|line| line.split_whitespace());
    let principals: Vec<&str> = lines.next().unwrap().skip(2).collect();
    let row = |mut words: std::str::SplitWhitespace<'static>| {
        let (rpc, of) = (words.next().unwrap(), Whose::parse(words.next().unwrap()));
        let expected: Vec<&str> = words.collect();
        assert_eq!(expected.len(), principals.len(), "the row of {rpc} has a word for each principal");
        let cells = principals.iter().zip(expected);
        cells.map(|(principal, expected)| Cell { rpc, of, principal, expected }).collect::<Vec<_>>()
    };
    lines.flat_map(row).collect()
}

#[tokio::test]
async fn unsealed_every_rpc_answers_every_role_as_the_table_says() {
    for engine in ENGINES {
        let wrong = unsealed(&Site::start(engine).await).await;
        assert!(wrong.is_empty(), "{engine}:\n  {}", wrong.join("\n  "));
    }
}

/// What is not as the table says.
async fn unsealed(site: &Site) -> Vec<String> {
    let mut wrong = Vec::new();
    for cell in cells(UNSEALED) {
        let mark = site.log_size().await;
        let saw = seen(site, cell.principal, cell.rpc, cell.of).await;
        if cell.rpc == "Seal" && saw == "served" {
            site.unseal().await;
        }
        let entered = site.entries_since(mark).await;
        let Cell { rpc, of, principal, expected } = cell;
        if saw != expected {
            wrong.push(format!("{rpc} of {of:?} by {principal}: {saw} instead of {expected}"));
        }
        if let Err(problem) = check_entry(&cell, &entered) {
            wrong.push(format!("{rpc} of {of:?} by {principal}, {saw}: {problem}"));
        }
    }
    wrong
}

#[tokio::test]
async fn sealed_every_rpc_answers_every_role_as_the_table_says() {
    for engine in ENGINES {
        let site = Site::start(engine).await;
        let mark = site.log_size().await;
        let wrong = sealed(&site).await;
        assert!(wrong.is_empty(), "{engine}:\n  {}", wrong.join("\n  "));
        let refused = refused_since(&site, mark).await;
        assert_eq!(refused, refused_while_sealed(), "{engine}");
    }
}

async fn sealed(site: &Site) -> Vec<String> {
    site.seal().await;
    let mut wrong = Vec::new();
    for Cell { rpc, of, principal, expected } in cells(SEALED) {
        let saw = seen(site, principal, rpc, of).await;
        if saw != expected {
            wrong.push(format!("{rpc} of {of:?} by {principal}: {saw} instead of {expected}"));
        }
        if rpc == "Unseal" && saw == "served" {
            site.seal().await;
        }
    }
    wrong
}

/// Whoever was refused the unsealing stands in the log once it is open again: who, why and how often.
async fn refused_since(site: &Site, mark: u64) -> Refusals {
    site.unseal().await;
    let mut refused = Refusals::new();
    for entry in site.entries_since(mark).await.iter().filter(|entry| entry.action == "unseal-refused") {
        let who = entries::actor(entry).map(str::to_owned);
        // Of one who is denied, what follows the first call of a minute stands in one entry.
        *refused.entry((who, entry.outcome.clone())).or_default() += entry.count;
    }
    refused
}

/// Three steps of ceremonies and one unsealing each; steps that found nothing to do are refused as well.
fn refused_while_sealed() -> Refusals {
    let known = ["checkout", "prover", "billing", "viewer", "care", "auditor", "overseer"].map(Some);
    let denied = known.into_iter().chain([None]).map(|who| (who, "DENIED", 4));
    let custodian = [("OTHER_SEAL", 1), ("NO_CEREMONY", 2)].map(|(reason, n)| (Some("custodian"), reason, n));
    let all = denied.chain(custodian);
    all.map(|(who, reason, count)| ((who.map(str::to_owned), reason.to_owned()), count)).collect()
}
