//! What one call must have left in the audit log.

use vault_proto::v1::Entry;
use vault_proto::v1::entry::Actor;

use crate::Cell;

/// As which action each RPC is entered while there is a log.
const ENTERED_AS: [(&str, &str); 21] = [
    ("Tokenize", "tokenize"),
    ("Detokenize", "detokenize"),
    ("GetToken", "view"),
    ("CompareLastFour", "compare"),
    ("FindByValue", "find-by-value"),
    ("EraseToken", "erase"),
    ("BatchTokenize", "tokenize"),
    ("BatchDetokenize", "detokenize"),
    ("ListEntries", "audit-read"),
    ("GetCheckpoint", "prove"),
    ("ProveInclusion", "prove"),
    ("ProveConsistency", "prove"),
    ("GetStatus", "status"),
    ("ListKeys", "status"),
    ("RotateKeys", "rotate-keys"),
    ("DestroyKeys", "destroy-keys"),
    ("Unseal", "unseal"),
    ("BeginCeremony", "ceremony-begun"),
    ("SubmitShare", "share-given"),
    ("CancelCeremony", "ceremony-cancelled"),
    ("Seal", "seal"),
];

/// Whether the call of a cell left exactly one entry, of the caller and with the caller's outcome.
pub(crate) fn check_entry(cell: &Cell, entered: &[Entry]) -> Result<(), String> {
    let name = (cell.principal != "stranger").then_some(cell.principal);
    let action = match (cell.rpc, cell.principal) {
        // Whose views show the BIN.
        ("GetToken", "billing") => "view-bin",
        _ => ENTERED_AS.iter().find(|(rpc, _)| *rpc == cell.rpc).map_or("", |(_, action)| action),
    };
    let of_caller: Vec<&Entry> =
        entered.iter().filter(|entry| entry.action == action && actor(entry) == name).collect();
    let [entry] = of_caller.as_slice() else {
        return Err(format!("{} entries of action {action}", of_caller.len()));
    };
    let outcome = entry.outcome.as_str();
    let (fits, released) = match cell.expected {
        // What concerns no record is done after its entry.
        "served" | "nothing"
            if matches!(action, "audit-read" | "prove" | "status" | "unseal" | "seal" | "rotate-keys") =>
        {
            (outcome == "GRANTED", true)
        }
        "unfit" if action == "destroy-keys" => (outcome == "GRANTED", true),
        "served" | "nothing" => (matches!(outcome, "DONE" | "EXISTING"), true),
        "denied" => (outcome == "DENIED", false),
        "unfit" => (matches!(outcome, "UNSEALED" | "NO_CEREMONY"), false),
        "unknown" => (outcome == "UNKNOWN_TOKEN", false),
        _ => (false, false),
    };
    if !fits || entry.released != released {
        return Err(format!("entered as {outcome}, released: {}", entry.released));
    }
    if matches!(entry.tenant.as_str(), "" | "shop") { Ok(()) } else { Err("entered for rival".to_owned()) }
}

/// The principal of an entry; `None` for a stranger.
pub(crate) fn actor(entry: &Entry) -> Option<&str> {
    match &entry.actor {
        Some(Actor::Principal(name)) => Some(name),
        _ => None,
    }
}
