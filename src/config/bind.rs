//! Finds the address in the file that the proxy cannot listen on.

use std::{net::SocketAddr, ops::Range, path::Path};

use toml::de::{DeTable, DeValue};

use super::error::{Error, Fault};
use crate::listen::BindError;

/// The message for an address that cannot be bound, with its place in the file.
pub fn cannot_bind(path: &Path, error: &BindError) -> Error {
    // If the file is gone by now, the message lacks the place but is still complete.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (root, _) = DeTable::parse_recoverable(&text);
    let of_tables = ["listen", "admin"].into_iter().filter_map(|table| root.get_ref().get(table)?.get_ref().as_table());
    match of_tables.flat_map(|table| table.iter()).find_map(|(_, value)| span(value, error.address)) {
        Some(at) => Error::at(&text, path, Fault::new(at, error.to_string())),
        None => Error::without_place(path, &format!("{error} (a default; set [admin] listen)")),
    }
}

fn span(value: &toml::Spanned<DeValue<'_>>, address: SocketAddr) -> Option<Range<usize>> {
    match value.get_ref() {
        DeValue::String(text) => (text.parse() == Ok(address)).then(|| value.span()),
        DeValue::Array(items) => items.iter().find_map(|item| span(item, address)),
        _ => None,
    }
}
