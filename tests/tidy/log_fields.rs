//! What the daemon logs: fields of known names, and nothing formatted into a text.

use crate::refuse;
use crate::source::{Token, rust_files, tokens};

/// What an event of the daemon may tell. None of these ever holds a value, a token or part of a request.
const FIELDS: [&str; 10] =
    ["address", "count", "error", "event", "kind", "origin", "reason", "rpc", "sealed", "whole"];
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

#[test]
fn events_have_fields_of_the_list_and_no_others() {
    let product = rust_files().into_iter().filter(|file| {
        let path = &file.path;
        path.contains("/src/") && !path.starts_with("tests/") && !path.ends_with("tests.rs")
    });
    let found: Vec<String> = product
        .flat_map(|file| {
            strange(&tokens(&file.text)).into_iter().map(move |found| format!("{}:{found}", file.path))
        })
        .collect();
    refuse("events with fields that are not on the list of tests/tidy/log_fields.rs", &found);
}

/// Every part of an event that is neither a text nor a field of the list, and every other way to log.
fn strange(tokens: &[Token]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let text = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text.as_str());
        if token.text == "log" && text(1) == "::" && text(3) == "!" {
            found.push(format!("{}: a line of the crate log", token.line));
        }
        let level = LEVELS.contains(&token.text.as_str()) && text(1) == "!";
        if !level {
            continue;
        }
        if at < 2 || (tokens[at - 2].text.as_str(), tokens[at - 1].text.as_str()) != ("tracing", "::") {
            found.push(format!("{}: {}! without tracing::", token.line, token.text));
        }
        let parts = parts(&tokens[at + 3..]);
        found.extend(parts.iter().filter(|part| !known(part)).map(|part| format!("{}: {part}", token.line)));
    }
    found
}

/// What stands between the commas of a call, from behind its opening parenthesis; texts are blank.
fn parts(tokens: &[Token]) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for token in tokens {
        match token.text.as_str() {
            ")" | "]" | "}" if depth == 0 => break,
            ")" | "]" | "}" => depth -= 1,
            "(" | "[" | "{" => depth += 1,
            "," if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push_str(&token.text);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn known(part: &str) -> bool {
    FIELDS.iter().any(|field| {
        part.trim_start_matches(['%', '?']) == *field
            || part.strip_prefix(field).is_some_and(|rest| rest.starts_with('=') && !rest.starts_with("=="))
    })
}

#[test]
fn a_field_that_nobody_listed_is_found() {
    let found = |source: &str| strange(&tokens(source));
    let good = r#"tracing::info!(event = "serving", address = %server.addr(1, 2), sealed, ?kind, "a, b");"#;
    assert!(found(good).is_empty(), "{:?}", found(good));
    let bad = [
        r#"tracing::info!(event = "x", request = ?message);"#,
        r#"tracing::debug!("value {}", value);"#,
        r#"tracing::trace!(target: "vaultd", event = "x");"#,
        r#"tracing::warn!(error == message);"#,
        r#"info!(event = "x");"#,
        r#"log::info!("x");"#,
    ];
    for source in bad {
        assert!(!found(source).is_empty(), "{source}");
    }
}
