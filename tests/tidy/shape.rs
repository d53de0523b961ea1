//! Functions fit on a screen, lines in a window.

use crate::refuse;
use crate::source::{Token, code, rust_files, tokens};

const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 110;

#[test]
fn no_function_is_longer_than_70_lines() {
    let files = rust_files();
    let long: Vec<String> = files
        .iter()
        .flat_map(|file| {
            long_functions(&file.text).into_iter().map(move |found| format!("{}:{found}", file.path))
        })
        .collect();
    refuse("functions longer than 70 lines of code", &long);
}

#[test]
fn no_line_is_wider_than_110_columns() {
    let files = rust_files();
    let wide: Vec<String> = files
        .iter()
        .flat_map(|file| wide_lines(&file.text).into_iter().map(move |line| format!("{}:{line}", file.path)))
        .collect();
    refuse("lines wider than 110 columns", &wide);
}

/// Functions with too many lines that hold code, from `fn` to the closing brace.
fn long_functions(text: &str) -> Vec<String> {
    let code = code(text);
    let filled: Vec<bool> = code.lines().map(|line| !line.trim().is_empty()).collect();
    let tokens = tokens(text);
    let starts = tokens.iter().enumerate().filter(|(_, token)| token.text == "fn");
    let functions = starts.filter_map(|(at, start)| Some((at, start.line, end_of_body(&tokens[at..])?)));
    let counted = functions.map(|(at, start, end)| {
        let lines = filled[start - 1..end].iter().filter(|filled| **filled).count();
        (start, lines, tokens.get(at + 1).map_or("", |name| name.text.as_str()))
    });
    let long = counted.filter(|(_, lines, _)| *lines > FUNCTION_LINES_MAX);
    long.map(|(start, lines, name)| format!("{start}: {name} has {lines}")).collect()
}

/// The line of the brace that closes a function's body; `None` for a function without one.
fn end_of_body(function: &[Token]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut braces = 0_usize;
    for token in function {
        match token.text.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            ";" if depth == 0 && braces == 0 => return None,
            "{" if depth == 0 || braces > 0 => braces += 1,
            "}" if braces == 1 => return Some(token.line),
            "}" => braces = braces.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn wide_lines(text: &str) -> Vec<usize> {
    let wide = text.lines().enumerate().filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
    wide.map(|(line, _)| line + 1).collect()
}

#[test]
fn a_long_function_is_found_where_it_stands() {
    let body = |lines: usize| "    f();\n".repeat(lines);
    let text = format!("fn short() {{\n{}}}\n\npub fn long(a: [u8; 2]) {{\n{}}}\n", body(68), body(69));
    assert_eq!(long_functions(&text), ["72: long has 71"]);
}

#[test]
fn comments_blank_lines_and_functions_without_a_body_do_not_count() {
    let text =
        format!("trait T {{ fn f(a: [u8; 3]) -> X; }}\nfn g() {{\n{}}}\n", "    // why\n\n".repeat(80));
    assert_eq!(long_functions(&text), [""; 0]);
}

#[test]
fn a_wide_line_is_found_by_its_characters() {
    assert_eq!(wide_lines(&format!("{}\n{}\n{}", "é".repeat(110), "a".repeat(111), "b")), [2]);
}
