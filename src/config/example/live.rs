//! Each key of the complete example gets another value: it is passed on to a running proxy, or it is
//! listed as one that waits.

use std::path::Path;

use toml::{Table, Value};

use super::{OldKey, with_files};
use crate::{
    app,
    config::{
        changes::{collect, is_secret, why_it_waits},
        parse,
    },
};

/// Keys whose other values need more than one key, or a file, to change.
const NOT_ALONE: [&str; 7] = [
    "affinity.cookie.partitioned",
    "leader.key",
    "pools.main.database",
    "pools.main.kind",
    "pools.main.tls.ca",
    "pools.photos.kind",
    "tls.redirect_port",
];

/// Words that are the value of some key.
const WORDS: [&str; 20] = [
    "on",
    "off",
    "auto",
    "always",
    "local",
    "follow",
    "elect",
    "probe",
    "json",
    "text",
    "debug",
    "clean",
    "now",
    "idle",
    "lax",
    "none",
    "https",
    "other",
    "1h",
    "[::1]:7359",
];

/// Values that may be another one than this.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Boolean(is_on) => vec![Value::Boolean(!is_on)],
        Value::Integer(number) => [number + 1, number - 1].map(Value::Integer).to_vec(),
        Value::String(text) => {
            let digits = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
            let next = |step: i64| {
                let number = text[..digits].parse::<i64>().ok()?;
                Some(format!("{}{}", number + step, &text[digits..]))
            };
            let cut = &text[..text.len().saturating_sub(1)];
            let words = WORDS.map(str::to_owned).into_iter();
            let all = [next(1), next(-1), Some(format!("{text}1")), Some(format!("{cut}1")), Some(cut.to_owned())];
            all.into_iter().flatten().chain(words).map(Value::String).collect()
        }
        Value::Array(items) => {
            let first = items.first().map(others).unwrap_or_default();
            let single = |item: Value| Value::Array(vec![item]);
            first.into_iter().map(single).chain([Value::Array(Vec::new())]).collect()
        }
        Value::Table(table) => {
            let Some((name, value)) = table.iter().next() else { return Vec::new() };
            let with = |other| Value::Table(replaced(table, &[name], &other));
            others(value).into_iter().map(with).collect()
        }
        _ => Vec::new(),
    }
}

fn replaced(table: &Table, path: &[&str], value: &Value) -> Table {
    let mut table = table.clone();
    match path {
        [name] => drop(table.insert((*name).to_owned(), value.clone())),
        [name, rest @ ..] => {
            let inner = table.get(*name).and_then(Value::as_table).cloned().unwrap_or_default();
            table.insert((*name).to_owned(), Value::Table(replaced(&inner, rest, value)));
        }
        [] => {}
    }
    table
}

#[test]
fn a_key_that_waits_keeps_its_value_and_every_other_is_passed_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = with_files(folder.path());
    let table: Table = text.parse().expect("the example is TOML");
    let of = |table: &Table| parse(&table.to_string(), Path::new("jellypin.toml"), &OldKey);
    let before = of(&table).unwrap_or_else(|error| panic!("{error}"));
    let (mut looked_at, mut unlike) = (0, Vec::new());
    collect("", &table, &mut |key, value| {
        if is_secret(key) || NOT_ALONE.contains(&key) {
            return;
        }
        let path: Vec<&str> = key.split('.').collect();
        let different = others(value).iter().find_map(|other| {
            let after = of(&replaced(&table, &path, other)).ok()?;
            (format!("{after:?}") != format!("{before:?}")).then_some(after)
        });
        let Some(after) = different else { return unlike.push(format!("{key}: has no other value")) };
        let waits = why_it_waits(key).is_some();
        let expected = if waits { format!("{before:?}") } else { format!("{after:?}") };
        if format!("{:?}", app::applicable(&before, after)) != expected {
            unlike.push(format!("{key}: waits = {waits}"));
        }
        looked_at += 1;
    });
    assert!(unlike.is_empty(), "{looked_at} keys, and {unlike:#?}");
    assert!(looked_at > 80, "{looked_at}");
}
