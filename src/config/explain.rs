//! Turns the messages of the TOML reader and of serde into an operator's words.
//!
//! serde reports a wrong type or an unknown key only as a message.
//! So this module parses the wording. Tests of the messages fail if it changes.

use std::{ops::Range, path::Path};

use super::{
    error::{Error, Fault},
    key_path::{self, KeyPath},
    names::{did_you_mean, listed},
};

pub(super) fn explain(text: &str, file: &Path, cause: &toml::de::Error) -> Error {
    let at = cause.span().unwrap_or(0..0);
    let message = cause.message();
    if !toml::de::DeTable::parse_recoverable(text).1.is_empty() {
        return explain_syntax(text, file, at, message);
    }
    let table = key_path::find(text, &at).is_some_and(|place| place.is_table());
    let unknown = if table { "table" } else { "key" };
    Error::at(text, file, Fault::new(at, in_plain_words(message, unknown)))
}

fn explain_syntax(text: &str, file: &Path, at: Range<usize>, message: &str) -> Error {
    let before = text.get(..at.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let key = text.get(at.clone()).unwrap_or_default();
    let (place, problem) = match message {
        "duplicate key" => (Some(duplicate_place(text, line_start, key)), "given twice"),
        // The reader takes an unquoted address or word for a broken number.
        _ if message.starts_with("invalid float") || message.starts_with("string values must be quoted") => {
            (None, "not a value; text stands in quotes")
        }
        _ => (None, message),
    };
    Error::of_syntax(text, file, place, Fault::new(at, problem))
}

fn duplicate_place(text: &str, line_start: usize, key: &str) -> KeyPath {
    match text[line_start..].lines().next() {
        // A repeated header names itself, not the table before it.
        Some(line) if line.trim_start().starts_with('[') => key_path::open_at_end(line),
        _ => key_path::open_at_end(&text[..line_start]).with_key(key.trim_matches(['"', '\''])),
    }
}

/// `unknown` is what the message calls an unknown name: "table" or "key".
fn in_plain_words(message: &str, unknown: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut names = rest.split('`').skip(1).step_by(2);
        let given = names.next().unwrap_or_default();
        let valid: Vec<&str> = names.collect();
        return match did_you_mean(given, valid.iter().copied()) {
            Some(hint) => format!("unknown {unknown}; {hint}"),
            None => format!("unknown {unknown}; the keys here are {}", listed(valid)),
        };
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!("missing key {rest}");
    }
    if let Some((found, expected)) = message.strip_prefix("invalid type: ").and_then(|m| m.rsplit_once(", expected ")) {
        return format!("expected {}, found {}", kind_expected(expected), kind_found(found));
    }
    message.to_owned()
}

fn kind_expected(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "a table",
        "a boolean" => "`true` or `false`",
        other => other,
    }
}

/// Names only the type: the value may be a secret that the operator put in the wrong place.
fn kind_found(found: &str) -> &'static str {
    match found.split([' ', '`']).next() {
        Some("string") => "a string",
        Some("integer" | "floating") => "a number",
        Some("boolean") => "a boolean",
        Some("sequence") => "a list",
        Some("map") => "a table",
        _ => "another type",
    }
}
