//! From a file's tables to a policy: every name resolved, every contradiction refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::file::{File, PrincipalTable, PurposeTable, RecipientTable, TenantTable};
use super::identity::{Identity, IdentityKind, is_ca_name};
use super::principal::{Allowance, Principal, Scope};
use super::problem::{Place, PolicyError, Problem};
use super::purpose::{Purpose, Recipient};
use super::right::{Right, Rights};
use super::role::Role;
use super::tenant::{Classes, Quota, Tenant};
use super::{Policy, PrincipalsByName};
use crate::data::{Class, NameError, PrincipalId, PurposeId, RecipientId, TenantId, Truncation};
use crate::limits::{
    POLICY_PRINCIPALS_MAX, POLICY_PURPOSES_MAX, POLICY_RECIPIENTS_MAX, POLICY_TENANTS_MAX,
    PRINCIPAL_PURPOSES_MAX, PRINCIPAL_RECIPIENTS_MAX,
};

/// The vault's own name in the audit log, which no file can give to a principal.
const VAULT_ID: &str = "vault";
const ALL_TENANTS: &str = "*";
/// What a file can call a right, for the message.
const RIGHTS: &str = "tokenize, detokenize, view, view-bin, compare, find-by-value, prove, audit-read, \
                      status, unseal, seal";

pub(super) fn policy(file: &File, hash: [u8; 32]) -> Result<Policy, PolicyError> {
    let mut policy = Policy {
        tenants: tenants(&file.tenant)?,
        purposes: purposes(&file.purpose)?,
        recipients: BTreeMap::new(),
        principals: Vec::new(),
        uris: HashMap::new(),
        dns_names: HashMap::new(),
        vault: Arc::new(vault_itself(hash)?),
        quota: quota("vault", file.vault.requests_per_minute, file.vault.distinct_tokens_per_day)?,
        hash,
    };
    policy.recipients = recipients(&file.recipient, &policy)?;
    add_principals(&mut policy, &file.principal)?;
    Ok(policy)
}

/// The one principal without a certificate: background work, which can return no plaintext.
fn vault_itself(policy_hash: [u8; 32]) -> Result<Principal, PolicyError> {
    Ok(Principal {
        id: PrincipalId::parse(VAULT_ID).map_err(|error| PolicyError::new("vault", error))?,
        identity: None,
        scope: Scope::All,
        tenant: None,
        role: Role::Vault,
        rights: Role::Vault.permits(),
        classes: Classes::ALL,
        purposes: Vec::new(),
        recipients: Vec::new(),
        quota: Quota::default(),
        policy_hash,
    })
}

// === tables in the order of the file ===

fn tenants(tables: &[TenantTable]) -> Result<BTreeMap<TenantId, Arc<Tenant>>, PolicyError> {
    check_count("tenant", tables.len(), POLICY_TENANTS_MAX)?;
    check_any("tenant", tables)?;
    let mut tenants = BTreeMap::new();
    for (place, table) in places("tenant", tables) {
        let tenant = tenant(place, table)?;
        if tenants.insert(tenant.id.clone(), Arc::new(tenant)).is_some() {
            return Err(place.error("id", Problem::NameTaken));
        }
    }
    Ok(tenants)
}

fn tenant(place: Place, table: &TenantTable) -> Result<Tenant, PolicyError> {
    let truncation = match table.truncation.as_deref() {
        None | Some("last-four") => Truncation::LastFour,
        Some("bin-last-four") => Truncation::BinLastFour,
        Some(_) => return Err(place.error("truncation", Problem::NotOneOf("last-four, bin-last-four"))),
    };
    Ok(Tenant {
        id: id(place, &table.id, TenantId::parse)?,
        classes: required_classes(place, &table.classes)?,
        one_token_per_value: table.one_token_per_value.unwrap_or(false),
        truncation,
        quota: quota(&place.to_string(), table.requests_per_minute, table.distinct_tokens_per_day)?,
    })
}

fn purposes(tables: &[PurposeTable]) -> Result<BTreeMap<PurposeId, Purpose>, PolicyError> {
    check_count("purpose", tables.len(), POLICY_PURPOSES_MAX)?;
    let mut purposes = BTreeMap::new();
    for (place, table) in places("purpose", tables) {
        let purpose = purpose(place, table)?;
        if purposes.insert(purpose.id.clone(), purpose).is_some() {
            return Err(place.error("id", Problem::NameTaken));
        }
    }
    Ok(purposes)
}

