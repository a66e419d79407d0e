//! How Jellyfin writes ids and the names of fields.

use serde_json::Value;

/// A field, in PascalCase or camelCase: a set-up server answers in the latter.
pub(in crate::jellyfin) fn field<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    let camel = || name[..1].to_ascii_lowercase() + &name[1..];
    json.get(name).or_else(|| json.get(camel()))
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
