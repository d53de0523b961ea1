//! What is wrong with a request, in every place where it can be wrong, and the reason it is refused with.

use vault_proto::v1 as wire;

use crate::requests::{
    action, batch_of, batch_tokenize, caller, card, consistency, destroy, erase, list, prove, release,
    rotate, ssn, tokenize, unseal, valid, whole_card, with_key, with_text, with_token, with_value,
};
use crate::rpcs::Ask;
use crate::site::{FOREIGN, OWN, OWN_SSN, RESTRICTED, Stage};

/// What the audit log says of a refused call.
#[derive(Clone, Copy)]
pub(crate) enum Entered {
    /// Nothing: it never reached policy.
    No,
    /// One entry with the reason that the caller was told.
    Refused,
    /// One entry of a granted reading; what was asked of the log is looked at afterwards.
    Granted,
}

/// A call that is refused.
pub(crate) struct Case {
    pub(crate) by: &'static str,
    pub(crate) what: String,
    pub(crate) ask: Ask,
    pub(crate) reason: &'static str,
    pub(crate) entered: Entered,
    /// What must never come back, nor be logged or kept.
    pub(crate) sent: Vec<String>,
}

impl Case {
    /// A case of the RPC's own caller that sends nothing worth hiding.
    pub(crate) fn new(what: &str, ask: Ask, reason: &'static str, entered: Entered) -> Self {
        Self { by: caller(ask.rpc()), what: what.to_owned(), ask, reason, entered, sent: Vec::new() }
    }

    fn by(self, by: &'static str) -> Self {
        Self { by, ..self }
    }

    fn hiding(self, sent: &str) -> Self {
        Self { sent: vec![sent.to_owned()], ..self }
    }
}

/// Refusals of what a batch holds are verdicts about items, and those are entered.
fn malformed(rpc: &str) -> Entered {
    if rpc.starts_with("Batch") { Entered::Refused } else { Entered::No }
}

/// Every case. The tokens in `stage` may be empty where only the list matters.
pub(crate) fn cases(stage: &Stage) -> Vec<Case> {
    let mut cases = values();
    cases.extend(texts(stage));
    cases.extend(keys());
    cases.extend(tokens(stage));
    cases.extend(batches());
    cases.extend(denied(stage));
    cases.extend(others(stage));
    cases.extend(keys_of_tenants());
    cases
}

const TRACK_1: &str = "%B4111111111111111^CARD/TEST^3012101?";
const TRACK_2: &str = ";4111111111111111=30121010000012300000?";

