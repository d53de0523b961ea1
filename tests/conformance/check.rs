//! What every refusal must be, and what it must have left behind: as little as it says.

use tonic::Code;
use vault_core::store::memory::Image;
use vault_proto::v1::Entry;

use crate::cases::{Case, Entered, action_of};
use crate::rpcs::Refused;
use crate::site::{Site, actor};
use crate::stores::kept;
use crate::{holds, logs};

/// The code of every reason; what is not here is INVALID_ARGUMENT.
const CODES: [(&str, Code); 34] = [
    ("UNKNOWN_TOKEN", Code::NotFound),
    ("DENIED", Code::PermissionDenied),
    ("WRONG_PASSPHRASE", Code::PermissionDenied),
    ("QUOTA", Code::ResourceExhausted),
    ("BUSY", Code::ResourceExhausted),
    ("IDEMPOTENCY_KEY_REUSED", Code::AlreadyExists),
    ("SEALED", Code::FailedPrecondition),
    ("NO_INDEX", Code::FailedPrecondition),
    ("TOKEN_INACTIVE", Code::FailedPrecondition),
    ("KEY_EXPIRED", Code::FailedPrecondition),
    ("NO_SUCH_KEY", Code::FailedPrecondition),
    ("KEY_IN_USE", Code::FailedPrecondition),
    ("KEY_UNCONFIRMED", Code::FailedPrecondition),
    ("KEYRING_UNUSABLE", Code::FailedPrecondition),
    ("KEYRING_OLD", Code::FailedPrecondition),
    ("ANCHOR_UNUSABLE", Code::FailedPrecondition),
    ("JOURNAL_UNUSABLE", Code::FailedPrecondition),
    ("ROLLED_BACK", Code::FailedPrecondition),
    ("OTHER_ORIGIN", Code::FailedPrecondition),
    ("TENANT_CHOICE", Code::FailedPrecondition),
    ("OTHER_SEAL", Code::FailedPrecondition),
    ("UNSEALED", Code::FailedPrecondition),
    ("CEREMONY_OPEN", Code::FailedPrecondition),
    ("NO_CEREMONY", Code::FailedPrecondition),
    ("SHARES_TOO_FEW", Code::FailedPrecondition),
    ("GAVE_ALREADY", Code::AlreadyExists),
    ("SHARE_REPEATED", Code::AlreadyExists),
    ("SHARE_FOREIGN", Code::PermissionDenied),
    ("SHARE_OTHER_SET", Code::PermissionDenied),
    ("SHARE_WRONG", Code::PermissionDenied),
    ("STORE", Code::Unavailable),
    ("OUTCOME_UNKNOWN", Code::Unavailable),
    ("CORRUPT", Code::DataLoss),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
];

pub(crate) fn code_of(reason: &str) -> Code {
    match reason {
        "HSM_MODULE" | "HSM_AWAY" => return Code::Unavailable,
        hsm if hsm.starts_with("HSM_") => return Code::FailedPrecondition,
        _ => {}
    }
    CODES.iter().find(|(name, _)| *name == reason).map_or(Code::InvalidArgument, |(_, code)| *code)
}

/// What is wrong with an answer, a line each.
pub(crate) fn answer(case: &Case, got: Option<&Refused>) -> Vec<String> {
    let what = format!("{} by {}, {}", case.ask.rpc(), case.by, case.what);
    let Some(got) = got else { return vec![format!("{what}: served instead of {}", case.reason)] };
    let mut wrong = Vec::new();
    if (got.reason.as_deref(), got.code) != (Some(case.reason), code_of(case.reason)) {
        wrong.push(format!("{what}: {:?} {:?} instead of {}", got.code, got.reason, case.reason));
    }
    let verdict = case.ask.rpc().starts_with("Batch") && got.details.is_empty();
    let (least, most) = match case.reason {
        "QUOTA" => (1.0, 86_400.0),
        "BUSY" | "STORE" | "OUTCOME_UNKNOWN" => (0.05, 10.0),
        _ => (f64::NAN, f64::NAN),
    };
    match got.retry_after_seconds {
        None if least.is_nan() || verdict => {}
        Some(seconds) if (least..=most).contains(&seconds) => {}
        other => wrong.push(format!("{what}: to come back after {other:?} seconds")),
    }
    for sent in &case.sent {
        if holds(got.message.as_bytes(), sent.as_bytes()) || holds(&got.details, sent.as_bytes()) {
            wrong.push(format!("{what}: the answer repeats what was sent"));
        }
    }
    wrong
}

