//! Compares two relative URLs: the path, and the fields of the query one by one.

use crate::difference::{Difference, Kind};
use crate::names::Names;

/// Every difference between the URLs, named from `at` on: `{at} path`, `{at} query {field}`.
pub(crate) fn compare(at: &str, recorded: &str, seen: &str, names: &mut Names) -> Vec<Difference> {
    let mut found = Vec::new();
    let (recorded_path, recorded_query) = split(recorded);
    let (seen_path, seen_query) = split(seen);
    if let Err(why) = names.agree(recorded_path, seen_path) {
        let detail = format!("recorded {recorded_path:?}, seen {seen_path:?} ({why})");
        found.push(Difference::new(Kind::Value, format!("{at} path"), detail));
    }
    for field in missing(&recorded_query, &seen_query) {
        found.push(field_difference(Kind::Missing, at, field));
    }
    for field in missing(&seen_query, &recorded_query) {
        found.push(field_difference(Kind::Extra, at, field));
    }
    let common = |of: &[&str], other: &[&str]| -> Vec<String> {
        let shared = |field: &&&str| other.iter().any(|known| key(known) == key(field));
        of.iter().filter(shared).map(|field| (*field).to_owned()).collect()
    };
    let recorded = common(&recorded_query, &seen_query);
    let seen = common(&seen_query, &recorded_query);
    for (recorded, seen) in recorded.iter().zip(&seen) {
        if key(recorded) != key(seen) {
            let detail = format!("recorded {recorded:?}, seen {seen:?} in its place");
            found.push(Difference::new(Kind::Shape, format!("{at} query order"), detail));
        } else if let Err(why) = names.agree(recorded, seen) {
            let detail = format!("recorded {recorded:?}, seen {seen:?} ({why})");
            let at = format!("{at} query {}", key(recorded));
            found.push(Difference::new(Kind::Value, at, detail));
        }
    }
    found
}

fn split(url: &str) -> (&str, Vec<&str>) {
    match url.split_once('?') {
        Some((path, query)) => (path, query.split('&').collect()),
        None => (url, Vec::new()),
    }
}

fn key(field: &str) -> &str {
    field.split('=').next().unwrap_or(field)
}

fn missing<'a>(fields: &'a [&'a str], among: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let absent = |field: &&str| !among.iter().any(|known| key(known) == key(field));
    fields.iter().copied().filter(absent)
}

fn field_difference(kind: Kind, at: &str, field: &str) -> Difference {
    Difference::new(kind, format!("{at} query {}", key(field)), field)
}