fn values() -> Vec<Case> {
    let bare = |pan: &str| Some(card(pan));
    let named = |name: &str| Some(whole_card(OWN, None, Some(name)));
    let values = [
        ("11 digits", bare("41111111111"), "PAN_LENGTH", "41111111111"),
        ("20 digits", bare("99999999999999999999"), "PAN_LENGTH", "99999999999999999999"),
        ("a letter", bare("4111x11111111111"), "PAN_LENGTH", "4111x11111111111"),
        ("two spaces", bare("4111  1111 1111 1111"), "PAN_LENGTH", "4111  1111 1111 1111"),
        ("nothing", bare(""), "PAN_LENGTH", ""),
        ("a wrong check digit", bare("4111111111111112"), "PAN_LUHN", "4111111111111112"),
        ("track 1", bare(TRACK_1), "SENSITIVE_AUTHENTICATION_DATA", TRACK_1),
        ("track 2", bare(TRACK_2), "SENSITIVE_AUTHENTICATION_DATA", TRACK_2),
        ("a code after the PAN", bare("4111111111111111 123"), "SENSITIVE_AUTHENTICATION_DATA", OWN),
        ("month 13", Some(whole_card(OWN, Some(13), None)), "EXPIRY_INVALID", OWN),
        ("a name with a line end", named("Test\nCard"), "NAME_INVALID", "Test\nCard"),
        ("a name of spaces", named("   "), "NAME_INVALID", ""),
        ("a PAN for a name", named(FOREIGN), "SENSITIVE_TEXT", FOREIGN),
        ("track 1 for a name", named(TRACK_1), "SENSITIVE_AUTHENTICATION_DATA", TRACK_1),
        ("8 digits", Some(ssn("07805112")), "SSN_LENGTH", "07805112"),
        ("a hyphen elsewhere", Some(ssn("0780-5-1120")), "SSN_LENGTH", "0780-5-1120"),
        ("area 000", Some(ssn("000-12-3456")), "SSN_NEVER_ISSUED", "000-12-3456"),
        ("area 666", Some(ssn("666-12-3456")), "SSN_NEVER_ISSUED", "666-12-3456"),
        ("serial 0000", Some(ssn("078-05-0000")), "SSN_NEVER_ISSUED", "078-05-0000"),
        ("track 2 for an SSN", Some(ssn(TRACK_2)), "SENSITIVE_AUTHENTICATION_DATA", TRACK_2),
        ("no value", None, "FIELD_MISSING", ""),
        ("a value of no kind", Some(wire::Value { kind: None }), "FIELD_MISSING", ""),
    ];
    let mut cases = Vec::new();
    for rpc in ["Tokenize", "BatchTokenize", "FindByValue"] {
        for (what, value, reason, sent) in values.clone() {
            let ask = with_value(rpc, value);
            cases.push(Case::new(what, ask, reason, malformed(rpc)).hiding(sent));
        }
    }
    for (what, month, name) in [("an expiry", Some(12), None), ("a name", None, Some("Test Card"))] {
        let ask = with_value("FindByValue", Some(whole_card(OWN, month, name)));
        cases.push(Case::new(what, ask, "WRONG_CLASS", Entered::No).hiding(OWN));
    }
    let plain = Case::new(
        "a tenant without index",
        with_value("FindByValue", bare(OWN)),
        "NO_INDEX",
        Entered::Refused,
    );
    cases.push(plain.by("plain-checkout").hiding(OWN));
    cases
}

/// Texts that no reference, reason or idempotency key may be.
fn bad_texts() -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("a PAN in a text", format!("order-{FOREIGN}"), "SENSITIVE_TEXT"),
        ("a PAN in groups", "5555-5555-5555-4444".to_owned(), "SENSITIVE_TEXT"),
        ("an SSN in a text", format!("case:{OWN_SSN}"), "SENSITIVE_TEXT"),
        ("a track in a text", "4111111111111111D3012101".to_owned(), "SENSITIVE_AUTHENTICATION_DATA"),
        ("a space in a text", "order of-Ms-Example".to_owned(), "TEXT_MALFORMED"),
        ("65 characters", "x".repeat(65), "TEXT_MALFORMED"),
    ]
}

fn texts(stage: &Stage) -> Vec<Case> {
    const RPCS: [&str; 11] = [
        "Tokenize",
        "Detokenize",
        "GetToken",
        "CompareLastFour",
        "FindByValue",
        "EraseToken",
        "BatchTokenize",
        "BatchDetokenize",
        "Seal",
        "RotateKeys",
        "DestroyKeys",
    ];
    let mut cases = Vec::new();
    for rpc in RPCS {
        // The reference of a batch to be detokenized is the call's, not an item's.
        let entered = if rpc == "BatchTokenize" { Entered::Refused } else { Entered::No };
        for (what, text, reason) in bad_texts() {
            cases.push(Case::new(what, with_text(rpc, stage, &text), reason, entered).hiding(&text));
        }
    }
    for rpc in ["Seal", "RotateKeys", "DestroyKeys"] {
        cases.push(Case::new("no reason", with_text(rpc, stage, ""), "FIELD_MISSING", Entered::No));
    }
    cases
}

/// The key that the test has used for another PAN before.
pub(crate) const USED_KEY: &str = "used-before";