/// How often calls of an RPC ended for a reason, as the metrics tell.
pub(crate) fn counted(metrics: &str, rpc: &str, reason: &str) -> u64 {
    let metric = format!("vaultd_calls_total{{rpc=\"{rpc}\",reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&metric)).map_or(0, |count| count.parse().unwrap())
}

/// What was there before a call.
pub(crate) struct Before {
    log_size: u64,
    log_mark: usize,
    kept: Image,
    metrics: String,
}

impl Before {
    pub(crate) async fn take(site: &Site) -> Self {
        Self::with_rows(site, site.store.kept()).await
    }

    /// Where it is known what rows there are.
    async fn with_rows(site: &Site, kept: Image) -> Self {
        let log_size = site.log_size().await;
        let metrics = site.metrics().await;
        Self { log_size, log_mark: logs::mark(), kept, metrics }
    }

    /// What is wrong with what some calls left behind: in the log, in the store, in the metrics.
    pub(crate) async fn traces(&self, site: &Site, cases: &[&Case]) -> Vec<String> {
        let entries = site.entries_since(self.log_size).await;
        let rows = site.store.image();
        let mut wrong: Vec<String> =
            cases.iter().flat_map(|case| self.left_by(case, &entries, &rows)).collect();
        if kept(rows) != self.kept {
            wrong.push(format!("{}: a refused call changed a row", cases[0].what));
        }
        let metrics = site.metrics().await;
        for Case { ask, reason, what, .. } in cases {
            let count = |text: &str| counted(text, ask.rpc(), reason);
            let alike = cases.iter().filter(|case| (case.ask.rpc(), case.reason) == (ask.rpc(), *reason));
            let (more, expected) = (count(&metrics) - count(&self.metrics), alike.count() as u64);
            if more != expected {
                wrong.push(format!("{}, {what}: counted {more} times instead of {expected}", ask.rpc()));
            }
        }
        wrong
    }

    fn left_by(&self, case: &Case, entries: &[Entry], rows: &Image) -> Vec<String> {
        let what = format!("{} by {}, {}", case.ask.rpc(), case.by, case.what);
        let mut wrong = Vec::new();
        let action = action_of(case);
        let own = entries.iter().filter(|entry| actor(entry) == case.by && entry.action == action);
        let own: Vec<(&str, bool)> = own.map(|entry| (entry.outcome.as_str(), entry.released)).collect();
        let expected = match case.entered {
            Entered::Refused => vec![(case.reason, false)],
            Entered::Granted => vec![("GRANTED", true)],
            Entered::No => vec![],
        };
        if own != expected {
            wrong.push(format!("{what}: entered as {own:?} instead of {expected:?}"));
        }
        // Three digits are everywhere.
        for sent in case.sent.iter().map(String::as_bytes).filter(|sent| sent.len() > 5) {
            if logs::holds_since(self.log_mark, sent) {
                wrong.push(format!("{what}: what was sent is in the daemon's log"));
            }
            if rows.values().any(|row| holds(&row.value, sent)) {
                wrong.push(format!("{what}: what was sent is in the store"));
            }
        }
        wrong
    }
}

/// Makes the calls one after another and checks each.
pub(crate) async fn all(site: &Site, cases: &[Case]) {
    assert!(!cases.is_empty());
    let (mut wrong, mut kept) = (Vec::new(), site.store.kept());
    for case in cases {
        let before = Before::with_rows(site, kept).await;
        let got = Refused::of(site.ask(case.by, case.ask.clone()).await);
        wrong.extend(answer(case, got.as_ref()));
        wrong.extend(before.traces(site, &[case]).await);
        kept = before.kept;
    }
    stop_at(&wrong);
}

#[track_caller]
pub(crate) fn stop_at(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}
