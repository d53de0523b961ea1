//! The tables leave nothing out: neither an RPC of the API, nor a role, nor a way to ask.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;
use vault_core::policy::{Identity, Policy, Role};

use crate::site::{POLICY, Whose, identity};
use crate::{SEALED, UNSEALED, cells};

/// Every RPC of every service in the committed descriptors. No name occurs twice.
fn rpcs() -> BTreeSet<String> {
    let descriptors = FileDescriptorSet::decode(vault_proto::FILE_DESCRIPTOR_SET).unwrap();
    let methods = descriptors.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let mut names = BTreeSet::new();
    for method in methods {
        assert!(names.insert(method.name().to_owned()), "two RPCs are named {}", method.name());
    }
    names
}

#[test]
fn every_rpc_of_the_api_has_its_rows() {
    assert!(!rpcs().is_empty());
    for table in [UNSEALED, SEALED] {
        let listed: BTreeSet<String> = cells(table).iter().map(|cell| cell.rpc.to_owned()).collect();
        assert_eq!(listed, rpcs());
    }
}

#[test]
fn every_rpc_is_asked_of_both_tenants_or_concerns_none() {
    for rpc in rpcs() {
        let cells = cells(UNSEALED).into_iter();
        let asked = cells.filter(|cell| cell.rpc == rpc && cell.principal == "stranger");
        let mut asked: Vec<Whose> = asked.map(|cell| cell.of).collect();
        asked.sort_unstable();
        assert!(
            asked == [Whose::Own, Whose::Foreign] || asked == [Whose::Vault],
            "{rpc} is asked of {asked:?}"
        );
    }
}

#[test]
fn every_role_has_a_column() {
    let policy = Policy::parse(POLICY).unwrap();
    let columns: BTreeSet<&str> = cells(UNSEALED).iter().map(|cell| cell.principal).collect();
    assert_eq!(columns, cells(SEALED).iter().map(|cell| cell.principal).collect());
    let principals = columns.iter().filter_map(|name| {
        let identity = Identity::parse(&format!("uri:{}", identity(name))).unwrap();
        policy.principal(&identity)
    });
    let roles: BTreeSet<Role> = principals.map(|principal| principal.role()).collect();
    // No certificate leads to the vault's own background work.
    let all = Role::ALL.into_iter().filter(|role| *role != Role::Vault);
    assert_eq!(roles, all.collect());
}
