//! The secret of an unfinished batch, in a file beside its output: `OUT.job`.
//!
//! Every chunk has a name, which is its idempotency key: HMAC-SHA-256, under the job's own random key, of the
//! whole input, the options and the chunk's number. The same chunk sent again has the same name, so that the
//! vault answers what it answered before; another input has other names. Without the key a name tells
//! nothing: an unkeyed hash of a file with one card number would be a hash of that card number (PCI DSS
//! 3.5.1.1). The file goes when the batch is finished, and what the names were made from with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use vault_core::crypto::{Entropy as _, Key32, MacKey, SystemEntropy};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::values::letters;

const KEY_BYTES: usize = 32;
/// Bytes of the MAC in a chunk's name, two letters each.
const NAME_BYTES: usize = 16;

/// An unfinished batch. Locked against a second run as long as it is open.
pub(super) struct Job {
    path: PathBuf,
    key: MacKey,
    /// MAC of the options and the input.
    input: [u8; 32],
    _lock: File,
}

impl Job {
    /// Takes up the job of an output, or begins one if there is neither.
    pub(super) fn open(out: &Path, input: &[u8], settings: &[&str]) -> Result<Self, Failure> {
        let path = beside(out);
        if out.exists() && !path.exists() {
            return Err(Failure::usage(format!("{}: exists and is no unfinished batch", out.display())));
        }
        let failed = |error: io::Error| Failure::file(&path, &error);
        let mut file = open(&path).map_err(failed)?;
        file.try_lock().map_err(|_| Failure::usage(format!("{}: another run is at it", path.display())))?;
        let key = match read_key(&mut file).map_err(failed)? {
            Some(key) => key,
            None => begin(&mut file, &path).map_err(failed)?,
        };
        let key = MacKey::new(&Key32::from_bytes(key));
        let input = key.mac(&[&canonical(settings), input]);
        Ok(Self { path, key, input, _lock: file })
    }

    /// The name of a chunk, which is its idempotency key.
    pub(super) fn chunk(&self, number: u64) -> String {
        let mac = self.key.mac(&[&self.input, &number.to_be_bytes()]);
        format!("batch-{}", letters(mac.get(..NAME_BYTES).unwrap_or_default()))
    }

    /// Forgets the key: the output is whole.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        fs::remove_file(&self.path).map_err(|error| Failure::file(&self.path, &error))
    }
}

/// The file of an output's job.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".job");
    name.into()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The key; `None` if it was never written whole, and so no chunk was ever sent under it.
fn read_key(file: &mut File) -> io::Result<Option<Zeroizing<[u8; KEY_BYTES]>>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    match file.read_exact(key.as_mut_slice()) {
        Ok(()) => Ok(Some(key)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Draws a key. Durable before the first chunk is sent: a chunk whose name is lost could count twice.
fn begin(file: &mut File, path: &Path) -> io::Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let drawn = SystemEntropy::new().fill(key.as_mut_slice());
    drawn.map_err(|_| io::Error::other("the system gives no randomness"))?;
    file.rewind()?;
    file.write_all(key.as_slice())?;
    file.sync_all()?;
    sync_folder(path)?;
    Ok(key)
}

/// Makes a new name in a folder survive a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Options in one text, each with its length, and their number, so that no two lists read the same.
fn canonical(settings: &[&str]) -> Vec<u8> {
    let mut bytes = format!("vaultctl batch 1\n{}\n", settings.len()).into_bytes();
    settings.iter().for_each(|setting| bytes.extend(format!("{}:{setting}\n", setting.len()).bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn opened(out: &Path, input: &str, settings: &[&str]) -> Job {
        Job::open(out, input.as_bytes(), settings).unwrap()
    }

    #[test]
    fn a_job_taken_up_again_names_its_chunks_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.csv");
        let names = |input: &str, settings: &[&str]| {
            let job = opened(&out, input, settings);
            [job.chunk(0), job.chunk(1)]
        };
        let first = names("input", &["tokenize", "a"]);
        assert_ne!(first[0], first[1]);
        assert_eq!(names("input", &["tokenize", "a"]), first);
        assert_ne!(names("input2", &["tokenize", "a"]), first);
        assert_ne!(names("input", &["tokenize", "b"]), first);
        assert_ne!(names("input", &["tokenize", "a", ""]), first);
    }

    #[test]
    fn two_jobs_with_one_input_share_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let name = |out: &str| opened(&folder.path().join(out), "input", &[]).chunk(0);
        assert_ne!(name("one.csv"), name("two.csv"));
    }

    #[test]
    fn a_name_is_an_idempotency_key_without_a_digit() {
        let folder = tempfile::tempdir().unwrap();
        let name = opened(&folder.path().join("out.csv"), "input", &[]).chunk(7);
        assert_eq!(name.len(), 38);
        assert!(name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()));
    }

    #[test]
    fn the_key_is_for_its_owner_only_and_goes_when_the_batch_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.csv");
        let job = opened(&out, "input", &[]);
        let mode = fs::metadata(beside(&out)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        job.finish().unwrap();
        assert!(!beside(&out).exists());
    }

    #[test]
    fn a_file_that_is_no_unfinished_batch_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.csv");
        fs::write(&out, "mine").unwrap();
        assert!(Job::open(&out, b"input", &[]).is_err());
        assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
        assert!(!beside(&out).exists());
    }

    #[test]
    fn a_second_run_at_the_same_time_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.csv");
        let _first = opened(&out, "input", &[]);
        assert!(Job::open(&out, b"input", &[]).is_err());
    }

    #[test]
    fn a_key_that_was_never_written_whole_is_drawn_again() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.csv");
        fs::write(beside(&out), [1; 31]).unwrap();
        let name = opened(&out, "input", &[]).chunk(0);
        assert_eq!(opened(&out, "input", &[]).chunk(0), name);
    }
}