fn keys() -> Vec<Case> {
    let mut cases = Vec::new();
    for rpc in ["Tokenize", "BatchTokenize"] {
        for (what, key, reason) in bad_texts() {
            cases.push(Case::new(what, with_key(rpc, OWN, &key), reason, Entered::No).hiding(&key));
        }
        let reused = with_key(rpc, RESTRICTED, USED_KEY);
        let case = Case::new("another PAN under one key", reused, "IDEMPOTENCY_KEY_REUSED", Entered::Refused);
        cases.push(case.hiding(RESTRICTED));
        let mut purposes: Vec<String> = (0..17).map(|n| format!("purpose-{n}")).collect();
        cases.push(Case::new(
            "17 purposes",
            with_purposes(rpc, &purposes),
            "PURPOSES_INVALID",
            malformed(rpc),
        ));
        purposes = vec!["Purpose of Ms Example".to_owned()];
        let case = Case::new("a bad name", with_purposes(rpc, &purposes), "PURPOSES_INVALID", malformed(rpc));
        cases.push(case.hiding(&purposes[0]));
        purposes = vec![FOREIGN.to_owned()];
        let case =
            Case::new("a PAN for a purpose", with_purposes(rpc, &purposes), "DENIED", Entered::Refused);
        cases.push(case.hiding(FOREIGN));
    }
    cases
}

fn with_purposes(rpc: &str, purposes: &[String]) -> Ask {
    let request = wire::TokenizeRequest { purposes: purposes.to_vec(), ..tokenize(card(OWN)) };
    if rpc == "Tokenize" {
        return Ask::Tokenize(request);
    }
    let wire::TokenizeRequest { value, purposes, reference, .. } = request;
    batch_tokenize(vec![wire::BatchTokenizeItem { value, purposes, reference }])
}

/// Tokens that stand for nothing this caller may know of: one answer for all.
pub(crate) fn unknown_tokens(stage: &Stage) -> Vec<(&'static str, String)> {
    let mut bad_tag = stage.own.clone();
    // The last letter belongs to the tag.
    let last = if bad_tag.pop() == Some('a') { 'b' } else { 'a' };
    bad_tag.push(last);
    vec![
        ("a bad tag", bad_tag),
        ("the other class", stage.own.replacen("tok_pan", "tok_ssn", 1)),
        ("another tenant's token", stage.foreign.clone()),
        ("letters somebody made up", format!("tok_pan_{}", "abcdefghijklmnop".repeat(3).split_at(40).0)),
    ]
}

fn tokens(stage: &Stage) -> Vec<Case> {
    let mut cases = Vec::new();
    for rpc in ["Detokenize", "BatchDetokenize", "GetToken", "CompareLastFour", "EraseToken"] {
        let malformed_tokens = [
            ("no token", String::new()),
            ("a short token", "tok_pan_abcdefghijklmnop".to_owned()),
            ("capitals", format!("tok_pan_{}", "A".repeat(40))),
            ("another prefix", format!("tok_cvv_{}", "a".repeat(40))),
            ("a PAN for a token", FOREIGN.to_owned()),
        ];
        for (what, token) in malformed_tokens {
            let case = Case::new(what, with_token(rpc, &token), "TOKEN_MALFORMED", malformed(rpc));
            cases.push(case.hiding(&token));
        }
        for (what, token) in unknown_tokens(stage) {
            cases.push(Case::new(what, with_token(rpc, &token), "UNKNOWN_TOKEN", Entered::Refused));
        }
        if rpc.ends_with("etokenize") {
            let ask = with_token(rpc, &stage.restricted);
            cases.push(Case::new("outside the record's purposes", ask, "UNKNOWN_TOKEN", Entered::Refused));
        }
    }
    for last_four in ["111", "11111", "11a1", ""] {
        let Ask::CompareLastFour(mut request) = with_token("CompareLastFour", &stage.own) else { continue };
        request.last_four = last_four.as_bytes().to_vec();
        let ask = Ask::CompareLastFour(request);
        cases.push(Case::new("not four digits", ask, "LAST_FOUR_MALFORMED", Entered::No).hiding(last_four));
    }
    cases
}

