//! Finds the table and key that a range of the text belongs to.

use std::{fmt, ops::Range};

use toml::de::{DeTable, DeValue};

/// A table or a key as an operator writes it: `[health] interval`, `[[routes]]`, `[pools.main]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyPath {
    table: Vec<String>,
    /// The table is one of a list of tables.
    listed: bool,
    key: Option<String>,
}

/// The innermost table or key whose name or value spans exactly this range of the text.
pub(super) fn find(text: &str, at: &Range<usize>) -> Option<KeyPath> {
    let (root, _) = DeTable::parse_recoverable(text);
    find_in(root.get_ref(), &KeyPath::default(), at)
}

/// The table that a line at the end of this text would belong to.
pub(super) fn open_at_end(text: &str) -> KeyPath {
    let (root, _) = DeTable::parse_recoverable(text);
    let mut last = (0, KeyPath::default());
    last_header(root.get_ref(), &KeyPath::default(), text, &mut last);
    last.1
}

impl KeyPath {
    pub(super) fn is_table(&self) -> bool {
        self.key.is_none()
    }

    pub(super) fn is_under(&self, table: &str) -> bool {
        self.table.first().map(String::as_str) == Some(table)
            || self.table.is_empty() && self.key.as_deref() == Some(table)
    }

    pub(super) fn with_key(&self, key: &str) -> KeyPath {
        KeyPath { key: Some(key.to_owned()), ..self.clone() }
    }

    fn with_table(&self, name: &str, listed: bool) -> KeyPath {
        let table = self.table.iter().cloned().chain([name.to_owned()]).collect();
        KeyPath { table, listed, key: None }
    }
}

fn find_in(table: &DeTable<'_>, place: &KeyPath, at: &Range<usize>) -> Option<KeyPath> {
    table.iter().find_map(|(name, value)| {
        let named = name.span() == *at;
        let key = place.with_key(name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => {
                let here = place.with_table(name.get_ref(), false);
                find_in(inner, &here, at).or_else(|| (named || value.span() == *at).then_some(here))
            }
            DeValue::Array(items) => items
                .iter()
                .find_map(|item| match item.get_ref() {
                    DeValue::Table(inner) => {
                        let here = place.with_table(name.get_ref(), true);
                        find_in(inner, &here, at).or_else(|| (item.span() == *at).then_some(here))
                    }
                    _ => (item.span() == *at).then(|| key.clone()),
                })
                .or_else(|| (named || value.span() == *at).then_some(key)),
            _ => (named || value.span() == *at).then_some(key),
        }
    })
}

fn last_header(table: &DeTable<'_>, place: &KeyPath, text: &str, last: &mut (usize, KeyPath)) {
    let mut visit = |inner: &DeTable<'_>, here: KeyPath, at: Range<usize>| {
        // Only a header's span opens with `[`. An inline table opens with a brace.
        // A table that a longer header only names has the span of its name.
        if text.as_bytes().get(at.start) == Some(&b'[') && at.start >= last.0 {
            *last = (at.start, here.clone());
        }
        last_header(inner, &here, text, last);
    };
    for (name, value) in table {
        match value.get_ref() {
            DeValue::Table(inner) => visit(inner, place.with_table(name.get_ref(), false), value.span()),
            DeValue::Array(items) => {
                for item in items.iter() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        visit(inner, place.with_table(name.get_ref(), true), item.span());
                    }
                }
            }
            _ => {}
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.table.is_empty() {
            let path = self.table.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(".");
            if self.listed { write!(f, "[[{path}]]")? } else { write!(f, "[{path}]")? }
        }
        match &self.key {
            Some(key) if self.table.is_empty() => f.write_str(&quoted(key)),
            Some(key) => write!(f, " {}", quoted(key)),
            None => Ok(()),
        }
    }
}

fn quoted(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { format!("{name:?}") }
}
