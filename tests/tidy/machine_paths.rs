//! The repository is the same on every machine: no path of one stands in it.

use crate::refuse;
use crate::source::files;

/// Where people and their tools keep working copies. In two pieces, so that this file does not hold them.
const PLACES: [&str; 7] = [
    concat!("/wo", "rk/"),
    concat!("/wo", "rkspace/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("\\Us", "ers\\"),
    concat!("/tm", "p/bash"),
];

#[test]
fn no_file_names_a_place_on_one_machine() {
    let found: Vec<String> = files()
        .into_iter()
        .flat_map(|file| lines(&file.text).into_iter().map(move |line| format!("{}:{line}", file.path)))
        .collect();
    refuse("paths of one machine", &found);
}

fn lines(text: &str) -> Vec<usize> {
    let named = |line: &str| PLACES.iter().any(|place| begins_path(line, place));
    text.lines().enumerate().filter(|(_, line)| named(line)).map(|(at, _)| at + 1).collect()
}

/// Whether a place stands in a line as the beginning of a path, not inside another.
fn begins_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '~' | '*'))
    })
}

#[test]
fn a_machine_s_path_is_found_and_a_part_of_another_is_not() {
    for place in PLACES {
        assert_eq!(lines(&format!("ok\nsee {place}x")), [2]);
        assert_eq!(lines(&format!("path = \"{place}x\"")), [1]);
        assert_eq!(lines(&format!("https://example.com{place}x and frame{place}")), [0; 0]);
    }
}
