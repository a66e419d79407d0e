//! Compares an answer with the recorded one: status, every header, and the body as far as it was recorded.

use serde_json::Value;

use crate::client::Answer;
use crate::difference::{Difference, Kind};
use crate::names::Names;
use crate::recording::Response;
use crate::{json, playlist};

/// Headers that the recorder left out of every answer, because they are others each time.
///
/// `Sec-WebSocket-Accept` is checked by the client against its key instead.
const LEFT_OUT: [&str; 4] = ["date", "x-response-time-ms", "last-modified", "sec-websocket-accept"];

pub(crate) fn compare(recorded: &Response, seen: &Answer, names: &mut Names) -> Vec<Difference> {
    let mut found = Vec::new();
    if recorded.status != seen.status {
        let detail = format!("recorded {}, seen {}", recorded.status, seen.status);
        found.push(Difference::new(Kind::Value, "status", detail));
    }
    headers(recorded, seen, &mut found);
    body(recorded, seen, names, &mut found);
    found
}

fn headers(recorded: &Response, seen: &Answer, found: &mut Vec<Difference>) {
    for (name, value) in &recorded.headers {
        let at = format!("header {name}");
        match seen.header(name) {
            None => found.push(Difference::new(Kind::Missing, at, value)),
            Some(seen_value) => header(name, value, seen_value, found),
        }
    }
    let was_recorded = |name: &str| recorded.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    for (name, value) in &seen.headers {
        if !was_recorded(name) && !LEFT_OUT.contains(&name.to_ascii_lowercase().as_str()) {
            found.push(Difference::new(Kind::Extra, format!("header {name}"), value));
        }
    }
    let mut once: Vec<&str> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    once.sort_unstable();
    for pair in once.windows(2).filter(|pair| pair[0] == pair[1]) {
        let at = format!("header {}", pair[0]);
        found.push(Difference::new(Kind::Extra, at, "it is there twice"));
    }
}

/// The last number of `Content-Range` is the size of the film, so it is told apart from the rest.
fn header(name: &str, recorded: &str, seen: &str, found: &mut Vec<Difference>) {
    if recorded == seen {
        return;
    }
    let detail = format!("recorded {recorded:?}, seen {seen:?}");
    let parts = (recorded.rsplit_once('/'), seen.rsplit_once('/'));
    let only_total = name.eq_ignore_ascii_case("Content-Range")
        && matches!(parts, (Some((a, _)), Some((b, total)))
            if a == b && total.parse::<u64>().is_ok());
    let at = if only_total { "header Content-Range total".to_owned() } else { format!("header {name}") };
    let dated = name.eq_ignore_ascii_case("Last-Modified") && is_http_date(seen);
    if !dated {
        found.push(Difference::new(Kind::Value, at, detail));
    }
}

/// As `Mon, 23 Nov 2026 15:31:17 GMT`.
fn is_http_date(value: &str) -> bool {
    let marks = |text: &str| -> String {
        text.chars()
            .map(|c| match c {
                '0'..='9' => '0',
                'a'..='z' | 'A'..='Z' => 'a',
                other => other,
            })
            .collect()
    };
    marks(value) == marks("Mon, 23 Nov 2026 15:31:17 GMT")
}

fn body(recorded: &Response, seen: &Answer, names: &mut Names, found: &mut Vec<Difference>) {
    let declared = seen.header("Content-Length").and_then(|length| length.parse().ok());
    if declared.is_some_and(|length: usize| length != seen.received && seen.received != 0) {
        let detail = format!("declared {declared:?}, came {}", seen.received);
        found.push(Difference::new(Kind::Shape, "header Content-Length", detail));
    }
    match &recorded.body {
        Some(text) => written(recorded, text, seen, names, found),
        None => unwritten(recorded.length, seen, found),
    }
}

/// A body whose text was recorded.
fn written(recorded: &Response, text: &str, seen: &Answer, names: &mut Names, found: &mut Vec<Difference>) {
    let kind = recorded.headers.iter().find(|(name, _)| name == "Content-Type").map_or("", |(_, value)| value.as_str());
    if text == "(html)" {
        let page = seen.text().to_ascii_lowercase();
        if !page.contains("<html") {
            found.push(Difference::new(Kind::Shape, "body", "it is no page"));
        }
    } else if kind.starts_with("application/json") {
        let expected: Value = serde_json::from_str(text).expect("recorded bodies of JSON are not cut");
        match serde_json::from_slice(&seen.body) {
            Ok(value) => {
                found.extend(json::compare("body", &expected, &value, names));
                if escapes(text) != escapes(&seen.text()) {
                    let detail = "an ampersand is written as \\u0026 in one of them";
                    found.push(Difference::new(Kind::Shape, "body escapes", detail));
                }
            }
            Err(error) => {
                let detail = format!("{error}: {:?}", seen.text());
                found.push(Difference::new(Kind::Shape, "body", detail));
            }
        }
    } else if kind == "application/vnd.apple.mpegurl" {
        found.extend(playlist::compare(text, &seen.text(), names));
    } else if text != seen.text() {
        let detail = format!("recorded {text:?}, seen {:?}", seen.text());
        found.push(Difference::new(Kind::Value, "body", detail));
    }
}

/// .NET writes `&` within a string of JSON as an escape, and who rewrites bodies has to know.
fn escapes(text: &str) -> bool {
    text.contains("\\u0026")
}

/// A body that is binary: its length alone was recorded.
fn unwritten(recorded: Option<usize>, seen: &Answer, found: &mut Vec<Difference>) {
    let Some(recorded) = recorded else { return };
    let length = seen.body.len();
    if (recorded == 0) != (length == 0) {
        let detail = format!("recorded {recorded} octets, seen {:?}", seen.text());
        found.push(Difference::new(Kind::Shape, "body", detail));
    } else if recorded != length {
        let detail = format!("recorded {recorded} octets, seen {length}");
        found.push(Difference::new(Kind::Length, "body", detail));
    }
}
