//! `batch`: a CSV file in, a CSV file of tokens or values out, a verdict for each row.
//!
//! ```text
//! table   the input, checked whole before anything is sent
//! job     the secret of an unfinished batch; names each chunk, so that a chunk sent twice counts once
//! sheet   the output, synced chunk by chunk; says how far an unfinished batch came
//! ```

mod detokenize;
mod job;
mod sheet;
mod table;
mod tokenize;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tonic::transport::Channel;
use tonic::{Response, Status};
use vault_proto::Daemons;
use vault_proto::daemons::{Repeat, Terms};

use crate::cli::{Batch, BatchFiles};
use crate::failure::{Failure, complain};
use crate::output::Record;

use self::job::Job;
use self::sheet::{Sheet, Verdict};
use self::table::{Row, Table};
use super::{CALL_TIMEOUT, Session};

/// Rows sent in one call. The vault takes up to 1,000; half of that loses less when a call is lost.
/// Unfinished batches of an earlier release are numbered by it.
const CHUNK_ROWS: u64 = 500;
/// The longest wait for a chunk: the window of a request quota, and some time.
const WAIT_MAX: Duration = Duration::from_secs(65);

/// Does what was asked for.
pub(super) async fn run(session: &Session, batch: Batch) -> Result<(), Failure> {
    match batch {
        Batch::Tokenize(options) => tokenize::run(session, &options).await,
        Batch::Detokenize(options) => detokenize::run(session, &options).await,
    }
}

/// A batch under way.
struct Run {
    table: Table,
    job: Job,
    sheet: Sheet,
}

impl Run {
    /// Begins a batch, or takes up the unfinished one of the same output. `settings` are all options that the
    /// answers depend on.
    fn open(files: &BatchFiles, table: Table, answers: &[&str], settings: &[&str]) -> Result<Self, Failure> {
        let job = Job::open(&files.out, table.bytes(), settings)?;
        let sheet = Sheet::open(&files.out, answers)?;
        sheet.check(table.rows(), |row| job.chunk(row / CHUNK_ROWS))?;
        Ok(Self { table, job, sheet })
    }

    /// Sends what is not answered yet, chunk by chunk, each with its name.
    async fn finish(
        mut self,
        session: &Session,
        mut ask: impl AsyncFnMut(&[Row], &str) -> Result<Vec<Verdict>, Failure>,
    ) -> Result<(), Failure> {
        let bar = progress_bar(self.table.rows());
        while self.sheet.rows() < self.table.rows() {
            bar.set_position(self.sheet.rows());
            let chunk = self.sheet.rows() / CHUNK_ROWS;
            let (rows, name) = (self.table.chunk(chunk * CHUNK_ROWS, CHUNK_ROWS)?, self.job.chunk(chunk));
            let verdicts = ask(&rows, &name).await.inspect_err(|_| {
                bar.abandon();
                complain("unfinished; the same command again goes on from here");
            })?;
            if verdicts.len() != rows.len() {
                return Err(Failure::Unproven(
                    "the vault answered another number of rows than asked".to_owned(),
                ));
            }
            self.sheet.append(chunk * CHUNK_ROWS, &verdicts, &name)?;
        }
        bar.finish_and_clear();
        self.job.finish()?;
        let (rows, refused) = (self.sheet.rows(), self.sheet.refused());
        session.output.write(&Record::new().count("rows", rows).count("refused", refused))?;
        if refused > 0 { Err(Failure::RowsRefused { refused, rows }) } else { Ok(()) }
    }
}

/// Makes a call that may be repeated, to whichever daemon answers, and again as often as the vault asks to
/// wait.
async fn patiently<T, F: Future<Output = Result<Response<T>, Status>>>(
    daemons: &Daemons,
    call: impl Fn(Channel) -> F,
) -> Result<T, Failure> {
    let terms = Terms { repeat: Repeat::Freely, attempt: CALL_TIMEOUT, within: WAIT_MAX };
    Ok(daemons.call(terms, call).await?.into_inner())
}

/// On standard error, and only if that is a terminal.
fn progress_bar(rows: u64) -> ProgressBar {
    let bar = ProgressBar::new(rows);
    match ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} rows, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
