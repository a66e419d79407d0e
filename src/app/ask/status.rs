//! How things stand, as text for a terminal. Pure.

use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

/// How many of the latest events are shown.
const EVENTS: usize = 8;

/// The text for an answer of `GET /overview`. `None` if that is of another form.
pub(super) fn text(whole: &Value, now: SystemTime) -> Option<String> {
    let overview = &whole["overview"];
    let pods = overview["pods"].as_array()?;
    let mut text = String::new();
    for sentence in overview["verdict"]["sentences"].as_array()? {
        let since = sentence["since_ms"].as_u64().map(|at| format!(" for {}", since(at, now))).unwrap_or_default();
        let more = sentence["more"].as_str().filter(|more| !more.is_empty());
        let more = more.map(|more| format!("; {more}")).unwrap_or_default();
        let _ = writeln!(text, "{}{since}{more}.", said(&sentence["text"]));
    }
    let (version, held) = (said(&overview["version"]), said(&overview["held"]));
    let _ = writeln!(text, "\njellypin {version}, {held} held requests{}", shared(overview));
    let clients = list(&whole["clients"]["rows"]);
    let _ = writeln!(text, "\n{}", table(pods.iter().map(|pod| pod_row(pod, clients, now)).collect()));
    let events = list(&whole["events"]);
    for event in &events[events.len().saturating_sub(EVENTS)..] {
        let fields: Vec<_> =
            list(&event["fields"]).iter().map(|pair| format!(" {}={}", said(&pair[0]), said(&pair[1]))).collect();
        let at = UNIX_EPOCH + Duration::from_millis(event["at_ms"].as_u64().unwrap_or_default());
        let at = humantime::format_rfc3339_seconds(at);
        let (level, message) = (said(&event["level"]).to_lowercase(), said(&event["message"]));
        let _ = writeln!(text, "{at} {level} {message}{}", fields.concat());
    }
    Some(text)
}

/// What jellypin shares with other replicas.
fn shared(overview: &Value) -> String {
    let redis = match overview["redis"].as_bool() {
        None => "",
        Some(true) => ", Redis answers",
        Some(false) => ", Redis does not answer",
    };
    let name = |replica: &Value| {
        let parts: Vec<_> = list(&replica["disagrees"]).iter().map(said).collect();
        let name = said(&replica["name"]);
        if parts.is_empty() { name } else { format!("{name} (configured otherwise: {})", parts.join(", ")) }
    };
    let others = list(&overview["replicas"]).iter().filter(|replica| replica["is_this_one"] != true);
    let others: Vec<String> = others.map(name).collect();
    let others = if others.is_empty() { String::new() } else { format!(", other replicas: {}", others.join(", ")) };
    format!("{redis}{others}")
}

const HEAD: [&str; 9] = ["POOL", "POD", "STATE", "SINCE", "CLIENTS", "PLAYING", "SOCKETS", "REQUESTS", "VERSION"];

fn pod_row(pod: &Value, clients: &[Value], now: SystemTime) -> [String; HEAD.len()] {
    let is_here = |client: &&Value| client["pool"] == pod["pool"] && client["pod"] == pod["name"];
    let playing = clients.iter().filter(is_here).filter(|client| client["is_playing"] == true).count();
    let condition = pod["condition"].as_str().filter(|condition| *condition != "well");
    let condition = condition.map(|condition| format!(", {}", condition.replace('_', " "))).unwrap_or_default();
    let leads = if pod["leads"] == true { ", leads" } else { "" };
    // A pod that is not Jellyfin's has neither clients nor a version.
    let of_jellyfin = |text: String| if pod["kind"] == "http" { "-".to_owned() } else { text };
    [
        said(&pod["pool"]),
        said(&pod["name"]),
        format!("{}{leads}{condition}", said(&pod["state"])),
        since(pod["since_ms"].as_u64().unwrap_or_default(), now),
        of_jellyfin(said(&pod["sessions"])),
        of_jellyfin(playing.to_string()),
        said(&pod["sockets"]),
        said(&pod["requests"]),
        of_jellyfin(said(&pod["version"])),
    ]
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A value in words; `?` for what is not known. A client's words must not control the terminal.
fn said(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect(),
        Value::Null => "?".to_owned(),
        other => other.to_string(),
    }
}

/// Columns as wide as their widest cell.
fn table(rows: Vec<[String; HEAD.len()]>) -> String {
    let head = HEAD.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<usize> =
        (0..HEAD.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// How long ago, to the second, or to the minute after an hour.
fn since(at_ms: u64, now: SystemTime) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at_ms);
    let seconds = now.duration_since(at).unwrap_or_default().as_secs();
    let rounded = if seconds < 3600 { seconds } else { seconds - seconds % 60 };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_wrong_and_shows_pods_and_events() {
        let page = r#"{
            "overview": {
                "verdict": {"level": "look", "sentences": [
                    {"level": "look", "text": "Pod b is down", "since_ms": 1000000, "more": "3 sessions moved"},
                    {"level": "look", "text": "Redis does not answer"}
                ]},
                "version": "0.1.0", "held": 2, "sessions": 4, "redis": false,
                "replicas": [
                    {"name": "this", "is_this_one": true, "disagrees": [], "is_readable": true},
                    {"name": "other", "is_this_one": false, "disagrees": ["pools"], "is_readable": true}
                ],
                "has_key": true, "can_move": false,
                "pods": [
                    {"pool": "main", "name": "a", "address": "10.0.0.1:8096", "state": "ready",
                     "condition": "no_database", "since_ms": 1000,
                     "accepts": true, "leads": true, "is_removed": false, "epoch": 1, "requests": 5, "sockets": 4,
                     "sessions": 3, "version": "12.0.0", "server_name": null},
                    {"pool": "main", "name": "b", "address": "10.0.0.2:8096", "state": "down", "since_ms": 1000000,
                     "accepts": false, "leads": false, "is_removed": false, "epoch": 1, "requests": 0, "sockets": 0,
                     "sessions": 0, "version": null, "server_name": null},
                    {"pool": "photos", "kind": "http", "name": "p", "state": "ready", "since_ms": 1000, "requests": 2,
                     "sockets": 1, "sessions": 0, "version": null}
                ]
            },
            "clients": {"rows": [
                {"pool": "main", "pod": "a", "is_playing": true},
                {"pool": "main", "pod": "a", "is_playing": false}
            ], "hidden": 0},
            "history": [],
            "events": [{"number": 1, "at_ms": 1000000, "level": "WARN", "message": "a pod is down", "fields": [["pod", "b\u001b]0;x"]]}]
        }"#;
        let whole: Value = serde_json::from_str(page).expect("a page");
        let text = text(&whole, UNIX_EPOCH + Duration::from_secs(4690)).expect("the form");
        assert_eq!(
            text,
            "Pod b is down for 1h 1m; 3 sessions moved.\n\
             Redis does not answer.\n\n\
             jellypin 0.1.0, 2 held requests, Redis does not answer, other replicas: other (configured otherwise: pools)\n\n\
             POOL    POD  STATE                      SINCE   CLIENTS  PLAYING  SOCKETS  REQUESTS  VERSION\n\
             main    a    ready, leads, no database  1h 18m  3        1        4        5         12.0.0\n\
             main    b    down                       1h 1m   0        0        0        0         ?\n\
             photos  p    ready                      1h 18m  -        -        1        2         -\n\n\
             1970-01-01T00:16:40Z warn a pod is down pod=b ]0;x\n"
        );
    }
}
