//! Shares on their way out to custodians, each once: to a new file of its own, or to the terminal; encrypted
//! where the custodian has a key for that.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use vault_core::crypto::{Recipient, SystemEntropy};
use vault_core::data::PrincipalId;
use vault_core::keys::Share;
use zeroize::Zeroizing;

use super::Done;

/// Readable and writable by the owner only.
const PRIVATE: u32 = 0o600;
const TERMINAL: &str = "/dev/tty";
/// Moves to the top and clears the screen with all that was scrolled off it.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J\x1b[3J";

/// A custodian, and where the share goes: `NAME=FILE`, or `NAME` for the terminal.
#[derive(Clone, Debug)]
pub(super) struct Custodian {
    pub(super) name: PrincipalId,
    file: Option<PathBuf>,
}

/// Reads a custodian of the command line.
pub(super) fn custodian(text: &str) -> Result<Custodian, String> {
    let (name, file) = match text.split_once('=') {
        Some((_, "")) => return Err("no file stands behind the =".to_owned()),
        Some((name, file)) => (name, Some(PathBuf::from(file))),
        None => (text, None),
    };
    let name = PrincipalId::parse(name).map_err(|error| error.to_string())?;
    Ok(Custodian { name, file })
}

/// A custodian, and the key that the share is encrypted to: `NAME=age1…`.
#[derive(Clone, Debug)]
pub(super) struct Addressee {
    name: PrincipalId,
    recipient: Recipient,
}

/// Reads an addressee of the command line.
pub(super) fn addressee(text: &str) -> Result<Addressee, String> {
    let (name, recipient) = text.split_once('=').ok_or("must be a custodian, = and an age recipient")?;
    let name = PrincipalId::parse(name).map_err(|error| error.to_string())?;
    let recipient = Recipient::parse(recipient).map_err(|error| error.to_string())?;
    Ok(Addressee { name, recipient })
}

/// Whether each key is a custodian's, and nobody has two: a share must not go out in clear by a slip of the
/// pen.
pub(super) fn check_addressees(addressees: &[Addressee], custodians: &[Custodian]) -> Done {
    for (at, Addressee { name, .. }) in addressees.iter().enumerate() {
        if !custodians.iter().any(|custodian| custodian.name == *name) {
            return Err(format!("--recipient {name}: no custodian has this name").into());
        }
        if addressees.iter().take(at).any(|other| other.name == *name) {
            return Err(format!("--recipient {name}: stands there twice").into());
        }
    }
    Ok(())
}

/// A share as it goes out.
enum Letter {
    Open(Zeroizing<String>),
    /// For whoever has the key's other half.
    Sealed(String),
}

fn letter(share: &Share, custodian: &Custodian, to: &[Addressee]) -> Result<Letter, Box<dyn Error>> {
    let text = share.to_text();
    let Some(to) = to.iter().find(|to| to.name == custodian.name) else { return Ok(Letter::Open(text)) };
    let line = Zeroizing::new(format!("{}\n", *text));
    let sealed = to.recipient.encrypt(line.as_bytes(), &mut SystemEntropy::new());
    sealed.map(Letter::Sealed).map_err(|error| format!("--recipient {}: {error}", to.name).into())
}

/// The custodian of one share, and the open file or terminal it goes to.
struct Addressed<'a> {
    custodian: &'a Custodian,
    file: Option<File>,
}

/// Gives every share to its custodian. All files are made before anything is written to one.
pub(super) fn deliver(shares: &[Share], custodians: &[Custodian], to: &[Addressee]) -> Done {
    let letters: Vec<Letter> = shares
        .iter()
        .zip(custodians)
        .map(|(share, custodian)| letter(share, custodian, to))
        .collect::<Result<_, _>>()?;
    let mut addressed = Vec::new();
    for (letter, custodian) in letters.iter().zip(custodians) {
        addressed.push(address(custodian, letter).inspect_err(|_| forget(&addressed))?);
    }
    for ((share, letter), Addressed { custodian, file }) in shares.iter().zip(&letters).zip(addressed) {
        let which = format!("Share {} of {}", share.label().number, shares.len());
        match (file, letter) {
            (Some(file), Letter::Open(text)) => {
                keep(file, custodian, &Zeroizing::new(format!("{}\n", **text)))?;
            }
            (Some(file), Letter::Sealed(text)) => keep(file, custodian, text)?,
            (None, Letter::Open(text)) => show(text, &which, custodian)?,
            (None, Letter::Sealed(text)) => {
                println!("{which}, which {} alone can decrypt:\n{text}", custodian.name);
            }
        }
    }
    Ok(())
}

