//! How Jellyfin writes ids and the names of fields, and how paths and queries are cut.

use memchr::memchr;
use serde_json::Value;

/// The pieces between an ASCII separator, as [`str::split`] gives them. Each request's path and
/// query are cut several times, and on short texts the standard search takes twice as long.
pub(in crate::jellyfin) fn pieces(text: &str, separator: u8) -> Pieces<'_> {
    Pieces { rest: Some(text), separator }
}

#[derive(Clone, Debug)]
pub(in crate::jellyfin) struct Pieces<'a> {
    /// What was not cut yet; `None` at the end.
    rest: Option<&'a str>,
    separator: u8,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        match memchr(self.separator, rest.as_bytes()) {
            Some(at) => {
                self.rest = Some(&rest[at + 1..]);
                Some(&rest[..at])
            }
            None => self.rest.take(),
        }
    }
}

/// A field, in PascalCase or camelCase: a set-up server answers in the latter.
pub(in crate::jellyfin) fn field<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    let camel = || name[..1].to_ascii_lowercase() + &name[1..];
    json.get(name).or_else(|| json.get(camel()))
}

/// An id in the form in which ids are compared: without dashes, in lower case.
pub(in crate::jellyfin) fn plain_id(id: &str) -> String {
    id.chars().filter(|char| *char != '-').map(|char| char.to_ascii_lowercase()).collect()
}

/// A date in a form whose order is that of time. .NET leaves out the zeros at the end of a second's
/// fraction.
pub(in crate::jellyfin) fn sortable(date: &str) -> String {
    let date = date.trim_end_matches('Z');
    let (second, fraction) = date.split_once('.').unwrap_or((date, ""));
    format!("{second}.{fraction:0<7}")
}

/// A GUID, with or without dashes. The server also reads it in braces and between blanks.
pub(in crate::jellyfin) fn is_id(text: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.len() {
        32 => is_hex(text),
        36 => [8, 4, 4, 4, 12].into_iter().eq(text.split('-').map(str::len)) && text.split('-').all(is_hex),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_those_of_split(text in "[a/é]{0,8}") {
            prop_assert_eq!(pieces(&text, b'/').collect::<Vec<_>>(), text.split('/').collect::<Vec<_>>());
        }
    }
}
