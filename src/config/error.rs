//! The error for an unusable configuration. It names one problem and its place.

use std::{fmt, io, ops::Range, path::Path};

use super::key_path::{self, KeyPath};

/// The first problem of a configuration. Never shows a secret's value.
///
/// Its `Display` is
/// `jellypin.toml:12:3: [health] intervall: unknown key; did you mean `interval`?`.
/// The source line up to the place follows, unless it may contain a secret.
/// Line and column count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    message: String,
    /// The source line and the marks below it, each after a newline; may be empty.
    excerpt: String,
}

/// A problem and its byte range in the text, as the checks report it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: Range<usize>,
    pub(super) problem: String,
}

impl Fault {
    pub(super) fn new(at: Range<usize>, problem: impl Into<String>) -> Fault {
        Fault { at, problem: problem.into() }
    }
}

impl Error {
    pub(super) fn unreadable(file: &Path, cause: &io::Error) -> Error {
        Error { message: format!("{}: cannot be read: {cause}", file.display()), excerpt: String::new() }
    }

    /// A problem with a value that the file does not contain.
    pub(super) fn without_place(file: &Path, problem: &str) -> Error {
        Error { message: format!("{}: {problem}", file.display()), excerpt: String::new() }
    }

    /// `valid` holds the bytes before the first one that is not UTF-8.
    pub(super) fn not_utf8(file: &Path, valid: &[u8]) -> Error {
        let valid = String::from_utf8_lossy(valid);
        let fault = Fault::new(valid.len()..valid.len(), "not UTF-8");
        Error::of_syntax(&valid, file, None, fault)
    }

    /// A problem in a text that is valid TOML.
    pub(super) fn at(text: &str, file: &Path, fault: Fault) -> Error {
        let place = key_path::find(text, &fault.at);
        let excerpt = place.as_ref().and_then(|place| excerpt(text, &fault.at, place));
        Error { excerpt: excerpt.unwrap_or_default(), ..Error::of_syntax(text, file, place, fault) }
    }

    /// A problem of the TOML itself. Shows none of the text, since a secret may be anywhere in it.
    pub(super) fn of_syntax(text: &str, file: &Path, place: Option<KeyPath>, fault: Fault) -> Error {
        let file = file.file_name().unwrap_or(file.as_os_str()).display();
        let (line, column) = position(text, fault.at.start);
        let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
        Error { message: format!("{file}:{line}:{column}: {place}{}", fault.problem), excerpt: String::new() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.message, self.excerpt)
    }
}

impl std::error::Error for Error {}

/// Line and column.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The longest excerpt in characters. A longer line would not help the operator.
const LONGEST_LINE: usize = 120;

/// The source line, cut at the end of the place, with marks below the place.
fn excerpt(text: &str, at: &Range<usize>, place: &KeyPath) -> Option<String> {
    let line_start = text.get(..at.start)?.rfind('\n').map_or(0, |newline| newline + 1);
    let before = text.get(line_start..at.start)?;
    // The excerpt ends at the place: after a misspelt `keys` come the keys themselves.
    let marked = text.get(at.clone())?.lines().next()?;
    let bare_key = before.trim().is_empty() && !marked.contains(['"', '\'']);
    let may_hide = ["affinity", "redis"].iter().any(|table| place.is_under(table));
    let secret = may_hide && !bare_key || before.contains('@') || marked.contains('@');
    let (indent, marks) = (before.chars().count(), marked.chars().count());
    if secret || indent + marks > LONGEST_LINE {
        return None;
    }
    // Keeps tabs, so that the marks line up with the place at any tab width.
    let indent: String = before.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
    let (number, _) = position(text, at.start);
    let margin = " ".repeat(number.to_string().len());
    Some(format!("\n {number} | {before}{marked}\n {margin} | {indent}{}", "^".repeat(marks)))
}