fn keep(mut file: File, custodian: &Custodian, text: &str) -> Done {
    // One write: the share is there whole or not at all.
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    sync_folder_of(custodian)
}

/// A file's name is durable only once its folder is synced, and what the shares open is sealed only then.
fn sync_folder_of(custodian: &Custodian) -> Done {
    let folder = custodian.file.as_deref().and_then(Path::parent);
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| format!("{}: {error}", folder.display()).into())
}

fn address<'a>(custodian: &'a Custodian, letter: &Letter) -> Result<Addressed<'a>, Box<dyn Error>> {
    let create = |path: &PathBuf| {
        let made = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path);
        made.map_err(|error| format!("{}: {error}", path.display()))
    };
    let file = custodian.file.as_ref().map(create).transpose()?;
    if file.is_none() && matches!(letter, Letter::Open(_)) {
        terminal()?;
    }
    Ok(Addressed { custodian, file })
}

/// Takes away what was made for nothing: the next attempt finds its files free.
fn forget(addressed: &[Addressed<'_>]) {
    for file in addressed.iter().filter_map(|one| one.file.as_ref().and(one.custodian.file.as_ref())) {
        // One that stays is empty, and named by the next attempt.
        let _ = fs::remove_file(file);
    }
}

/// Shows a share until its custodian can repeat it. Only a terminal will do: a pipe would keep it.
fn show(text: &str, which: &str, custodian: &Custodian) -> Done {
    let mut terminal = terminal()?;
    let name = &custodian.name;
    loop {
        write!(
            terminal,
            "{which}, for {name} alone: let nobody else look on.\n\n{text}\n\n\
             Press Enter when it is written down. "
        )?;
        terminal.flush()?;
        BufReader::new(&terminal).read_line(&mut String::new())?;
        terminal.write_all(CLEAR)?;
        // A share that was written down wrongly is lost for ever.
        let typed =
            Zeroizing::new(rpassword::prompt_password(format!("{which}, once more as written down: "))?);
        if typed.trim().eq_ignore_ascii_case(text) {
            return Ok(());
        }
        writeln!(terminal, "That is not the share. Here it is again.\n")?;
    }
}

fn terminal() -> Result<File, Box<dyn Error>> {
    let opened = OpenOptions::new().read(true).write(true).open(TERMINAL);
    opened.map_err(|_| "no terminal to show shares on: name a file for each custodian (NAME=FILE)".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop loudly")]

    use super::{addressee, check_addressees, custodian};

    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn a_recipient_is_one_custodians_and_the_only_one() {
        let named = |name: &str| addressee(&format!("{name}={RECIPIENT}"));
        for text in ["", "ann", RECIPIENT, "ann=", "Ann=age1", &format!("ann={RECIPIENT}q")] {
            assert!(addressee(text).is_err(), "{text}");
        }
        let custodians = ["ann", "bob"].map(|name| custodian(name).unwrap());
        let check = |names: &[&str]| {
            let to: Vec<_> = names.iter().map(|name| named(name).unwrap()).collect();
            check_addressees(&to, &custodians).map_err(|error| error.to_string())
        };
        assert!(check(&[]).is_ok() && check(&["bob", "ann"]).is_ok());
        assert!(check(&["ann", "cyd"]).unwrap_err().contains("cyd: no custodian"));
        assert!(check(&["ann", "ann"]).unwrap_err().contains("ann: stands there twice"));
    }

    #[test]
    fn a_custodian_is_a_name_and_perhaps_a_file() {
        let file = |text: &str| custodian(text).unwrap().file.map(|file| file.display().to_string());
        assert_eq!(file("ann"), None);
        assert_eq!(file("ann=a=b.share").as_deref(), Some("a=b.share"));
        for text in ["", "=x", "Ann", "ann=", "ann bob"] {
            assert!(custodian(text).is_err(), "{text}");
        }
    }
}
