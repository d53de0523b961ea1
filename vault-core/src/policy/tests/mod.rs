//! Tests of the room: what is decided, and which files are refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

mod decisions;
mod files;
mod identities;
mod random_files;

use std::sync::Arc;

use super::{Identity, Policy, Principal};

/// The commented example of the documentation.
const EXAMPLE: &str = include_str!("../../../../docs/examples/policy.toml");

/// One principal of each role with every right that the role permits, and names that only some of them list.
const EVERY_ROLE: &str = r#"
[[tenant]]
id = "shop"
classes = ["pan", "ssn"]

[[tenant]]
id = "bank"
classes = ["pan"]

[[purpose]]
id = "settlement"
version = 1
classes = ["pan"]
text_sha256 = "0000000000000000000000000000000000000000000000000000000000000001"

[[purpose]]
id = "tax-report"
version = 2
classes = ["ssn"]
text_sha256 = "0000000000000000000000000000000000000000000000000000000000000002"

[[purpose]]
id = "dispute"
version = 3
classes = ["pan", "ssn"]
text_sha256 = "00000000000000000000000000000000000000000000000000000000000000Aa"

# Known, but no principal lists it.
[[purpose]]
id = "research"
version = 1
classes = ["pan", "ssn"]
text_sha256 = "0000000000000000000000000000000000000000000000000000000000000004"

[[recipient]]
id = "acquirer"
purposes = ["settlement", "dispute", "research"]

[[recipient]]
id = "tax-office"
purposes = ["tax-report"]

# Known, but no principal lists it.
[[recipient]]
id = "institute"
purposes = ["settlement", "tax-report", "dispute", "research"]

[[principal]]
id = "checkout"
identity = "uri:spiffe://shop/checkout"
tenant = "shop"
role = "checkout"
rights = ["tokenize", "find-by-value", "prove"]
classes = ["pan", "ssn"]
purposes = ["settlement"]

[[principal]]
id = "billing"
identity = "dns:billing.shop.example"
tenant = "shop"
role = "billing"
rights = ["detokenize", "view", "view-bin", "compare", "find-by-value", "prove"]
classes = ["pan", "ssn"]
purposes = ["tax-report", "settlement", "dispute"]
recipients = ["tax-office", "acquirer"]

[[principal]]
id = "cards-only"
identity = "dns:cards.bank.example"
tenant = "bank"
role = "billing"
rights = ["detokenize", "view"]
classes = ["pan"]
purposes = ["dispute"]
recipients = ["acquirer"]

[[principal]]
id = "care"
identity = "uri:spiffe://shop/care"
tenant = "shop"
role = "customer-service"
rights = ["view", "compare", "erase", "prove"]
classes = ["pan", "ssn"]

[[principal]]
id = "auditor"
identity = "uri:spiffe://shop/auditor"
tenant = "shop"
role = "auditor"
rights = ["audit-read", "prove", "status"]

[[principal]]
id = "custodian"
identity = "uri:spiffe://shop/custodian"
tenant = "*"
role = "custodian"
rights = ["status", "unseal", "seal"]
"#;

fn every_role() -> Policy {
    Policy::parse(EVERY_ROLE).unwrap()
}

fn principal(policy: &Policy, identity: &str) -> Arc<Principal> {
    policy.principal(&Identity::parse(identity).unwrap()).unwrap()
}

fn named(policy: &Policy, id: &str) -> Arc<Principal> {
    let found = policy.principals().iter().find(|principal| principal.id().as_str() == id);
    Arc::clone(found.unwrap_or_else(|| panic!("no principal {id}")))
}
