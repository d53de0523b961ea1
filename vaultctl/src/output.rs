//! What reaches the terminal: masked unless revealed, clean of control characters, as text or as JSON.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Digits of a value that its mask shows.
const SHOWN_LAST: usize = 4;
/// Fewest characters that a mask hides; a shorter value is hidden whole.
const HIDDEN_MIN: usize = 4;

/// How answers are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// An answer: named fields in order.
#[derive(Default)]
pub(crate) struct Record(Vec<(&'static str, Field)>);

enum Field {
    Text(Zeroizing<String>),
    Count(u64),
    Flag(bool),
    /// Shown to people so; to programs it is absent.
    Unknown(&'static str),
    Absent,
}

impl Record {
    /// One without fields yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a text; an empty one is absent, as proto3 has it.
    pub(crate) fn text(self, name: &'static str, text: impl Into<String>) -> Self {
        let text = Zeroizing::new(text.into());
        self.with(name, if text.is_empty() { Field::Absent } else { Field::Text(text) })
    }

    /// Adds a number.
    pub(crate) fn count(self, name: &'static str, count: impl Into<u64>) -> Self {
        self.with(name, Field::Count(count.into()))
    }

    /// Adds a number if it is known, else what people are told instead; nothing to tell is absent.
    pub(crate) fn known(self, name: &'static str, count: Option<u64>, otherwise: &'static str) -> Self {
        let field = match (count, otherwise) {
            (Some(count), _) => Field::Count(count),
            (None, "") => Field::Absent,
            (None, otherwise) => Field::Unknown(otherwise),
        };
        self.with(name, field)
    }

    /// Adds a yes or no.
    pub(crate) fn flag(self, name: &'static str, flag: bool) -> Self {
        self.with(name, Field::Flag(flag))
    }

    fn with(mut self, name: &'static str, field: Field) -> Self {
        self.0.push((name, field));
        self
    }

    /// A field a line, its name before it; absent ones are left out.
    fn lines(&self) -> Zeroizing<String> {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
        let present = self.0.iter().filter(|(_, field)| !matches!(field, Field::Absent));
        let lines = present.map(|(name, field)| {
            let name = format!("{}:", name.replace('_', " "));
            Zeroizing::new(format!("{name:<width$}{}\n", field.shown().as_str()))
        });
        Zeroizing::new(lines.fold(String::new(), |text, line| text + &line))
    }

    /// All fields on one line, absent ones as a hyphen.
    fn line(&self) -> Zeroizing<String> {
        let shown = self.0.iter().map(|(_, field)| field.shown());
        let line = shown.fold(String::new(), |text, shown| text + &shown + "  ");
        Zeroizing::new(line.trim_end().to_owned() + "\n")
    }

    /// One JSON object on one line. What [`clean`] would change is escaped, so that nothing is lost.
    fn json(&self) -> Result<Zeroizing<String>, Failure> {
        let json = serde_json::to_string(self).map_err(|error| Failure::usage(error.to_string()))?;
        let json = Zeroizing::new(json);
        let mut escaped = Zeroizing::new(String::with_capacity(json.len() + 1));
        for character in json.chars() {
            if is_harmless(character) {
                escaped.push(character);
            } else {
                let units = character.encode_utf16(&mut [0; 2]).to_vec();
                units.iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
            }
        }
        escaped.push('\n');
        Ok(escaped)
    }
}

impl Field {
    fn shown(&self) -> Zeroizing<String> {
        match self {
            Self::Text(text) => clean(text),
            Self::Count(count) => Zeroizing::new(count.to_string()),
            Self::Flag(flag) => Zeroizing::new(if *flag { "yes" } else { "no" }.to_owned()),
            Self::Unknown(told) => Zeroizing::new((*told).to_owned()),
            Self::Absent => Zeroizing::new("-".to_owned()),
        }
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, field) in &self.0 {
            match field {
                Field::Text(text) => map.serialize_entry(name, text.as_str())?,
                Field::Count(count) => map.serialize_entry(name, count)?,
                Field::Flag(flag) => map.serialize_entry(name, flag)?,
                Field::Unknown(_) | Field::Absent => map.serialize_entry(name, &())?,
            }
        }
        map.end()
    }
}

impl Format {
    /// Writes an answer: in text a field a line.
    pub(crate) fn write(self, record: &Record) -> Result<(), Failure> {
        match self {
            Self::Text => write(&record.lines()),
            Self::Json => write(&record.json()?),
        }
    }

    /// Writes one of many answers: one line in either format.
    pub(crate) fn write_line(self, record: &Record) -> Result<(), Failure> {
        match self {
            Self::Text => write(&record.line()),
            Self::Json => write(&record.json()?),
        }
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::usage(format!("standard output: {error}")))
}

/// Whether values are shown in full.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Reveal {
    /// Show values in full; without it all but the last four digits are hidden.
    #[arg(long)]
    reveal: bool,
    /// Reveal although the output is not a terminal but a pipe or a file.
    #[arg(long, requires = "reveal")]
    allow_pipe: bool,
}

impl Reveal {
    /// Whether values may be shown in full on standard output. To be asked before the vault is.
    pub(crate) fn on_stdout(self) -> Result<bool, Failure> {
        self.decide(io::stdout().is_terminal())
    }

    /// Whether values may be written in full to a file.
    pub(crate) fn in_file(self) -> Result<bool, Failure> {
        self.decide(false)
    }

    fn decide(self, terminal: bool) -> Result<bool, Failure> {
        if self.reveal && !terminal && !self.allow_pipe {
            return Err(Failure::usage(
                "--reveal writes values in full to what is no terminal; say --allow-pipe if that is meant",
            ));
        }
        Ok(self.reveal)
    }
}

/// A value with all but its last four digits hidden.
pub(crate) fn mask(value: &[u8]) -> String {
    let shown = match value.len().checked_sub(SHOWN_LAST) {
        Some(hidden) if hidden >= HIDDEN_MIN => value.get(hidden..).unwrap_or_default(),
        _ => &[],
    };
    let digits = shown.iter().all(u8::is_ascii_digit);
    let shown = if digits { String::from_utf8_lossy(shown) } else { "".into() };
    "*".repeat(value.len() - shown.len()) + &shown
}

/// Text as it may reach a terminal: what could move the cursor, change colours or turn the reading direction
/// is written out as `\u{…}`.
pub(crate) fn clean(text: &str) -> Zeroizing<String> {
    let mut cleaned = Zeroizing::new(String::with_capacity(text.len()));
    for character in text.chars() {
        if is_harmless(character) {
            cleaned.push(character);
        } else {
            cleaned.extend(character.escape_unicode());
        }
    }
    cleaned
}

/// Neither a control character nor one of those that Unicode has for invisible or direction-changing
/// formatting.
const fn is_harmless(character: char) -> bool {
    !matches!(
        character,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2Jb\u{9b}31mc\u{202e}d\ne\u{7f}\u{e0041}";

    fn decided(reveal: bool, allow_pipe: bool, terminal: bool) -> Option<bool> {
        Reveal { reveal, allow_pipe }.decide(terminal).ok()
    }

    #[test]
    fn values_are_masked_unless_revealed() {
        assert_eq!(decided(false, false, true), Some(false));
        assert_eq!(decided(false, false, false), Some(false));
    }

    #[test]
    fn revealing_takes_a_terminal_or_the_word_that_a_pipe_is_meant() {
        assert_eq!(decided(true, false, true), Some(true));
        assert_eq!(decided(true, false, false), None);
        assert_eq!(decided(true, true, false), Some(true));
    }

    #[test]
    fn a_file_is_never_a_terminal() {
        assert!(Reveal { reveal: true, allow_pipe: false }.in_file().is_err());
        assert!(Reveal { reveal: true, allow_pipe: true }.in_file().unwrap());
    }

    #[test]
    fn a_mask_shows_the_last_four_digits_and_nothing_of_short_or_strange_values() {
        let masks = [
            ("4111111111111111", "************1111"),
            ("078051120", "*****1120"),
            ("12345678", "****5678"),
            ("1234567", "*******"),
            ("", ""),
            ("not a number", "************"),
        ];
        for (value, masked) in masks {
            assert_eq!(mask(value.as_bytes()), masked);
        }
    }

    #[test]
    fn what_could_command_a_terminal_is_written_out() {
        let cleaned = clean(HOSTILE);
        assert!(cleaned.chars().all(is_harmless));
        assert_eq!(cleaned.as_str(), r"a\u{1b}[2Jb\u{9b}31mc\u{202e}d\u{a}e\u{7f}\u{e0041}");
        assert_eq!(clean("Zoë — 張").as_str(), "Zoë — 張");
    }

    #[test]
    fn json_escapes_the_same_and_loses_nothing() {
        let json = Record::new().text("x", HOSTILE).json().unwrap();
        assert!(json.trim_end_matches('\n').chars().all(is_harmless));
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["x"], HOSTILE);
    }

    #[test]
    fn a_record_reads_as_lines_as_one_line_and_as_json() {
        let record = Record::new()
            .text("token", "t")
            .text("note", "")
            .count("record_version", 3_u32)
            .flag("found", true);
        assert_eq!(record.lines().as_str(), "token:          t\nrecord version: 3\nfound:          yes\n");
        assert_eq!(record.line().as_str(), "t  -  3  yes\n");
        let json = "{\"token\":\"t\",\"note\":null,\"record_version\":3,\"found\":true}\n";
        assert_eq!(record.json().unwrap().as_str(), json);
    }
}
