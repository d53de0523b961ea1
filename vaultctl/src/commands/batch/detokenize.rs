//! `batch detokenize`.

use vault_proto::v1::batch_detokenize_result::Verdict as Released;
use vault_proto::v1::batches_client::BatchesClient;
use vault_proto::v1::{BatchDetokenizeItem, BatchDetokenizeRequest, BatchDetokenizeResult};

use crate::cli::BatchDetokenize;
use crate::commands::{Session, timed, wire};
use crate::failure::Failure;

use super::sheet::Verdict;
use super::table::{Row, Table};
use super::{Run, patiently};

/// The one column of values that are masked.
const MASKED: &[&str] = &["masked"];
/// The columns of values in full.
const REVEALED: &[&str] = &["value", "expiry", "cardholder_name"];

/// Values for the tokens of a file, masked unless revealed.
pub(super) async fn run(session: &Session, options: &BatchDetokenize) -> Result<(), Failure> {
    let reveal = options.reveal.in_file()?;
    let daemons = session.daemons()?;
    let table = Table::read(&options.files.input)?;
    let missing = || Failure::usage("the input has no column token; the first line must name the columns");
    let column = table.column("token").ok_or_else(missing)?;
    let release = &options.release;
    let answers = if reveal { REVEALED } else { MASKED };
    let settings = ["detokenize", &release.purpose, &release.recipient, &release.reference];
    let run = Run::open(&options.files, table, answers, &settings)?;
    run.finish(session, async |rows, _| {
        let answer = patiently(&daemons, |channel| {
            let request = BatchDetokenizeRequest {
                items: rows.iter().map(|row| BatchDetokenizeItem { token: token(row, column) }).collect(),
                purpose: release.purpose.clone(),
                recipient: release.recipient.clone(),
                reference: release.reference.clone(),
            };
            async { BatchesClient::new(channel).batch_detokenize(timed(request)).await }
        });
        let results = answer.await?.results;
        Ok(results.into_iter().map(|result| verdict(&result, reveal)).collect())
    })
    .await
}

/// The token of a row; bytes that are no text make no token either, and the vault says so.
fn token(row: &Row, column: usize) -> String {
    String::from_utf8_lossy(row.get(column).unwrap_or_default().trim_ascii()).into_owned()
}

fn verdict(result: &BatchDetokenizeResult, reveal: bool) -> Verdict {
    let receipt = wire::receipt(result.receipt.as_ref());
    let refused =
        |reason: &str| Verdict { answers: Vec::new(), reason: reason.to_owned(), receipt: receipt.clone() };
    match &result.verdict {
        Some(Released::Record(record)) => {
            let shown = wire::Shown::of(record.value.as_ref(), reveal);
            let mut answers = vec![shown.value];
            if reveal {
                answers.extend([shown.expiry, shown.cardholder_name]);
            }
            Verdict { answers, reason: String::new(), receipt }
        }
        Some(Released::Refusal(refusal)) => refused(&refusal.reason),
        None => refused("NO_VERDICT"),
    }
}

#[cfg(test)]
mod tests {
    use vault_proto::v1::{DetokenizedRecord, Refusal};

    use super::*;
    use crate::values::card;

    fn result(verdict: Released) -> BatchDetokenizeResult {
        BatchDetokenizeResult { verdict: Some(verdict), receipt: None }
    }

    fn answers(reveal: bool) -> Vec<String> {
        let value = card(b"4111111111111111", b"12/30", b"Test Card").ok();
        let record = DetokenizedRecord { value, record_version: 1, create_time: None };
        let verdict = verdict(&result(Released::Record(record)), reveal);
        verdict.answers.iter().map(|answer| answer.to_string()).collect()
    }

    #[test]
    fn values_are_masked_unless_revealed_and_fit_the_columns() {
        assert_eq!(answers(false), ["************1111"]);
        assert_eq!(answers(true), ["4111111111111111", "12/2030", "Test Card"]);
        assert_eq!((answers(false).len(), answers(true).len()), (MASKED.len(), REVEALED.len()));
    }

    #[test]
    fn a_refused_row_has_its_reason_and_no_answer() {
        let refusal = Refusal { code: 5, reason: "UNKNOWN_TOKEN".to_owned(), message: String::new() };
        let verdict = verdict(&result(Released::Refusal(refusal)), true);
        assert_eq!((verdict.answers.len(), verdict.reason.as_str()), (0, "UNKNOWN_TOKEN"));
    }
}
