//! Which names identify a caller, and which caller a name leads to.

use super::{EVERY_ROLE, every_role};
use crate::policy::{Identity, IdentityError, IdentityKind, Policy, Problem};

#[test]
fn names_are_brought_into_one_form_or_refused() {
    let dns = Identity::parse("dns:Checkout.Shop.EXAMPLE").unwrap();
    assert_eq!(
        (dns.kind, dns.name.as_str(), dns.ca.as_deref()),
        (IdentityKind::Dns, "checkout.shop.example", None)
    );
    assert_eq!(dns.to_string(), "dns:checkout.shop.example");
    let uri = Identity::parse("uri:spiffe://shop/Checkout").unwrap().issued_by("shop-ca");
    assert_eq!((uri.kind, uri.name.as_str()), (IdentityKind::Uri, "spiffe://shop/Checkout"));
    assert_eq!(uri.ca.as_deref(), Some("shop-ca"));
    assert_eq!(uri.to_string(), "uri:spiffe://shop/Checkout");

    let longest_label = "a".repeat(63);
    let longest_name = [longest_label.as_str(); 4].join(".");
    let good = [
        "dns:localhost".to_owned(),
        "dns:a-1.b".to_owned(),
        "dns:1.example".to_owned(),
        format!("dns:{}", &longest_name[..253]),
        "uri:urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned(),
        "uri:https://shop.example/a%20b?c#d".to_owned(),
        format!("uri:spiffe://{}", "a".repeat(2048 - 9)),
    ];
    for text in good {
        assert!(Identity::parse(&text).is_ok(), "{text}");
    }
}

#[test]
fn names_that_do_not_name_one_caller_exactly_are_refused() {
    let bad = [
        "",
        "checkout",
        "cn:checkout",
        "DNS:checkout.example",
        "dns:",
        "dns:.",
        "dns:*.shop.example",
        "dns:shop..example",
        "dns:.shop.example",
        "dns:shop.example.",
        "dns:-shop.example",
        "dns:shop-.example",
        "dns:shop_1.example",
        "dns:shop.example ",
        "dns:shöp.example",
        "dns:127.0.0.1",
        "dns:::1",
        "uri:",
        "uri:checkout",
        "uri::checkout",
        "uri:spiffe:",
        "uri:Spiffe://shop/checkout",
        "uri:1a://shop",
        "uri:spiffe://shop/*",
        "uri:spiffe://shop/a b",
        "uri:spiffe://shop/a\nb",
        "uri:spiffe://shöp/a",
        "uri:spiffe://shop/<a>",
    ];
    for text in bad {
        assert_eq!(Identity::parse(text), Err(IdentityError), "{text:?}");
    }
    for too_long in [
        format!("dns:{}.b", "a".repeat(64)),
        format!("dns:{}", ["abcdefgh"; 29].join(".")),
        format!("uri:spiffe://{}", "a".repeat(2048 - 8)),
    ] {
        assert_eq!(Identity::parse(&too_long), Err(IdentityError), "{too_long}");
    }
}

#[test]
fn a_name_leads_to_its_principal_and_only_in_its_kind() {
    let policy = every_role();
    let found = |identity: Identity| policy.principal(&identity).map(|found| found.id().to_string());
    assert_eq!(found(Identity::dns("BILLING.shop.example").unwrap()).as_deref(), Some("billing"));
    assert_eq!(found(Identity::uri("spiffe://shop/checkout").unwrap()).as_deref(), Some("checkout"));
    assert_eq!(found(Identity::uri("spiffe://shop/Checkout").unwrap()), None);
    assert_eq!(found(Identity::dns("shop.example").unwrap()), None);
    let dns_name_as_uri =
        Identity { kind: IdentityKind::Uri, name: "billing.shop.example".to_owned(), ca: None };
    assert_eq!(found(dns_name_as_uri), None);
}

#[test]
fn a_principal_bound_to_a_ca_is_found_under_no_other() {
    let identity = "identity = \"dns:billing.shop.example\"\n";
    let bound = EVERY_ROLE.replace(identity, &format!("{identity}ca = \"shop-ca\"\n"));
    let policy = Policy::parse(&bound).unwrap();
    let name = Identity::dns("billing.shop.example").unwrap();
    assert!(policy.principal(&name.clone().issued_by("shop-ca")).is_some());
    assert!(policy.principal(&name.clone().issued_by("other-ca")).is_none());
    assert!(policy.principal(&name).is_none());
    // Without a ca key any CA may vouch, which check_client_cas allows only where there is one.
    let checkout = Identity::uri("spiffe://shop/checkout").unwrap();
    assert!(policy.principal(&checkout.clone().issued_by("shop-ca")).is_some());
    assert!(policy.principal(&checkout).is_some());
}

#[test]
fn one_name_under_two_cas_is_two_principals() {
    let text = EVERY_ROLE
        .replace("identity = \"dns:billing.shop.example\"", "identity = \"dns:b.example\"\nca = \"shop-ca\"")
        .replace("identity = \"dns:cards.bank.example\"", "identity = \"dns:B.example\"\nca = \"bank-ca\"");
    let policy = Policy::parse(&text).unwrap();
    let found = |ca: &str| {
        let identity = Identity::dns("b.example").unwrap().issued_by(ca);
        policy.principal(&identity).map(|found| found.id().to_string())
    };
    assert_eq!(found("shop-ca").as_deref(), Some("billing"));
    assert_eq!(found("bank-ca").as_deref(), Some("cards-only"));
    assert_eq!(found("third-ca"), None);
}

#[test]
fn ca_keys_agree_with_the_client_cas_of_the_daemon() {
    let policy = every_role();
    assert_eq!(policy.check_client_cas(["shop-ca"]), Ok(()));
    let refused = policy.check_client_cas(["shop-ca", "bank-ca"]).unwrap_err();
    assert_eq!((refused.path(), refused.problem()), ("principal[0].ca", Problem::CaMissing));

    let bound =
        Policy::parse(&EVERY_ROLE.replace("tenant = \"bank\"", "tenant = \"bank\"\nca = \"bank-ca\""))
            .unwrap();
    assert_eq!(bound.check_client_cas(["bank-ca"]), Ok(()));
    let refused = bound.check_client_cas(["shop-ca"]).unwrap_err();
    assert_eq!((refused.path(), refused.problem()), ("principal[2].ca", Problem::UnknownCa));
}
