//! What an operator reads when the configuration cannot be used: one place, one problem.

use std::{fmt, io, ops::Range, path::Path};

use super::key_path::{self, KeyPath};

/// The first problem of a configuration. Never shows a secret's value.
///
/// Its `Display` is `jellypin.toml:12:3: [health] intervall: unknown key; did you mean `interval`?`, and below that the
/// source line up to the place, unless a secret may stand there. Line and column count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    message: String,
    /// The source line and the marks below it, each after a newline; or nothing.
    excerpt: String,
}

/// A problem that is known by its bytes in the text; what the checks raise.
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

    /// A problem of something that does not stand in the file.
    pub(super) fn without_place(file: &Path, problem: &str) -> Error {
        Error { message: format!("{}: {problem}", file.display()), excerpt: String::new() }
    }

    /// `valid` is what stands before the first byte that is not UTF-8.
    pub(super) fn not_utf8(file: &Path, valid: &[u8]) -> Error {
        let valid = String::from_utf8_lossy(valid);
        let fault = Fault::new(valid.len()..valid.len(), "not UTF-8");
        Error::of_syntax(&valid, file, None, fault)
    }

    /// A problem of a text that is valid TOML.
    pub(super) fn at(text: &str, file: &Path, fault: Fault) -> Error {
        let place = key_path::find(text, &fault.at);
        let excerpt = place.as_ref().and_then(|place| excerpt(text, &fault.at, place));
        Error { excerpt: excerpt.unwrap_or_default(), ..Error::of_syntax(text, file, place, fault) }
    }

    /// A problem of the TOML itself. Shows nothing of the text: it cannot be known where a secret stands in it.
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

/// The longest line in characters that is shown; a longer one explains nothing.
const LONGEST_LINE: usize = 120;

/// The source line, cut at the end of the place, and marks under the place.
fn excerpt(text: &str, at: &Range<usize>, place: &KeyPath) -> Option<String> {
    let line_start = text.get(..at.start)?.rfind('\n').map_or(0, |newline| newline + 1);
    let before = text.get(line_start..at.start)?;
    // Nothing behind the place is shown: behind a misspelt `keys` stand the keys.
    let marked = text.get(at.clone())?.lines().next()?;
    let bare_key = before.trim().is_empty() && !marked.contains(['"', '\'']);
    let may_hide = ["affinity", "redis"].iter().any(|table| place.is_under(table));
    let secret = may_hide && !bare_key || before.contains('@') || marked.contains('@');
    let (indent, marks) = (before.chars().count(), marked.chars().count());
    if secret || indent + marks > LONGEST_LINE {
        return None;
    }
    // A tab stays a tab, so that the marks stand under the place whatever its width is.
    let indent: String = before.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
    let (number, _) = position(text, at.start);
    let margin = " ".repeat(number.to_string().len());
    Some(format!("\n {number} | {before}{marked}\n {margin} | {indent}{}", "^".repeat(marks)))
}
