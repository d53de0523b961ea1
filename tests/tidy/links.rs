//! Links between the documents lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::refuse;
use crate::source::{files, root};

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let documents = files().into_iter().filter(|file| file.path.ends_with(".md"));
    let found: Vec<String> = documents.flat_map(|file| broken(&root(), &file.path, &file.text)).collect();
    refuse("links that lead nowhere", &found);
}

/// Links of a document, given by its path below a folder, that lead to no file or to no heading of one.
fn broken(folder: &Path, path: &str, text: &str) -> Vec<String> {
    let here = folder.join(path);
    let dead = |target: &String| {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() { here.clone() } else { resolved(&here, file) };
        !file.exists() || !heading.is_empty() && !has_heading(&file, heading)
    };
    let links = links(text).into_iter().filter(|target| !elsewhere(target));
    links.filter(dead).map(|target| format!("{path}: {target}")).collect()
}

fn resolved(here: &Path, target: &str) -> PathBuf {
    here.parent().unwrap().join(target)
}

fn elsewhere(target: &str) -> bool {
    ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

/// Targets of `[text](target)` and `[name]: target`, outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let after =
            |pair: &str| line.match_indices(pair).map(|(at, _)| line[at + pair.len()..].to_owned()).collect();
        let inline: Vec<String> = after("](");
        found.extend(inline.iter().filter_map(|rest| rest.split([')', ' ']).next()).map(str::to_owned));
        if line.starts_with('[') && !line.starts_with("[^") {
            let named: Vec<String> = after("]: ");
            found.extend(named.first().and_then(|rest| rest.split_whitespace().next()).map(str::to_owned));
        }
    }
    found
}

/// Lines outside code blocks, with code spans blanked.
fn prose(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut prose = Vec::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !fenced && !fence {
            prose.push(line.split('`').step_by(2).collect::<Vec<_>>().join("`"));
        }
    }
    prose
}

fn has_heading(file: &Path, anchor: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    let outside = text.split("```").step_by(2).collect::<String>();
    let mut headings = outside.lines().filter(|line| line.starts_with('#'));
    headings.any(|heading| anchor_of(heading.trim_start_matches('#')) == anchor)
}

/// The anchor that GitHub and most renderers give a heading.
fn anchor_of(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn a_dead_link_is_found_and_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("docs")).unwrap();
    fs::write(folder.path().join("docs/a.md"), "# Two words, `code` & more\n").unwrap();
    let text = "[x](docs/a.md) [y](docs/b.md) `[z](docs/c.md)` [w](https://example.com/q)\n\
        [h](docs/a.md#two-words-code--more) [i](docs/a.md#none) [j](#here)\n\
        # Here\n```\n[k](docs/d.md)\n```\n[l]: docs/e.md\n[m]: docs/a.md\n";
    fs::write(folder.path().join("README.md"), text).unwrap();
    let expected = ["README.md: docs/b.md", "README.md: docs/a.md#none", "README.md: docs/e.md"];
    assert_eq!(broken(folder.path(), "README.md", text), expected);
}