fn purpose(place: Place, table: &PurposeTable) -> Result<Purpose, PolicyError> {
    let digest = place.required("text_sha256", &table.text_sha256)?;
    Ok(Purpose {
        id: id(place, &table.id, PurposeId::parse)?,
        version: not_zero(*place.required("version", &table.version)?)
            .map_err(|problem| place.error("version", problem))?,
        classes: required_classes(place, &table.classes)?,
        text_sha256: sha256_from_hex(digest)
            .ok_or_else(|| place.error("text_sha256", Problem::NotASha256))?,
    })
}

fn recipients(
    tables: &[RecipientTable],
    policy: &Policy,
) -> Result<BTreeMap<RecipientId, Recipient>, PolicyError> {
    check_count("recipient", tables.len(), POLICY_RECIPIENTS_MAX)?;
    let mut recipients = BTreeMap::new();
    let read = |name: &str| policy.known_purpose(name).ok_or(Problem::UnknownPurpose);
    for (place, table) in places("recipient", tables) {
        let purposes = required_entries(place, "purposes", &table.purposes, POLICY_PURPOSES_MAX, read)?;
        let recipient =
            Recipient { id: id(place, &table.id, RecipientId::parse)?, purposes: sorted(purposes) };
        if recipients.insert(recipient.id.clone(), recipient).is_some() {
            return Err(place.error("id", Problem::NameTaken));
        }
    }
    Ok(recipients)
}

fn add_principals(policy: &mut Policy, tables: &[PrincipalTable]) -> Result<(), PolicyError> {
    check_count("principal", tables.len(), POLICY_PRINCIPALS_MAX)?;
    check_any("principal", tables)?;
    let mut taken = BTreeSet::new();
    for (place, table) in places("principal", tables) {
        let (identity, principal) = principal(place, table, policy)?;
        if !taken.insert(principal.id.clone()) {
            return Err(place.error("id", Problem::NameTaken));
        }
        let principal = Arc::new(principal);
        let namesakes = match identity.kind {
            IdentityKind::Uri => &mut policy.uris,
            IdentityKind::Dns => &mut policy.dns_names,
        };
        claim(namesakes, identity, &principal).map_err(|problem| place.error("identity", problem))?;
        policy.principals.push(principal);
    }
    Ok(())
}

/// Two principals share a name only when each says under which CA, and they say differently.
fn claim(
    by_name: &mut PrincipalsByName,
    identity: Identity,
    principal: &Arc<Principal>,
) -> Result<(), Problem> {
    let namesakes = by_name.entry(identity.name.into_boxed_str()).or_default();
    let ambiguous = namesakes.iter().filter_map(|other| other.identity()).any(|other| {
        let bound_apart = other.ca.is_some() && identity.ca.is_some() && other.ca != identity.ca;
        !bound_apart
    });
    if ambiguous {
        return Err(Problem::IdentityTaken);
    }
    namesakes.push(Arc::clone(principal));
    Ok(())
}

// === one principal ===

fn principal(
    place: Place,
    table: &PrincipalTable,
    policy: &Policy,
) -> Result<(Identity, Principal), PolicyError> {
    let id = id(place, &table.id, PrincipalId::parse)?;
    if id.as_str() == VAULT_ID {
        return Err(place.error("id", Problem::ReservedName));
    }
    let identity = identity(place, table)?;
    let role = Role::parse(place.required("role", &table.role)?).ok_or_else(|| {
        place.error("role", Problem::NotOneOf("checkout, billing, customer-service, auditor, custodian"))
    })?;
    let tenant = one_tenant(place, table, role, policy)?;
    let rights = rights(place, table, role)?;
    let classes = principal_classes(place, table, rights, tenant.as_deref())?;
    let purposes = principal_purposes(place, table, rights, policy)?;
    let recipients = principal_recipients(place, table, rights, policy)?;
    let principal = Principal {
        id,
        identity: Some(identity.clone()),
        scope: tenant.as_ref().map_or(Scope::All, |tenant| Scope::One(tenant.id.clone())),
        tenant,
        role,
        rights,
        classes,
        purposes: allowances(place, classes, &purposes, &recipients)?,
        recipients: sorted(recipients.iter().map(|recipient| recipient.id.clone()).collect()),
        quota: principal_quota(place, table, rights)?,
        policy_hash: policy.hash,
    };
    Ok((identity, principal))
}

