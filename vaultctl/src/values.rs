//! Secrets on their way in: from a prompt, standard input or a file, never from the command line.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use vault_proto::v1::{Card, Expiry, Ssn, Value, value::Kind};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Bytes of a secret, given with all its lines: a passphrase has at most 1,024.
const SECRET_BYTES_MAX: u64 = 4_096;

/// Where a secret comes from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Source {
    /// Read it from this file, or from standard input if `-`; without it you are asked.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// What kind of value is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Class {
    /// A card number.
    Pan,
    /// A social security number.
    Ssn,
}

/// Bytes that are wiped when they are dropped.
pub(crate) type Secret = Zeroizing<Vec<u8>>;

impl Source {
    /// A secret of one line, without its end.
    pub(crate) fn line(&self, prompt: &str) -> Result<Secret, Failure> {
        let Some(path) = &self.from else { return ask(prompt) };
        let given = read(path)?;
        match lines(&given).as_slice() {
            [line] => Ok(Zeroizing::new(line.to_vec())),
            _ => Err(Failure::usage(format!("{}: is not one line", path.display()))),
        }
    }

    /// A number of a class, without anything beside it.
    pub(crate) fn number(&self, class: Class) -> Result<Value, Failure> {
        Ok(bare(class, &self.line(class.prompt())?))
    }

    /// A value to be stored: of a card, what is to be kept beside it as well.
    ///
    /// A file has the number on its first line, the expiry on its second and the cardholder's name on its
    /// third; the last two may be left out or empty. A prompt asks for them only when told to.
    pub(crate) fn value(&self, class: Class, details: bool) -> Result<Value, Failure> {
        if class == Class::Ssn {
            return self.number(class);
        }
        let Some(path) = &self.from else { return asked_card(details) };
        let given = read(path)?;
        match lines(&given).as_slice() {
            [pan] => card(pan, b"", b""),
            [pan, expiry] => card(pan, expiry, b""),
            [pan, expiry, name] => card(pan, expiry, name),
            _ => Err(Failure::usage(format!(
                "{}: a card has one to three lines: number, expiry, cardholder's name",
                path.display()
            ))),
        }
    }
}

impl Class {
    const fn prompt(self) -> &'static str {
        match self {
            Self::Pan => "Card number: ",
            Self::Ssn => "Social security number: ",
        }
    }
}

/// A number of a class as the wire has it. The vault checks it.
pub(crate) fn bare(class: Class, number: &[u8]) -> Value {
    let number = number.trim_ascii().to_vec();
    let kind = match class {
        Class::Pan => Kind::Card(Card { pan: number, expiry: None, cardholder_name: None }),
        Class::Ssn => Kind::Ssn(Ssn { number }),
    };
    Value { kind: Some(kind) }
}

/// A card as the wire has it; an empty expiry or name is none. The vault checks it.
pub(crate) fn card(pan: &[u8], expiry: &[u8], name: &[u8]) -> Result<Value, Failure> {
    let (pan, expiry, name) = (pan.trim_ascii(), expiry.trim_ascii(), name.trim_ascii());
    let expiry = if expiry.is_empty() { None } else { Some(parse_expiry(expiry)?) };
    let cardholder_name = (!name.is_empty()).then(|| name.to_vec());
    Ok(Value { kind: Some(Kind::Card(Card { pan: pan.to_vec(), expiry, cardholder_name })) })
}

/// `MM/YYYY`, or `MM/YY` as cards print it.
fn parse_expiry(text: &[u8]) -> Result<Expiry, Failure> {
    let parsed = match text {
        [m, n, b'/', b'2', b'0', y, z] | [m, n, b'/', y, z] => number([*m, *n]).zip(number([*y, *z])),
        _ => None,
    };
    let (month, year) = parsed.ok_or_else(|| Failure::usage("an expiry is written MM/YYYY or MM/YY"))?;
    Ok(Expiry { month, year: 2000 + year })
}

fn number([tens, ones]: [u8; 2]) -> Option<u32> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    Some(digit(tens)? * 10 + digit(ones)?)
}

fn asked_card(details: bool) -> Result<Value, Failure> {
    let pan = ask(Class::Pan.prompt())?;
    if !details {
        return card(&pan, b"", b"");
    }
    let expiry = ask("Expiry, MM/YYYY, or nothing: ")?;
    card(&pan, &expiry, &ask("Cardholder's name, or nothing: ")?)
}

/// Asks on the terminal, wherever standard input and output lead; nothing typed is shown.
fn ask(prompt: &str) -> Result<Secret, Failure> {
    let typed = rpassword::prompt_password(prompt);
    let typed =
        typed.map_err(|error| Failure::usage(format!("cannot ask on the terminal: {error}; see --from")))?;
    Ok(Zeroizing::new(typed.into_bytes()))
}

