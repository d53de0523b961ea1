//! The policy file: TOML with a closed vocabulary, refused as a whole when anything in it is wrong.

use std::fs::{self, File as OpenFile};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Deserialize;

use super::Policy;
use super::problem::{PolicyError, Problem};
use super::resolve;
use crate::crypto::sha256;
use crate::limits::POLICY_BYTES_MAX;

impl Policy {
    /// Reads a policy file. A symbolic link is followed, and what it leads to is held to the same rules.
    ///
    /// # Errors
    /// [`PolicyError`] when the file is no plain file, is writable by its group or by others, is larger than
    /// [`POLICY_BYTES_MAX`], or for any reason of [`Policy::parse`].
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let refuse = |problem| PolicyError::new(path.to_string_lossy(), problem);
        let text = read_trusted(path).map_err(refuse)?;
        Self::parse(&text)
    }

    /// Reads the text of a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] with the path of the first key that is unknown, missing, malformed, doubled, or
    /// contradicts another.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::new(WHOLE_FILE, Problem::TooLarge));
        }
        resolve::policy(&File::parse(text)?, sha256(&[text.as_bytes()]))
    }
}

/// What errors name when no key is to blame.
const WHOLE_FILE: &str = "policy";
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;

fn read_trusted(path: &Path) -> Result<String, Problem> {
    // Asked before opening, because opening a pipe waits for its other end.
    check_metadata(&fs::metadata(path).map_err(|_| Problem::Unreadable)?)?;
    let file = OpenFile::open(path).map_err(|_| Problem::Unreadable)?;
    // Asked again of the open file: the name may lead elsewhere by now.
    check_metadata(&file.metadata().map_err(|_| Problem::Unreadable)?)?;
    let mut bytes = Vec::new();
    file.take(POLICY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|_| Problem::Unreadable)?;
    if bytes.len() > POLICY_BYTES_MAX {
        return Err(Problem::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| Problem::NotText)
}

fn check_metadata(metadata: &fs::Metadata) -> Result<(), Problem> {
    if !metadata.is_file() {
        return Err(Problem::NotAFile);
    }
    if metadata.mode() & GROUP_OR_OTHERS_WRITE != 0 {
        return Err(Problem::WritableByOthers);
    }
    if metadata.len() > POLICY_BYTES_MAX as u64 {
        return Err(Problem::TooLarge);
    }
    Ok(())
}

/// The file as written. Every key is optional here, so that a missing one is reported under its own path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) vault: VaultTable,
    #[serde(default)]
    pub(super) tenant: Vec<TenantTable>,
    #[serde(default)]
    pub(super) purpose: Vec<PurposeTable>,
    #[serde(default)]
    pub(super) recipient: Vec<RecipientTable>,
    #[serde(default)]
    pub(super) principal: Vec<PrincipalTable>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VaultTable {
    pub(super) requests_per_minute: Option<u32>,
    pub(super) distinct_tokens_per_day: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantTable {
    pub(super) id: Option<String>,
    pub(super) classes: Option<Vec<String>>,
    pub(super) one_token_per_value: Option<bool>,
    pub(super) truncation: Option<String>,
    pub(super) requests_per_minute: Option<u32>,
    pub(super) distinct_tokens_per_day: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PurposeTable {
    pub(super) id: Option<String>,
    pub(super) version: Option<u32>,
    pub(super) classes: Option<Vec<String>>,
    pub(super) text_sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecipientTable {
    pub(super) id: Option<String>,
    pub(super) purposes: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrincipalTable {
    pub(super) id: Option<String>,
    pub(super) identity: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) role: Option<String>,
    pub(super) rights: Option<Vec<String>>,
    pub(super) classes: Option<Vec<String>>,
    pub(super) purposes: Option<Vec<String>>,
    pub(super) recipients: Option<Vec<String>>,
    pub(super) requests_per_minute: Option<u32>,
    pub(super) distinct_tokens_per_day: Option<u32>,
}

impl File {
    fn parse(text: &str) -> Result<Self, PolicyError> {
        let document = toml::Deserializer::parse(text).map_err(|error| {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            PolicyError::new(WHOLE_FILE, Problem::NotToml { line })
        })?;
        serde_path_to_error::deserialize(document)
            .map_err(|error| PolicyError::new(error.path().to_string(), shape_problem(error.inner())))
    }
}

/// With every key optional, serde can only meet a key it does not know or a value that does not fit. Its own
/// message would repeat the value.
fn shape_problem(error: &toml::de::Error) -> Problem {
    if error.message().starts_with("unknown field") { Problem::UnknownKey } else { Problem::WrongType }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