fn identity(place: Place, table: &PrincipalTable) -> Result<Identity, PolicyError> {
    let identity = Identity::parse(place.required("identity", &table.identity)?)
        .map_err(|error| place.error("identity", error))?;
    match table.ca.as_deref() {
        None => Ok(identity),
        Some(ca) if is_ca_name(ca) => Ok(identity.issued_by(ca)),
        Some(_) => Err(place.error("ca", NameError)),
    }
}

/// `None` for a principal that acts for all tenants.
fn one_tenant(
    place: Place,
    table: &PrincipalTable,
    role: Role,
    policy: &Policy,
) -> Result<Option<Arc<Tenant>>, PolicyError> {
    let name = place.required("tenant", &table.tenant)?;
    if name == ALL_TENANTS {
        let problem = place.error("tenant", Problem::NotForAllTenants);
        return if role.spans_tenants() { Ok(None) } else { Err(problem) };
    }
    let tenant = TenantId::parse(name).ok().and_then(|id| policy.tenants.get(&id));
    tenant.cloned().map(Some).ok_or_else(|| place.error("tenant", Problem::UnknownTenant))
}

fn rights(place: Place, table: &PrincipalTable, role: Role) -> Result<Rights, PolicyError> {
    let rights = required_entries(place, "rights", &table.rights, Right::ALL.len(), |name| {
        let right = Right::parse(name).ok_or(Problem::NotOneOf(RIGHTS))?;
        if role.permits().contains(right) { Ok(right) } else { Err(Problem::OutsideRole) }
    })?;
    Ok(rights.into_iter().collect())
}

fn principal_classes(
    place: Place,
    table: &PrincipalTable,
    rights: Rights,
    tenant: Option<&Tenant>,
) -> Result<Classes, PolicyError> {
    if !rights.meets(Rights::OF_VALUES) {
        return without_effect(place, "classes", &table.classes).map(|()| Classes::NONE);
    }
    let kept = tenant.map_or(Classes::NONE, Tenant::classes);
    let classes = required_entries(place, "classes", &table.classes, Class::ALL.len(), |name| {
        let class = class(name)?;
        if kept.contains(class) { Ok(class) } else { Err(Problem::OutsideTenant) }
    })?;
    Ok(classes.into_iter().collect())
}

fn principal_purposes<'p>(
    place: Place,
    table: &PrincipalTable,
    rights: Rights,
    policy: &'p Policy,
) -> Result<Vec<&'p Purpose>, PolicyError> {
    let key = "purposes";
    if !rights.meets(Rights::OF_VALUES) {
        return without_effect(place, key, &table.purposes).map(|()| Vec::new());
    }
    let read = |name: &str| policy.purpose(name).ok_or(Problem::UnknownPurpose);
    if rights.contains(Right::Detokenize) {
        required_entries(place, key, &table.purposes, PRINCIPAL_PURPOSES_MAX, read)
    } else {
        entries(place, key, &table.purposes, PRINCIPAL_PURPOSES_MAX, read)
    }
}

fn principal_recipients<'p>(
    place: Place,
    table: &PrincipalTable,
    rights: Rights,
    policy: &'p Policy,
) -> Result<Vec<&'p Recipient>, PolicyError> {
    let key = "recipients";
    if !rights.contains(Right::Detokenize) {
        return without_effect(place, key, &table.recipients).map(|()| Vec::new());
    }
    required_entries(place, key, &table.recipients, PRINCIPAL_RECIPIENTS_MAX, |name| {
        policy.recipient(name).ok_or(Problem::UnknownRecipient)
    })
}

/// What the principal may combine, worked out once so that a decision only looks it up.
fn allowances(
    place: Place,
    classes: Classes,
    purposes: &[&Purpose],
    recipients: &[&Recipient],
) -> Result<Vec<Allowance>, PolicyError> {
    for (index, recipient) in recipients.iter().enumerate() {
        if !purposes.iter().any(|purpose| recipient.accepts(&purpose.id)) {
            let path = place.entry("recipients", index);
            return Err(PolicyError::new(path, Problem::RecipientWithoutPurpose));
        }
    }
    let mut allowances = Vec::with_capacity(purposes.len());
    for (index, purpose) in purposes.iter().enumerate() {
        let allowance = allowance(classes, purpose, recipients);
        let problem = if allowance.classes.is_empty() {
            Problem::PurposeWithoutClass
        } else if allowance.recipients.is_empty() && !recipients.is_empty() {
            Problem::PurposeWithoutRecipient
        } else {
            allowances.push(allowance);
            continue;
        };
        return Err(PolicyError::new(place.entry("purposes", index), problem));
    }
    allowances.sort_unstable_by(|a, b| a.purpose.cmp(&b.purpose));
    Ok(allowances)
}

