//! Compares two JSON values: keys, types, lengths of arrays, and values.

use serde_json::Value;

use crate::cut::Step;
use crate::difference::{Difference, Kind};
use crate::names::Names;
use crate::url;

/// Every difference between `recorded` and `seen`, named from `at` on (`body`, `frame`).
pub(crate) fn compare(at: &str, recorded: &Value, seen: &Value, names: &mut Names) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(&format!("{at} "), recorded, seen, None, names, &mut found);
    found
}

/// The same where the recording was cut: what the `open` objects and lists have more is not known.
pub(crate) fn compare_cut(
    at: &str,
    recorded: &Value,
    open: &[Step],
    seen: &Value,
    names: &mut Names,
) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(&format!("{at} "), recorded, seen, Some(open), names, &mut found);
    found
}

fn walk(
    at: &str,
    recorded: &Value,
    seen: &Value,
    open: Option<&[Step]>,
    names: &mut Names,
    found: &mut Vec<Difference>,
) {
    // The open one within this one, if it is the one that the next step leads to.
    let within =
        |step: &Step| open.and_then(|open| open.split_first()).filter(|(next, _)| *next == step).map(|(_, o)| o);
    match (recorded, seen) {
        (Value::Object(recorded), Value::Object(seen)) => {
            for (key, value) in recorded {
                let at = member(at, key);
                match seen.get(key) {
                    Some(seen) => walk(&at, value, seen, within(&Step::Key(key.clone())), names, found),
                    None => found.push(Difference::new(Kind::Missing, at, brief(value))),
                }
            }
            for (key, value) in seen.iter().filter(|(key, _)| open.is_none() && !recorded.contains_key(*key)) {
                found.push(Difference::new(Kind::Extra, member(at, key), brief(value)));
            }
        }
        (Value::Array(recorded), Value::Array(seen)) => {
            let at = format!("{at}[]");
            if recorded.len() != seen.len() && (open.is_none() || recorded.len() > seen.len()) {
                let detail = format!("recorded {}, seen {}", recorded.len(), seen.len());
                found.push(Difference::new(Kind::Length, at.clone(), detail));
            }
            for (index, (recorded, seen)) in recorded.iter().zip(seen).enumerate() {
                walk(&at, recorded, seen, within(&Step::Index(index)), names, found);
            }
        }
        (Value::String(recorded), Value::String(seen)) if at.ends_with(".TranscodingUrl") => {
            found.extend(url::compare(at, recorded, seen, names));
        }
        (Value::String(recorded), Value::String(seen)) => {
            if let Err(why) = names.agree(recorded, seen) {
                let detail = format!("recorded {recorded:?}, seen {seen:?} ({why})");
                found.push(Difference::new(Kind::Value, at.trim_end(), detail));
            }
        }
        _ if type_of(recorded) != type_of(seen) => {
            let detail = format!("recorded {}, seen {}", brief(recorded), brief(seen));
            found.push(Difference::new(Kind::Shape, at.trim_end(), detail));
        }
        _ if recorded != seen => {
            let detail = format!("recorded {recorded}, seen {seen}");
            found.push(Difference::new(Kind::Value, at.trim_end(), detail));
        }
        _ => {}
    }
}

fn member(at: &str, key: &str) -> String {
    let dot = if at.ends_with(' ') { "" } else { "." };
    format!("{at}{dot}{key}")
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
