//! Compares an answer with the recorded one: status, every header, and the body as far as it was recorded.

use serde_json::Value;

use crate::client::Answer;
use crate::difference::{Difference, Kind};
use crate::names::Names;
use crate::recording::Response;
use crate::{cut, json, playlist};

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
    headers(recorded, seen, names, &mut found);
    body(recorded, seen, names, &mut found);
    found
}

fn headers(recorded: &Response, seen: &Answer, names: &mut Names, found: &mut Vec<Difference>) {
    for (name, value) in &recorded.headers {
        let at = format!("header {name}");
        match seen.header(name) {
            None => found.push(Difference::new(Kind::Missing, at, value)),
            Some(seen_value) => header(name, value, seen_value, part(recorded), names, found),
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

/// What kind of body the answer bears: the length of a range or of a refusal is exact, that of a whole file is not.
fn part(recorded: &Response) -> &'static str {
    match recorded.status {
        200 if content_type(recorded).ends_with("mpegurl") => " of a playlist",
        200 => " of a file",
        206 => " of a range",
        _ => " of a refusal",
    }
}

fn content_type(recorded: &Response) -> &str {
    let mut headers = recorded.headers.iter();
    let found = headers.find(|(name, _)| name == "Content-Type");
    found.map_or("", |(_, value)| value.as_str())
}

/// The last number of `Content-Range` is the size of the file, so it is told apart from the rest.
fn header(name: &str, recorded: &str, seen: &str, part: &str, names: &mut Names, found: &mut Vec<Difference>) {
    let dated = name == "Last-Modified" && is_http_date(seen);
    let Err(why) = names.agree(recorded, seen) else { return };
    if dated {
        return;
    }
    let range_and_total =
        |value: &str| value.rsplit_once('/').map(|(range, total)| (range.to_owned(), total.to_owned()));
    let at = match (name, range_and_total(recorded), range_and_total(seen)) {
        ("Content-Range", Some((recorded, _)), Some((seen, total)))
            if recorded == seen && total.parse::<u64>().is_ok() =>
        {
            "header Content-Range total".to_owned()
        }
        ("Content-Length", ..) => format!("header Content-Length{part}"),
        _ => format!("header {name}"),
    };
    let detail = format!("recorded {recorded:?}, seen {seen:?} ({why})");
    found.push(Difference::new(Kind::Value, at, detail));
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
        None => unwritten(recorded, seen, found),
    }
}

/// A body whose text was recorded.
fn written(recorded: &Response, text: &str, seen: &Answer, names: &mut Names, found: &mut Vec<Difference>) {
    let kind = content_type(recorded);
    if text == "(html)" {
        let page = seen.text().to_ascii_lowercase();
        if !page.contains("<html") {
            found.push(Difference::new(Kind::Shape, "body", "it is no page"));
        }
    } else if kind.starts_with("application/json") {
        match serde_json::from_slice(&seen.body) {
            Ok(value) if text.ends_with('…') => {
                let (expected, open) = cut::complete(text).expect("JSON up to the cut");
                found.extend(json::compare_cut("body", &expected, &open, &value, names));
            }
            Ok(value) => {
                let expected: Value = serde_json::from_str(text).expect("JSON");
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
fn unwritten(recorded: &Response, seen: &Answer, found: &mut Vec<Difference>) {
    let (Some(expected), length) = (recorded.length, seen.body.len()) else { return };
    if (expected == 0) != (length == 0) {
        let detail = format!("recorded {expected} octets, seen {:?}", seen.text());
        found.push(Difference::new(Kind::Shape, "body", detail));
    } else if expected != length {
        let detail = format!("recorded {expected} octets, seen {length}");
        found.push(Difference::new(Kind::Length, format!("body{}", part(recorded)), detail));
    }
}
