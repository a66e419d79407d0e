//! The real jellyfin-web, as recorded: each of its requests tells whose it is, or is one that needs nobody.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use jellypin::jellyfin::{Legacy, endpoint::Endpoint, identify};
use serde_json::Value;

/// How a request finds its client, or why it need not.
fn found(request: &Value) -> &'static str {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let uri: Uri = plain(&text(&request["path"]).expect("a path")).parse().expect("a target");
    let method: Method = request["method"].as_str().unwrap_or("GET").parse().expect("a method");
    let mut headers = HeaderMap::new();
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        let name: HeaderName = name.parse().expect("a name");
        headers.insert(name, HeaderValue::from_str(&plain(&text(value).expect("a value"))).expect("a value"));
    }
    let identity = identify(&uri, uri.path(), &headers, Legacy::Ignored);
    let is_upgrade = request.get("upgrade").is_some() || headers.contains_key("upgrade");
    if identity.token.is_some() {
        "token"
    } else if identity.play_session.is_some() {
        "play session"
    } else if identity.playlist.is_some() {
        "live playlist"
    } else if identity.device.is_some() {
        "device"
    } else if is_upgrade {
        "a dial before the log-in, which is refused"
    } else {
        match Endpoint::of(&method, uri.path()) {
            Endpoint::Open => "open to all",
            Endpoint::AnonymousMedia => "media for all",
            _ => "NOBODY",
        }
    }
}

/// The recordings name what changes from run to run (`<token:alice@a:d1>`); a request's head has no such brackets.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if "<>".contains(letter) { '_' } else { letter }).collect()
}

#[test]
fn every_request_of_the_web_client_is_identified() {
    let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lost = Vec::new();
    for file in ["08-jellyfin-web-live-hls", "09-jellyfin-web-vod-hls"] {
        let path = format!("{}/tests/recordings/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("the recording");
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let Some(request) = line.get("request") else { continue };
            let way = found(request);
            *ways.entry(way).or_default() += 1;
            if way == "NOBODY" {
                lost.push(format!("{file}: {} {}", request["method"], request["path"]));
            }
        }
    }
    println!("{ways:#?}");
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(ways["token"] > 50, "the recordings hold a whole evening: {ways:?}");
}