fn read(path: &Path) -> Result<Secret, Failure> {
    if path.as_os_str() == "-" {
        return read_bounded(path, io::stdin().lock(), SECRET_BYTES_MAX);
    }
    read_file(path, SECRET_BYTES_MAX)
}

/// A file of at most so many bytes.
pub(crate) fn read_file(path: &Path, bytes_max: u64) -> Result<Secret, Failure> {
    let file = File::open(path).map_err(|error| Failure::file(path, &error))?;
    read_bounded(path, file, bytes_max)
}

/// As [`read_file`], of what must be text.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> Result<Zeroizing<String>, Failure> {
    let bytes = read_file(path, bytes_max)?;
    let text =
        str::from_utf8(&bytes).map_err(|_| Failure::usage(format!("{}: is not text", path.display())))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_bounded(path: &Path, from: impl Read, bytes_max: u64) -> Result<Secret, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = from.take(bytes_max + 1).read_to_end(&mut bytes);
    let read = read.map_err(|error| Failure::file(path, &error))?;
    if read as u64 > bytes_max {
        return Err(Failure::usage(format!("{}: has more than {bytes_max} bytes", path.display())));
    }
    Ok(bytes)
}

/// The lines of a text, without their ends.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect()
}

/// Bytes in letters, two each: what is made of them never reads like a card number.
pub(crate) fn letters(bytes: &[u8]) -> String {
    let letter = |nibble: u8| char::from(b'a' + nibble);
    bytes.iter().flat_map(|byte| [letter(byte >> 4), letter(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn source(text: &str) -> (tempfile::NamedTempFile, Source) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let source = Source { from: Some(file.path().to_owned()) };
        (file, source)
    }

    fn parts(value: &Value) -> (String, Option<(u32, u32)>, Option<String>) {
        let Some(Kind::Card(card)) = &value.kind else { panic!("not a card") };
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
        (text(&card.pan), card.expiry.map(|e| (e.month, e.year)), card.cardholder_name.as_ref().map(text))
    }

    #[test]
    fn a_file_with_one_line_is_a_bare_number() {
        for text in ["4111111111111111", "4111111111111111\n", "4111111111111111\r\n", " 4111111111111111 \n"]
        {
            let (_file, source) = source(text);
            let value = source.value(Class::Pan, false).unwrap();
            assert_eq!(parts(&value), ("4111111111111111".to_owned(), None, None));
        }
    }

    #[test]
    fn further_lines_are_expiry_and_name() {
        let (_file, source) = source("4111-1111-1111-1111\n12/2030\nZoë Test\n");
        let value = source.value(Class::Pan, false).unwrap();
        let expected = ("4111-1111-1111-1111".to_owned(), Some((12, 2030)), Some("Zoë Test".to_owned()));
        assert_eq!(parts(&value), expected);
    }

    #[test]
    fn an_empty_expiry_before_a_name_is_none() {
        let (_file, source) = source("4111111111111111\n\nTest Card\n");
        let value = source.value(Class::Pan, false).unwrap();
        assert_eq!(parts(&value), ("4111111111111111".to_owned(), None, Some("Test Card".to_owned())));
    }

    #[test]
    fn an_expiry_is_read_as_cards_print_it() {
        let read = |text: &str| parse_expiry(text.as_bytes()).ok().map(|e| (e.month, e.year));
        assert_eq!(read("07/2031"), Some((7, 2031)));
        assert_eq!(read("07/31"), Some((7, 2031)));
        for text in ["7/31", "07-31", "07/1931", "0731", "07/203", "aa/31", "07/311"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn no_complaint_repeats_what_was_given() {
        let secret = "4111111111111111";
        let (_file, four) = source(&format!("{secret}\n{secret}\n{secret}\n{secret}\n"));
        let (_other, expiry) = source(&format!("{secret}\n{secret}\n"));
        let complaints = [
            four.line("").unwrap_err(),
            four.value(Class::Pan, false).unwrap_err(),
            expiry.value(Class::Pan, false).unwrap_err(),
        ];
        for complaint in complaints {
            assert!(!format!("{complaint} {complaint:?}").contains(secret));
        }
    }

    #[test]
    fn a_file_that_holds_no_secret_s_length_is_refused() {
        let (_file, long) = source(&"x".repeat(5_000));
        assert!(long.line("").is_err());
    }

    #[test]
    fn an_ssn_is_one_line() {
        let (_file, source) = source("078-05-1120\n");
        let value = source.value(Class::Ssn, false).unwrap();
        let Some(Kind::Ssn(ssn)) = &value.kind else { panic!("not an SSN") };
        assert_eq!(ssn.number, b"078-05-1120");
    }
}
