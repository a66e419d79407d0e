//! JSON that was cut in the recording: what stands before the cut, and which objects and lists it left open.

use serde_json::Value;

/// One step from an open object or list to the open one within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// The value up to its last whole member, and the steps to the innermost object or list that the cut left open.
pub(crate) fn complete(text: &str) -> Option<(Value, Vec<Step>)> {
    let (end, open) = last_comma(text);
    let mut whole = text[..end].to_owned();
    whole.extend(open.iter().rev());
    let value: Value = serde_json::from_str(&whole).ok()?;
    let mut steps = Vec::new();
    let mut at = &value;
    for (depth, bracket) in open.iter().enumerate() {
        if depth + 1 == open.len() {
            break;
        }
        // The open one is the last that was written; an object's is found by its text, for keys are kept in another order.
        let step = match bracket {
            ']' => Step::Index(at.as_array()?.len().checked_sub(1)?),
            _ => Step::Key(last_key(text, end, depth)?),
        };
        at = match &step {
            Step::Index(index) => at.get(index)?,
            Step::Key(key) => at.get(key)?,
        };
        steps.push(step);
    }
    Some((value, steps))
}

/// The place of the last comma between members, and the brackets that are open there, as they close.
fn last_comma(text: &str) -> (usize, Vec<char>) {
    let (mut open, mut found) = (Vec::new(), (0, Vec::new()));
    for (at, c) in structure(text) {
        match c {
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' => {
                open.pop();
            }
            ',' => found = (at, open.clone()),
            _ => {}
        }
    }
    found
}

/// The key of the last member that begins at this depth before the end.
fn last_key(text: &str, end: usize, depth: usize) -> Option<String> {
    let (mut level, mut key) = (0, None);
    for (at, c) in structure(&text[..end]) {
        match c {
            '{' | '[' => level += 1,
            '}' | ']' => level -= 1,
            ':' if level == depth + 1 => {
                let before = text[..at].trim_end().strip_suffix('"')?;
                key = before.rsplit('"').next().map(str::to_owned);
            }
            _ => {}
        }
    }
    key
}

/// The characters outside of strings.
fn structure(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut is_string, mut is_escaped) = (false, false);
    text.char_indices().filter(move |(_, c)| {
        let was_string = is_string;
        if is_escaped {
            is_escaped = false;
        } else if *c == '\\' {
            is_escaped = is_string;
        } else if *c == '"' {
            is_string = !is_string;
        }
        !was_string && *c != '"'
    })
}