fn batches() -> Vec<Case> {
    let tokenize = |count| batch_tokenize(vec![wire::BatchTokenizeItem::default(); count]);
    let detokenize = |count| {
        let Ask::BatchDetokenize(mut request) = batch_of(release("")) else { panic!("a batch") };
        request.items = vec![wire::BatchDetokenizeItem::default(); count];
        Ask::BatchDetokenize(request)
    };
    vec![
        Case::new("no items", tokenize(0), "BATCH_EMPTY", Entered::No),
        Case::new("1,001 items", tokenize(1_001), "BATCH_TOO_LARGE", Entered::No),
        Case::new("no items", detokenize(0), "BATCH_EMPTY", Entered::No),
        Case::new("1,001 items", detokenize(1_001), "BATCH_TOO_LARGE", Entered::No),
    ]
}

/// Every RPC by somebody whom no policy knows and by somebody in another role; classes, purposes, recipients
/// and references that policy does not allow.
fn denied(stage: &Stage) -> Vec<Case> {
    let mut cases = Vec::new();
    for rpc in crate::complete::rpcs() {
        let other = if caller(&rpc) == "custodian" { "billing" } else { "custodian" };
        for by in ["stranger", other] {
            cases.push(Case::new("another role", valid(&rpc, stage), "DENIED", Entered::Refused).by(by));
        }
    }
    // A batch that holds nothing well-formed tells whoever may not ask no more than any other.
    let bad_items = vec![wire::BatchTokenizeItem::default(); 2];
    let bad_batch =
        Case::new("bad items, another role", batch_tokenize(bad_items), "DENIED", Entered::Refused);
    cases.push(bad_batch.by("custodian"));
    let bad_token = with_token("BatchDetokenize", "tok");
    cases.push(Case::new("a bad token, another role", bad_token, "DENIED", Entered::Refused).by("custodian"));

    for rpc in ["Tokenize", "BatchTokenize", "FindByValue"] {
        let case =
            Case::new("another class", with_value(rpc, Some(ssn(OWN_SSN))), "DENIED", Entered::Refused);
        cases.push(case.by("cards-only").hiding(OWN_SSN));
    }
    for rpc in ["Detokenize", "BatchDetokenize", "GetToken", "CompareLastFour"] {
        let case = Case::new("another class", with_token(rpc, &stage.own_ssn), "DENIED", Entered::Refused);
        cases.push(case.by("cards-billing"));
    }
    let erase_ssn = with_token("EraseToken", &stage.own_ssn);
    cases.push(Case::new("another class", erase_ssn, "DENIED", Entered::Refused).by("cards-care"));
    cases.push(Case::new("no reference", erase(&stage.spare, ""), "DENIED", Entered::Refused));
    cases.extend(denied_names(stage));
    cases
}

/// Orders about keys that name none, or one that is needed.
fn keys_of_tenants() -> Vec<Case> {
    let with_tenant = |tenant: &str| [Ask::RotateKeys(rotate(tenant)), Ask::DestroyKeys(destroy(tenant, 1))];
    let mut cases = Vec::new();
    for (what, tenant, reason) in bad_texts() {
        let hidden = |ask| Case::new(what, ask, reason, Entered::No).hiding(&tenant);
        cases.extend(with_tenant(&tenant).map(hidden));
    }
    let missing = |what, ask| Case::new(what, ask, "FIELD_MISSING", Entered::No);
    cases.extend(with_tenant("").map(|ask| missing("no tenant", ask)));
    cases.extend(with_tenant("Shop").map(|ask| Case::new("capitals", ask, "TEXT_MALFORMED", Entered::No)));
    for class in [0, 7] {
        let rotate = Ask::RotateKeys(wire::RotateKeysRequest { class, ..rotate("shop") });
        let destroy = Ask::DestroyKeys(wire::DestroyKeysRequest { class, ..destroy("shop", 1) });
        cases.extend([rotate, destroy].map(|ask| missing("no class", ask)));
    }
    cases.push(missing("no version", Ask::DestroyKeys(destroy("shop", 0))));
    let unknown = |ask| Case::new("an unknown tenant", ask, "NO_SUCH_KEY", Entered::Granted);
    cases.extend(with_tenant("nobody").map(unknown));
    let order = |what, version, reason| {
        Case::new(what, Ask::DestroyKeys(destroy("shop", version)), reason, Entered::Granted)
    };
    cases.push(order("a version to come", 99, "NO_SUCH_KEY"));
    cases.push(order("the version that encrypts", 1, "KEY_IN_USE"));
    for token in ["x", "-1", "99999999999999999999"] {
        let request = wire::ListKeysRequest { page_token: token.to_owned(), ..Default::default() };
        cases.push(Case::new("a bad page", Ask::ListKeys(request), "TEXT_MALFORMED", Entered::No));
    }
    cases
}

