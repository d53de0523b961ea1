//! The output of a batch: a CSV file that grows chunk by chunk, each synced before the next is sent.
//!
//! ```text
//! row,<answers>,reason,receipt,batch
//! ```
//! `row` counts the input's rows from 1. A refused row has a reason and no answers. `receipt` is the row's
//! place in the audit log, `batch` the name of its chunk.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Writer};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output::clean;

/// What became of one row.
pub(super) struct Verdict {
    /// One text per answer column; none when refused.
    pub(super) answers: Vec<Zeroizing<String>>,
    /// Why there is no answer; empty when there is one.
    pub(super) reason: String,
    /// Where the audit log records it; empty when it does not.
    pub(super) receipt: String,
}

/// An output file, and how far it came.
pub(super) struct Sheet {
    path: PathBuf,
    file: File,
    answers: usize,
    rows: u64,
    refused: u64,
    /// The name of the last row's chunk.
    last_chunk: String,
}

impl Sheet {
    /// Makes the file, for its owner only, or opens it where an earlier run ended.
    pub(super) fn open(path: &Path, answers: &[&str]) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::file(path, &error);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = file.map_err(failed)?;
        let empty = drop_torn_line(&mut file).map_err(failed)? == 0;
        let header = [&["row"], answers, &["reason", "receipt", "batch"]].concat();
        if empty {
            file.write_all(format!("{}\n", header.join(",")).as_bytes()).map_err(failed)?;
        }
        let (answers, path) = (answers.len(), path.to_owned());
        let mut sheet = Self { path, file, answers, rows: 0, refused: 0, last_chunk: String::new() };
        sheet.read_back(&header)?;
        Ok(sheet)
    }

    /// Rows written.
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows written that were refused.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Refuses a file whose last row does not belong to this input: `chunk` names the chunk of a row.
    pub(super) fn check(&self, rows: u64, chunk: impl Fn(u64) -> String) -> Result<(), Failure> {
        let fits = match self.rows.checked_sub(1) {
            Some(last) => self.rows <= rows && self.last_chunk == chunk(last),
            None => true,
        };
        let path = self.path.display();
        let problem = || Failure::usage(format!("{path}: was begun with another input or other options"));
        if fits { Ok(()) } else { Err(problem()) }
    }

    /// Writes the verdicts of a chunk that begins at row `first`, but for those that are written already.
    pub(super) fn append(&mut self, first: u64, verdicts: &[Verdict], chunk: &str) -> Result<(), Failure> {
        let mut writer = Writer::from_writer(Vec::new());
        let mut refused = 0;
        let numbered = (first..).zip(verdicts).skip_while(|(row, _)| *row < self.rows);
        let mut rows = self.rows;
        for (row, verdict) in numbered {
            rows = row + 1;
            refused += u64::from(!verdict.reason.is_empty());
            let fields = verdict.fields(self.answers, rows, chunk);
            let written = writer.write_record(fields.iter().map(|field| field.as_bytes()));
            written.map_err(|error| Failure::usage(error.to_string()))?;
        }
        let text = writer.into_inner().map(Zeroizing::new);
        let text = text.map_err(|error| Failure::usage(error.to_string()))?;
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        written.map_err(|error| Failure::file(&self.path, &error))?;
        (self.rows, self.refused) = (rows, self.refused + refused);
        chunk.clone_into(&mut self.last_chunk);
        Ok(())
    }

    /// Reads how far the file came.
    fn read_back(&mut self, header: &[&str]) -> Result<(), Failure> {
        let foreign = || Failure::usage(format!("{}: is not the output of this batch", self.path.display()));
        self.file.rewind().map_err(|error| Failure::file(&self.path, &error))?;
        let mut reader = ReaderBuilder::new().from_reader(BufReader::new(&self.file));
        if reader.headers().map_err(|_| foreign())? != &StringRecord::from(header.to_vec()) {
            return Err(foreign());
        }
        let (mut rows, mut refused, mut last_chunk) = (0_u64, 0_u64, String::new());
        for record in reader.records() {
            let record = record.map_err(|_| foreign())?;
            rows += 1;
            let field = |at: usize| record.get(at).unwrap_or_default();
            if field(0) != rows.to_string() {
                return Err(foreign());
            }
            refused += u64::from(!field(self.answers + 1).is_empty());
            field(self.answers + 3).clone_into(&mut last_chunk);
        }
        drop(reader);
        (self.rows, self.refused, self.last_chunk) = (rows, refused, last_chunk);
        self.file.seek(SeekFrom::End(0)).map_err(|error| Failure::file(&self.path, &error))?;
        Ok(())
    }
}

