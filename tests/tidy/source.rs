//! The files of the repository, and Rust source without comments and strings.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A text file of the repository.
pub(crate) struct File {
    /// From the repository's root, with `/` between folders.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Written by a generator and compared with its output by a test of its own.
    pub(crate) fn is_generated(&self) -> bool {
        self.path.starts_with("proto/src/gen/")
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file that is in the repository or would be added to it.
pub(crate) fn files() -> Vec<File> {
    let files: Vec<File> = listed().unwrap_or_else(walked).into_iter().filter_map(read).collect();
    assert!(
        files.iter().any(|file| file.path == "Cargo.toml"),
        "the repository's files are not where expected"
    );
    files
}

pub(crate) fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.is_rust() && !file.is_generated()).collect()
}

fn read(path: String) -> Option<File> {
    let text = fs::read_to_string(root().join(&path)).ok()?;
    Some(File { path, text })
}

/// What git would keep; `None` in a copy without its history.
fn listed() -> Option<Vec<String>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listing = Command::new("git").args(arguments).current_dir(root()).output().ok()?;
    let names = String::from_utf8(listing.stdout).ok().filter(|_| listing.status.success())?;
    Some(names.split_terminator('\0').map(str::to_owned).collect())
}

fn walked() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name();
            let hidden =
                name.to_string_lossy().starts_with('.') || name == "target" || name == "node_modules";
            match entry.file_type().unwrap().is_dir() {
                true if !hidden => folders.push(entry.path()),
                true => {}
                false => {
                    found.push(entry.path().strip_prefix(root()).unwrap().to_string_lossy().into_owned());
                }
            }
        }
    }
    found
}

/// A word or sign of Rust source and its line, counted from 1.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// The words, `::` and single signs of Rust source, without comments, strings and characters.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (line, text) in code(source).lines().enumerate() {
        let line = line + 1;
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let end = if word > 0 {
                word
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (token, after) = rest.split_at(end);
            tokens.push(Token { text: token.to_owned(), line });
            rest = after.trim_start();
        }
    }
    tokens
}

/// Rust source with every comment, string and character blanked out; lines and columns stay.
pub(crate) fn code(source: &str) -> String {
    let characters: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < characters.len() {
        let end = at + blank_length(&characters, at);
        if end > at {
            code.extend(characters[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        } else {
            code.push(characters[at]);
        }
        at = end.max(at + 1);
    }
    code
}

/// Characters of the comment, string or character that begins here; 0 where code stands.
fn blank_length(source: &[char], at: usize) -> usize {
    let rest = &source[at..];
    let in_word = at > 0 && (source[at - 1].is_alphanumeric() || source[at - 1] == '_');
    match rest {
        ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => quoted(rest, 1, '"'),
        ['\'', '\\', ..] => quoted(rest, 1, '\''),
        ['\'', character, '\'', ..] if *character != '\'' => 3,
        ['r', '"' | '#', ..] if !in_word => raw(rest, 1),
        ['b' | 'c', 'r', '"' | '#', ..] if !in_word => raw(rest, 2),
        _ => 0,
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match rest.get(at..).unwrap_or_default() {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            [] => return rest.len(),
            _ => at += 1,
        }
    }
}

fn quoted(rest: &[char], start: usize, quote: char) -> usize {
    let mut at = start;
    while let Some(character) = rest.get(at) {
        match character {
            '\\' => at += 2,
            end if *end == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A raw string whose hashes begin at `start`; 0 for a raw identifier.
fn raw(rest: &[char], start: usize) -> usize {
    let hashes = rest[start..].iter().take_while(|c| **c == '#').count();
    if rest.get(start + hashes) != Some(&'"') {
        return 0;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = start + hashes + 1;
    let end = rest[body..].windows(closing.len()).position(|window| window == closing);
    end.map_or(rest.len(), |end| body + end + closing.len())
}

#[test]
fn comments_strings_and_characters_are_blanked_and_code_is_not() {
    let source = r####"
        a // unsafe "x
        /* b /* unsafe */ c */ d
        "e \" unsafe" f
        r#"g " unsafe"# h
        br"i\" j 'k' '\'' '"' l
        'm: n<'o> r#p b"q" '\u{61}' s
    "####;
    let words: Vec<String> = tokens(source).into_iter().map(|token| token.text).collect();
    assert_eq!(words.join(" "), "a d f h j l ' m : n < ' o > r # p b s");
    assert_eq!(code(source).lines().count(), source.lines().count());
}

#[test]
fn tokens_know_their_line() {
    let lines: Vec<(String, usize)> =
        tokens("use a::b;\n\nc").into_iter().map(|t| (t.text, t.line)).collect();
    let expected = [("use", 1), ("a", 1), ("::", 1), ("b", 1), (";", 1), ("c", 3)];
    assert_eq!(lines, expected.map(|(text, line)| (text.to_owned(), line)));
}
