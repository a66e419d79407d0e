//! How things stand, as text for a terminal. Pure.

use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

/// The part of `GET /overview` that is shown.
#[derive(Deserialize)]
pub(super) struct Whole {
    overview: Overview,
    clients: Clients,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Overview {
    verdict: Verdict,
    version: String,
    pods: Vec<PodRow>,
    held: usize,
    redis: Option<bool>,
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Verdict {
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    text: String,
    since_ms: Option<u64>,
    #[serde(default)]
    more: String,
}

#[derive(Deserialize)]
struct PodRow {
    pool: String,
    name: String,
    state: String,
    since_ms: u64,
    leads: bool,
    sessions: usize,
    sockets: usize,
    requests: usize,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Replica {
    name: String,
    is_this_one: bool,
    disagrees: Vec<String>,
}

#[derive(Deserialize)]
struct Clients {
    rows: Vec<Client>,
}

#[derive(Deserialize)]
struct Client {
    pool: String,
    pod: String,
    is_playing: bool,
}

#[derive(Deserialize)]
struct Event {
    at_ms: u64,
    level: String,
    message: String,
    fields: Vec<(String, String)>,
}

/// How many of the latest events are shown.
const EVENTS: usize = 8;

pub(super) fn text(whole: &Whole, now: SystemTime) -> String {
    let Whole { overview, clients, events } = whole;
    let mut text = String::new();
    for Sentence { text: said, since_ms, more } in &overview.verdict.sentences {
        let since = since_ms.map(|at| format!(" for {}", since(at, now))).unwrap_or_default();
        let more = if more.is_empty() { String::new() } else { format!("; {more}") };
        let _ = writeln!(text, "{said}{since}{more}.");
    }
    let _ = writeln!(text, "\njellypin {}, {} held requests{}", overview.version, overview.held, shared(overview));
    let _ = writeln!(text, "\n{}", table(pod_rows(&overview.pods, &clients.rows, now)));
    let latest = events.len().saturating_sub(EVENTS);
    for event in &events[latest..] {
        let fields: Vec<_> = event.fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(event.at_ms));
        let _ = writeln!(text, "{at} {} {}{}", event.level.to_lowercase(), event.message, fields.concat());
    }
    text
}

fn shared(overview: &Overview) -> String {
    let redis = match overview.redis {
        None => "",
        Some(true) => ", Redis answers",
        Some(false) => ", Redis does not answer",
    };
    let name = |replica: &Replica| match &replica.disagrees[..] {
        [] => replica.name.clone(),
        parts => format!("{} (configured otherwise: {})", replica.name, parts.join(", ")),
    };
    let replicas: Vec<String> = overview.replicas.iter().filter(|replica| !replica.is_this_one).map(name).collect();
    let others = if replicas.is_empty() { String::new() } else { format!(", other replicas: {}", replicas.join(", ")) };
    format!("{redis}{others}")
}

const HEAD: [&str; 9] = ["POOL", "POD", "STATE", "SINCE", "CLIENTS", "PLAYING", "SOCKETS", "REQUESTS", "VERSION"];

fn pod_rows(pods: &[PodRow], clients: &[Client], now: SystemTime) -> Vec<[String; HEAD.len()]> {
    let playing = |pod: &PodRow| {
        clients
            .iter()
            .filter(|client| client.is_playing && (&client.pool, &client.pod) == (&pod.pool, &pod.name))
            .count()
    };
    let row = |pod: &PodRow| {
        let leads = if pod.leads { ", leads" } else { "" };
        [
            pod.pool.clone(),
            pod.name.clone(),
            format!("{}{leads}", pod.state),
            since(pod.since_ms, now),
            pod.sessions.to_string(),
            playing(pod).to_string(),
            pod.sockets.to_string(),
            pod.requests.to_string(),
            pod.version.clone().unwrap_or_else(|| "?".to_owned()),
        ]
    };
    pods.iter().map(row).collect()
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
                    {"pool": "main", "name": "a", "address": "10.0.0.1:8096", "state": "ready", "since_ms": 1000,
                     "accepts": true, "leads": true, "is_removed": false, "epoch": 1, "requests": 5, "sockets": 4,
                     "sessions": 3, "version": "12.0.0", "server_name": null},
                    {"pool": "main", "name": "b", "address": "10.0.0.2:8096", "state": "down", "since_ms": 1000000,
                     "accepts": false, "leads": false, "is_removed": false, "epoch": 1, "requests": 0, "sockets": 0,
                     "sessions": 0, "version": null, "server_name": null}
                ]
            },
            "clients": {"rows": [
                {"pool": "main", "pod": "a", "is_playing": true},
                {"pool": "main", "pod": "a", "is_playing": false}
            ], "hidden": 0},
            "history": [],
            "events": [{"number": 1, "at_ms": 1000000, "level": "WARN", "message": "a pod is down", "fields": [["pod", "b"]]}]
        }"#;
        let whole: Whole = serde_json::from_str(page).expect("a page");
        assert_eq!(
            text(&whole, UNIX_EPOCH + Duration::from_secs(4690)),
            "Pod b is down for 1h 1m; 3 sessions moved.\n\
             Redis does not answer.\n\n\
             jellypin 0.1.0, 2 held requests, Redis does not answer, other replicas: other (configured otherwise: pools)\n\n\
             POOL  POD  STATE         SINCE    CLIENTS  PLAYING  SOCKETS  REQUESTS  VERSION\n\
             main  a    ready, leads  1h 18m   3        1        4        5         12.0.0\n\
             main  b    down          1h 1m    0        0        0        0         ?\n\n\
             1970-01-01T00:16:40Z warn a pod is down pod=b\n"
        );
    }
}