fn denied_names(stage: &Stage) -> Vec<Case> {
    let releases = [
        ("a purpose nobody knows", &stage.own, "gambling", "acquirer", "case-1"),
        ("another's purpose", &stage.own, "research", "acquirer", "case-1"),
        ("a purpose of another class", &stage.own_ssn, "card-refund", "acquirer", "case-1"),
        ("no purpose", &stage.own, "", "acquirer", "case-1"),
        ("a PAN for a purpose", &stage.own, FOREIGN, "acquirer", "case-1"),
        ("a recipient nobody knows", &stage.own, "settlement", "press", "case-1"),
        ("another's recipient", &stage.own, "settlement", "bank", "case-1"),
        ("no recipient", &stage.own, "settlement", "", "case-1"),
        ("a PAN for a recipient", &stage.own, "settlement", FOREIGN, "case-1"),
        ("no reference", &stage.own, "settlement", "acquirer", ""),
    ];
    let mut cases = Vec::new();
    for (what, token, purpose, recipient, reference) in releases {
        let request = wire::DetokenizeRequest {
            token: token.clone(),
            purpose: purpose.to_owned(),
            recipient: recipient.to_owned(),
            reference: reference.to_owned(),
        };
        for ask in [Ask::Detokenize(request.clone()), batch_of(request)] {
            cases.push(Case::new(what, ask, "DENIED", Entered::Refused).hiding(FOREIGN));
        }
    }
    cases
}

fn others(stage: &Stage) -> Vec<Case> {
    let Stage { receipt, .. } = stage;
    let beyond = 1 << 40;
    let mut cases = vec![
        Case::new("beyond the end", list(beyond), "RANGE_INVALID", Entered::Granted),
        Case::new("beyond the end", prove(beyond, &[0; 32]), "RANGE_INVALID", Entered::Granted),
        Case::new("another leaf", prove(receipt.index, &[7; 32]), "LEAF_HASH_MISMATCH", Entered::Granted),
        Case::new("31 bytes", prove(receipt.index, &[7; 31]), "LEAF_HASH_MISMATCH", Entered::No),
        Case::new("from nothing", consistency(0, 1), "RANGE_INVALID", Entered::Granted),
        Case::new("backwards", consistency(2, 1), "RANGE_INVALID", Entered::Granted),
        Case::new("beyond the end", consistency(1, beyond), "RANGE_INVALID", Entered::Granted),
    ];
    for (rpc, reason) in
        [("BeginCeremony", "UNSEALED"), ("SubmitShare", "NO_CEREMONY"), ("CancelCeremony", "NO_CEREMONY")]
    {
        cases.push(Case::new("the vault is open", valid(rpc, stage), reason, Entered::Refused));
    }
    for passphrase in ["", "fourteen bytes", &"x".repeat(1_025)] {
        let case = Case::new("a length", unseal(passphrase), "PASSPHRASE_LENGTH", Entered::No);
        cases.push(case.hiding(passphrase));
    }
    cases
}

/// As which action a case is entered.
pub(crate) fn action_of(case: &Case) -> &'static str {
    match case.what.as_str() {
        // The token of an SSN, which has no BIN.
        "the other class" if case.ask.rpc() == "GetToken" => "view",
        _ => action(case.ask.rpc(), case.by),
    }
}
