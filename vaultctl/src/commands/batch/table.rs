//! The input of a batch: a CSV file with a header, read whole and checked before anything is sent.

use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use crate::failure::Failure;
use crate::values::{Secret, read_file};

/// Bytes of an input file: some ten million card numbers. Held in memory, so that what is sent is what was
/// checked.
const TABLE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A CSV file with a header and at least one row.
pub(super) struct Table {
    bytes: Secret,
    header: ByteRecord,
    rows: u64,
}

/// One row; its memory is wiped by the allocator.
pub(super) type Row = ByteRecord;

impl Table {
    /// Reads a file. No complaint repeats what stands in it: without a header the first row is a card number.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = read_file(path, TABLE_BYTES_MAX)?;
        Self::parse(bytes).map_err(|problem| Failure::usage(format!("{}: {problem}", path.display())))
    }

    fn parse(bytes: Secret) -> Result<Self, String> {
        let mut reader = ReaderBuilder::new().from_reader(bytes.as_slice());
        let header = reader.byte_headers().cloned().map_err(|_| "is not CSV".to_owned())?;
        let mut rows = 0;
        for row in reader.byte_records() {
            rows += 1;
            row.map_err(|_| format!("row {rows} has another number of fields than the header"))?;
        }
        if rows == 0 {
            return Err("has no rows below its header".to_owned());
        }
        Ok(Self { bytes, header, rows })
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Rows below the header.
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// The place of a column.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column.trim_ascii() == name.as_bytes())
    }

    /// Refuses columns that are not among those named, and a column named twice.
    pub(super) fn only_columns(&self, names: &[&str]) -> Result<(), Failure> {
        for (at, column) in self.header.iter().enumerate() {
            let known = names.iter().find(|name| name.as_bytes() == column.trim_ascii());
            if known.and_then(|name| self.column(name)) != Some(at) {
                let names = names.join(", ");
                return Err(Failure::usage(format!(
                    "column {} of the input is none of {names}, or stands there twice; the first line must \
                     name the columns",
                    at + 1
                )));
            }
        }
        Ok(())
    }

    /// Up to `count` rows from row `first` on; the first row has number 0.
    pub(super) fn chunk(&self, first: u64, count: u64) -> Result<Vec<Row>, Failure> {
        let (first, count) = (index(first), index(count));
        self.each_row().skip(first).take(count).collect()
    }

    /// All rows in order.
    pub(super) fn each_row(&self) -> impl Iterator<Item = Result<Row, Failure>> {
        let rows = ReaderBuilder::new().from_reader(self.bytes.as_slice()).into_byte_records();
        // Never: the file was read whole before.
        rows.map(|row| row.map_err(|_| Failure::usage("the input is not CSV")))
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn parse(text: &str) -> Result<Table, String> {
        Table::parse(Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn rows_are_counted_below_the_header_and_read_in_chunks() {
        let table =
            parse("pan,reference\n4111111111111111,a\r\n\"4222222222222\",b\n\n6011111111111117,c").unwrap();
        assert_eq!((table.rows(), table.column("pan"), table.column("reference")), (3, Some(0), Some(1)));
        let chunk = table.chunk(1, 5).unwrap();
        let references: Vec<&[u8]> = chunk.iter().map(|row| &row[1]).collect();
        assert_eq!(references, [b"b", b"c"]);
        assert_eq!(table.chunk(3, 5).unwrap().len(), 0);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_column() {
        assert_eq!(parse("\u{feff}pan\n4111111111111111\n").unwrap().column("pan"), Some(0));
    }

    #[test]
    fn a_file_without_a_header_is_refused_without_repeating_it() {
        let table = parse("4111111111111111\n4222222222222\n").unwrap();
        let refused = table.only_columns(&["pan", "reference"]).unwrap_err().to_string();
        assert!(refused.starts_with("column 1 of the input is none of pan, reference"), "{refused}");
        assert!(!refused.contains("4111"));
    }

    #[test]
    fn unknown_and_repeated_columns_are_refused() {
        for text in ["pan,cvv\n1,2\n", "pan,pan\n1,2\n", "pan,\n1,2\n"] {
            let refused = parse(text).unwrap().only_columns(&["pan"]).unwrap_err().to_string();
            assert!(refused.starts_with("column 2"), "{refused}");
        }
        assert!(parse(" pan ,reference\n1,2\n").unwrap().only_columns(&["pan", "reference"]).is_ok());
    }

    #[test]
    fn ragged_and_empty_files_are_refused() {
        assert_eq!(
            parse("pan\n4111111111111111\n1,2\n").err().unwrap(),
            "row 2 has another number of fields than the header"
        );
        assert!(parse("pan\n").is_err());
        assert!(parse("").is_err());
    }
}