fn allowance(classes: Classes, purpose: &Purpose, recipients: &[&Recipient]) -> Allowance {
    let accepting = recipients.iter().filter(|recipient| recipient.accepts(&purpose.id));
    Allowance {
        purpose: purpose.id.clone(),
        classes: purpose.classes.both(classes),
        recipients: sorted(accepting.map(|recipient| recipient.id.clone()).collect()),
    }
}

fn principal_quota(place: Place, table: &PrincipalTable, rights: Rights) -> Result<Quota, PolicyError> {
    if table.distinct_tokens_per_day.is_some() && !rights.meets(Rights::OF_VALUES) {
        return Err(place.error("distinct_tokens_per_day", Problem::WithoutEffect));
    }
    quota(&place.to_string(), table.requests_per_minute, table.distinct_tokens_per_day)
}

// === keys that several tables have ===

fn places<'f, T>(table: &'static str, tables: &'f [T]) -> impl Iterator<Item = (Place, &'f T)> {
    tables.iter().enumerate().map(move |(index, entry)| (Place { table, index }, entry))
}

/// An emptied or cut-off file must not pass for a policy that denies everybody.
fn check_any<T>(table: &str, tables: &[T]) -> Result<(), PolicyError> {
    if tables.is_empty() { Err(PolicyError::new(table, Problem::Missing)) } else { Ok(()) }
}

fn check_count(path: impl AsRef<str>, count: usize, max: usize) -> Result<(), PolicyError> {
    if count > max { Err(PolicyError::new(path, Problem::TooMany { max })) } else { Ok(()) }
}

fn id<T>(
    place: Place,
    text: &Option<String>,
    parse: impl Fn(&str) -> Result<T, NameError>,
) -> Result<T, PolicyError> {
    parse(place.required("id", text)?).map_err(|error| place.error("id", error))
}

fn class(name: &str) -> Result<Class, Problem> {
    Class::ALL.into_iter().find(|class| class.as_str() == name).ok_or(Problem::NotOneOf("pan, ssn"))
}

fn required_classes(place: Place, list: &Option<Vec<String>>) -> Result<Classes, PolicyError> {
    Ok(required_entries(place, "classes", list, Class::ALL.len(), class)?.into_iter().collect())
}

fn required_entries<T>(
    place: Place,
    key: &str,
    list: &Option<Vec<String>>,
    max: usize,
    read: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Vec<T>, PolicyError> {
    if place.required(key, list)?.is_empty() {
        return Err(place.error(key, Problem::Empty));
    }
    entries(place, key, list, max, read)
}

/// The entries of a list in the order of the file, none twice.
fn entries<T>(
    place: Place,
    key: &str,
    list: &Option<Vec<String>>,
    max: usize,
    read: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Vec<T>, PolicyError> {
    let list = list.as_deref().unwrap_or_default();
    check_count(place.key(key), list.len(), max)?;
    let mut seen = BTreeSet::new();
    let mut entries = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        let refuse = |problem| PolicyError::new(place.entry(key, index), problem);
        if !seen.insert(text) {
            return Err(refuse(Problem::ListedTwice));
        }
        entries.push(read(text).map_err(refuse)?);
    }
    Ok(entries)
}

/// Refuses a list that could have no effect: it would promise a limit or a permission that is not there.
fn without_effect(place: Place, key: &str, list: &Option<Vec<String>>) -> Result<(), PolicyError> {
    if list.is_some() { Err(place.error(key, Problem::WithoutEffect)) } else { Ok(()) }
}

fn quota(
    path: &str,
    requests_per_minute: Option<u32>,
    distinct_tokens_per_day: Option<u32>,
) -> Result<Quota, PolicyError> {
    let check = |key: &str, limit: Option<u32>| {
        limit.map(not_zero).transpose().map_err(|problem| PolicyError::new(format!("{path}.{key}"), problem))
    };
    Ok(Quota {
        requests_per_minute: check("requests_per_minute", requests_per_minute)?,
        distinct_tokens_per_day: check("distinct_tokens_per_day", distinct_tokens_per_day)?,
    })
}

/// Zero is refused: some read it as nothing, others as no limit.
fn not_zero(number: u32) -> Result<u32, Problem> {
    if number == 0 { Err(Problem::Empty) } else { Ok(number) }
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort_unstable();
    list
}

fn sha256_from_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}
