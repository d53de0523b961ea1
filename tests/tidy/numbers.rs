//! No card number stands in the repository but those the networks publish for tests.

use std::collections::BTreeSet;

use crate::refuse;
use crate::source::files;

/// One a line: the digits, then where they are published.
const PUBLISHED: &str = include_str!("published_test_numbers.txt");

/// How cards print their numbers: digits in each group.
const PRINTED: [&[usize]; 5] = [&[4, 4, 4, 4], &[4, 4, 4, 4, 3], &[4, 6, 5], &[4, 6, 4], &[4, 4, 5]];

/// Checksums written by tools: long runs of digits in them are chance.
const CHECKSUMS: [&str; 3] = ["Cargo.lock", "package-lock.json", "requirements.lock"];

#[test]
fn every_card_number_in_the_repository_is_a_published_test_number() {
    let published = published();
    let scanned = files().into_iter().filter(|file| !CHECKSUMS.iter().any(|name| file.path.ends_with(name)));
    let found: Vec<String> = scanned
        .flat_map(|file| {
            card_numbers(&file.text).into_iter().map(move |(line, number)| (file.path.clone(), line, number))
        })
        .filter(|(_, _, number)| !published.contains(number.as_str()))
        .map(|(path, line, number)| {
            format!("{path}:{line}: {} digits ending in {}", number.len(), &number[9..])
        })
        .collect();
    refuse("numbers that pass Luhn and are no published test numbers", &found);
}

#[test]
fn the_list_of_published_numbers_names_its_sources() {
    for line in PUBLISHED.lines().filter(|line| !line.starts_with('#')) {
        let (number, source) = line.split_once("  ").expect("digits, two spaces, source");
        assert!(luhn_holds(number), "{number} would never be found");
        assert!(source.trim().len() > 5, "{number} has no source");
    }
}

fn published() -> BTreeSet<&'static str> {
    let lines = PUBLISHED.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split("  ").next()).collect()
}

/// Luhn-valid numbers of 13 to 19 digits, unbroken or as cards print them, with their line.
fn card_numbers(text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().enumerate();
    lines.flat_map(|(at, line)| numbers_in(line).into_iter().map(move |number| (at + 1, number))).collect()
}

fn numbers_in(line: &str) -> Vec<String> {
    let unbroken = line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !checksum(word));
    let unbroken = unbroken.flat_map(|word| word.split(|c: char| !c.is_ascii_digit())).map(str::to_owned);
    let printed = [' ', '-'].into_iter().flat_map(|separator| printed_in(line, separator));
    unbroken.chain(printed).filter(|number| card_number(number)).collect()
}

fn printed_in(line: &str, separator: char) -> Vec<String> {
    let runs = line.split(|c: char| c != separator && !c.is_ascii_digit());
    runs.flat_map(|run| printed_in_run(&run.split(separator).collect::<Vec<_>>())).collect()
}

fn printed_in_run(groups: &[&str]) -> Vec<String> {
    let windows =
        PRINTED.iter().flat_map(|widths| groups.windows(widths.len()).map(move |window| (widths, window)));
    let fitting =
        windows.filter(|(widths, window)| window.iter().map(|group| group.len()).eq(widths.iter().copied()));
    fitting.map(|(_, window)| window.concat()).collect()
}

/// Hexadecimal of at least 128 bits.
fn checksum(word: &str) -> bool {
    word.len() >= 32
        && word.bytes().all(|byte| byte.is_ascii_hexdigit())
        && word.bytes().any(|b| b.is_ascii_alphabetic())
}

fn card_number(digits: &str) -> bool {
    (13..=19).contains(&digits.len()) && digits.bytes().any(|digit| digit != b'0') && luhn_holds(digits)
}

/// Written apart from the vault's own, so that one does not hide a fault of the other.
fn luhn_holds(digits: &str) -> bool {
    const DOUBLED: [u32; 10] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
    let value = |digit: u8| (digit as char).to_digit(10);
    let sum: Option<u32> = digits.bytes().rev().enumerate().try_fold(0, |sum, (place, digit)| {
        let digit = value(digit)?;
        Some(sum + if place % 2 == 0 { digit } else { DOUBLED[digit as usize] })
    });
    sum.is_some_and(|sum| sum % 10 == 0)
}

/// A number with its check digit, made here so that none stands in this file.
#[cfg(test)]
fn made(payload: &str) -> String {
    (0..10).map(|check| format!("{payload}{check}")).find(|number| luhn_holds(number)).unwrap()
}

#[test]
fn a_card_number_is_found_however_it_is_written() {
    for length in 13..=19 {
        let number = made(&concat!("492971543", "8206173548")[..length - 1]);
        for text in [
            number.clone(),
            format!("let pan = \"{number}\";"),
            format!("%B{number}^"),
            format!("{number}=2512"),
        ] {
            assert_eq!(card_numbers(&format!("\n{text}")), [(2, number.clone())], "{length}");
        }
    }
    let number = made("492971543820617");
    for separator in [" ", "-"] {
        let printed = [&number[..4], &number[4..8], &number[8..12], &number[12..]].join(separator);
        assert_eq!(card_numbers(&format!("pan: {printed}.")), [(1, number.clone())]);
    }
    let amex = made("37828224631004");
    assert_eq!(card_numbers(&format!("{} {} {}", &amex[..4], &amex[4..10], &amex[10..])), [(1, amex)]);
}

#[test]
fn other_numbers_pass() {
    let wrong = made("492971543820617").replace("4929", "4928");
    let checksum = format!("{}abcdef0123456789", made("492971543820617"));
    for text in
        [wrong.as_str(), &checksum, "0000000000000000", "0000 0000 0000 0000", "12 34 56 78 90 12 34 56"]
    {
        assert_eq!(card_numbers(text), [], "{text}");
    }
}