impl Verdict {
    /// The row as it is written. Cleaned of control characters, so that a row is a line.
    fn fields(&self, answers: usize, row: u64, chunk: &str) -> Vec<Zeroizing<String>> {
        let mut fields = vec![Zeroizing::new(row.to_string())];
        let empty = std::iter::repeat_with(Zeroizing::default);
        let given = self.answers.iter().map(|answer| clean(answer));
        fields.extend(given.chain(empty).take(answers));
        fields.extend([clean(&self.reason), clean(&self.receipt), clean(chunk)]);
        fields
    }
}

/// Cuts off what stands after the last line's end: a crash may leave half a line. Gives the length that is
/// left.
fn drop_torn_line(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut piece = [0; 4_096];
    while end > 0 {
        let start = end.saturating_sub(piece.len() as u64);
        file.seek(SeekFrom::Start(start))?;
        let size = usize::try_from(end - start).unwrap_or(piece.len());
        let Some(piece) = piece.get_mut(..size) else { break };
        file.read_exact(piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length {
        file.set_len(end)?;
    }
    file.seek(SeekFrom::End(0))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const COLUMNS: &[&str] = &["token"];

    fn token(text: &str) -> Verdict {
        let answers = vec![Zeroizing::new(text.to_owned())];
        Verdict { answers, reason: String::new(), receipt: "log 1 hash".to_owned() }
    }

    fn refused(reason: &str) -> Verdict {
        Verdict { answers: Vec::new(), reason: reason.to_owned(), receipt: String::new() }
    }

    fn out() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        (folder, path)
    }

    #[test]
    fn rows_are_written_with_their_verdict_and_read_back() {
        let (_folder, path) = out();
        let mut sheet = Sheet::open(&path, COLUMNS).unwrap();
        sheet.append(0, &[token("a"), refused("PAN_LUHN")], "x").unwrap();
        sheet.append(2, &[token("b")], "y").unwrap();
        let text = "row,token,reason,receipt,batch\n1,a,,log 1 hash,x\n2,,PAN_LUHN,,x\n3,b,,log 1 hash,y\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let sheet = Sheet::open(&path, COLUMNS).unwrap();
        assert_eq!((sheet.rows(), sheet.refused(), sheet.last_chunk.as_str()), (3, 1, "y"));
    }

    #[test]
    fn half_a_line_is_cut_off_and_written_again() {
        let (_folder, path) = out();
        Sheet::open(&path, COLUMNS).unwrap().append(0, &[token("a"), token("b")], "x").unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        let first_row = whole.find("\n2,").unwrap() + 1;
        for length in first_row..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut sheet = Sheet::open(&path, COLUMNS).unwrap();
            assert_eq!(sheet.rows(), 1);
            sheet.append(0, &[token("a"), token("b")], "x").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        }
    }

    #[test]
    fn a_header_that_was_never_written_whole_is_written_again() {
        let (_folder, path) = out();
        fs::write(&path, "row,tok").unwrap();
        Sheet::open(&path, COLUMNS).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "row,token,reason,receipt,batch\n");
    }

    #[test]
    fn a_file_of_another_shape_is_refused() {
        let (_folder, path) = out();
        for text in
            ["a,b\n1,2\n", "row,value,reason,receipt,batch\n", "row,token,reason,receipt,batch\n2,,,,\n"]
        {
            fs::write(&path, text).unwrap();
            assert!(Sheet::open(&path, COLUMNS).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn rows_of_another_input_are_refused() {
        let (_folder, path) = out();
        let mut sheet = Sheet::open(&path, COLUMNS).unwrap();
        assert!(sheet.check(0, |_| "other".to_owned()).is_ok());
        sheet.append(0, &[token("a"), token("b")], "x").unwrap();
        assert!(sheet.check(2, |_| "x".to_owned()).is_ok());
        assert!(sheet.check(1, |_| "x".to_owned()).is_err(), "more rows than the input has");
        assert!(sheet.check(2, |_| "y".to_owned()).is_err(), "another input");
    }

    #[test]
    fn what_the_vault_sends_cannot_break_a_line() {
        let (_folder, path) = out();
        let mut sheet = Sheet::open(&path, COLUMNS).unwrap();
        sheet.append(0, &[refused("A\n2,tok,,,\u{1b}[2J")], "x").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert_eq!(Sheet::open(&path, COLUMNS).unwrap().rows(), 1);
    }

    #[test]
    fn the_output_is_for_its_owner_only() {
        let (_folder, path) = out();
        Sheet::open(&path, COLUMNS).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
