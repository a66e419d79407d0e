//! How Jellyfin writes ids and the names of fields.

use serde_json::Value;

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
