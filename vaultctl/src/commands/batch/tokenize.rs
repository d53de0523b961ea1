//! `batch tokenize`.

use vault_proto::v1::batch_tokenize_result::Verdict as Token;
use vault_proto::v1::batches_client::BatchesClient;
use vault_proto::v1::{BatchTokenizeItem, BatchTokenizeRequest, BatchTokenizeResult, Value};
use zeroize::Zeroizing;

use crate::cli::BatchTokenize;
use crate::commands::{Session, timed, wire};
use crate::failure::Failure;
use crate::values::{Class, bare, card};

use super::sheet::Verdict;
use super::table::{Row, Table};
use super::{Run, patiently};

/// Tokens for the values of a file.
pub(super) async fn run(session: &Session, options: &BatchTokenize) -> Result<(), Failure> {
    let daemons = session.daemons()?;
    let table = Table::read(&options.files.input)?;
    let columns = Columns::of(&table)?;
    columns.check(&table)?;
    let mut settings = vec!["tokenize"];
    settings.extend(options.purpose.iter().map(String::as_str));
    let run = Run::open(&options.files, table, &["token"], &settings)?;
    run.finish(session, async |rows, name| {
        let items = rows.iter().map(|row| columns.item(row, &options.purpose)).collect::<Result<_, _>>()?;
        let request = BatchTokenizeRequest { items, idempotency_key: name.to_owned() };
        let answer = patiently(&daemons, |channel| {
            let request = timed(request.clone());
            async { BatchesClient::new(channel).batch_tokenize(request).await }
        });
        Ok(answer.await?.results.into_iter().map(verdict).collect())
    })
    .await
}

/// Where the parts of a value stand in a row.
struct Columns {
    class: Class,
    number: usize,
    expiry: Option<usize>,
    cardholder_name: Option<usize>,
    reference: Option<usize>,
}

impl Columns {
    fn of(table: &Table) -> Result<Self, Failure> {
        let (class, number) = match (table.column("pan"), table.column("ssn")) {
            (None, Some(number)) => {
                table.only_columns(&["ssn", "reference"])?;
                (Class::Ssn, number)
            }
            (number, _) => {
                table.only_columns(&["pan", "expiry", "cardholder_name", "reference"])?;
                let missing = || Failure::usage("the input has neither a column pan nor a column ssn");
                (Class::Pan, number.ok_or_else(missing)?)
            }
        };
        Ok(Self {
            class,
            number,
            expiry: table.column("expiry"),
            cardholder_name: table.column("cardholder_name"),
            reference: table.column("reference"),
        })
    }

    /// Whether every row can be sent. The vault judges the numbers; what it could not even be asked is told
    /// before the first row is sent.
    fn check(&self, table: &Table) -> Result<(), Failure> {
        for (at, row) in (1..=table.rows()).zip(table.each_row()) {
            self.item(&row?, &[]).map_err(|failure| Failure::usage(format!("row {at}: {failure}")))?;
        }
        Ok(())
    }

    fn item(&self, row: &Row, purposes: &[String]) -> Result<BatchTokenizeItem, Failure> {
        let reference = str::from_utf8(part(row, self.reference))
            .map_err(|_| Failure::usage("the reference is not text"))?;
        Ok(BatchTokenizeItem {
            value: Some(self.value(row)?),
            purposes: purposes.to_vec(),
            reference: reference.trim().to_owned(),
        })
    }

    fn value(&self, row: &Row) -> Result<Value, Failure> {
        let number = part(row, Some(self.number));
        match self.class {
            Class::Ssn => Ok(bare(Class::Ssn, number)),
            Class::Pan => card(number, part(row, self.expiry), part(row, self.cardholder_name)),
        }
    }
}

fn part(row: &Row, column: Option<usize>) -> &[u8] {
    column.and_then(|column| row.get(column)).unwrap_or_default()
}

fn verdict(result: BatchTokenizeResult) -> Verdict {
    let receipt = wire::receipt(result.receipt.as_ref());
    match result.verdict {
        Some(Token::Token(token)) => {
            Verdict { answers: vec![Zeroizing::new(token)], reason: String::new(), receipt }
        }
        Some(Token::Refusal(refusal)) => Verdict { answers: Vec::new(), reason: refusal.reason, receipt },
        None => Verdict { answers: Vec::new(), reason: "NO_VERDICT".to_owned(), receipt },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use vault_proto::v1::value::Kind;

    use super::*;

    fn table(text: &str) -> Table {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Table::read(file.path()).unwrap()
    }

    fn items(text: &str) -> Result<Vec<BatchTokenizeItem>, Failure> {
        let table = table(text);
        let columns = Columns::of(&table)?;
        columns.check(&table)?;
        table.each_row().map(|row| columns.item(&row?, &["billing".to_owned()])).collect()
    }

    #[test]
    fn columns_may_stand_in_any_order_and_parts_may_be_empty() {
        let text =
            "reference,expiry,pan,cardholder_name\nr-1,12/30,4111111111111111,Test Card\n,,4222222222222,\n";
        let items = items(text).unwrap();
        let cards: Vec<_> = items
            .iter()
            .map(|item| match &item.value.as_ref().unwrap().kind {
                Some(Kind::Card(card)) => {
                    (card.pan.clone(), card.expiry.map(|e| e.year), card.cardholder_name.is_some())
                }
                _ => panic!("not a card"),
            })
            .collect();
        assert_eq!(cards[0], (b"4111111111111111".to_vec(), Some(2030), true));
        assert_eq!(cards[1], (b"4222222222222".to_vec(), None, false));
        assert_eq!((items[0].reference.as_str(), items[1].reference.as_str()), ("r-1", ""));
        assert_eq!(items[0].purposes, ["billing"]);
    }

    #[test]
    fn a_column_ssn_makes_ssns() {
        let items = items("ssn\n078-05-1120\n").unwrap();
        let kind = &items[0].value.as_ref().unwrap().kind;
        assert!(matches!(kind, Some(Kind::Ssn(ssn)) if ssn.number == b"078-05-1120"));
    }

    #[test]
    fn a_row_that_cannot_be_sent_is_told_by_its_number_before_any_is() {
        let refused =
            items("pan,expiry\n4111111111111111,12/30\n4111111111111111,4222222222222\n").unwrap_err();
        assert_eq!(refused.to_string(), "row 2: an expiry is written MM/YYYY or MM/YY");
    }

    #[test]
    fn columns_of_no_use_are_refused() {
        for text in ["pan,cvv\n1,2\n", "pan,ssn\n1,2\n", "ssn,expiry\n1,2\n", "reference\n1\n", "token\n1\n"]
        {
            assert!(items(text).is_err(), "{text}");
        }
    }
}
