//! Bodies of pods' answers and of clients' requests: JSON and playlists, in whatever pieces they come.

use bytes::Bytes;
use http::{Method, Response};
use jellypin::{
    jellyfin::{
        body_scanner::{BodyScanner, Learned},
        device_list::DeviceList,
        endpoint::Endpoint,
        libraries, log_in_name,
        playlist::{self, PlaylistHistory, PlaylistSummary},
        session_list, user_data,
    },
    server_id::address,
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;

use super::budget::fuzz;

/// Pieces of which texts like a pod's JSON are made.
#[rustfmt::skip]
const JSON: [&str; 40] = [
    "{", "}", "[", "]", ",", ":", "\"", "\\", "\\\"", "\\u00e4", "\\ud83d", "\\n", "null", "true", "1", "-1.5e3", "\"AccessToken\":", "\"accessToken\":",
    "\"SessionInfo\":{", "\"DeviceId\":\"d\"", "\"User\":{\"Id\":\"u\"}", "\"Id\":\"0123456789abcdef0123456789abcdef\"", "\"Items\":[", "\"items\":[",
    "\"PlaySessionId\":\"p\"", "\"LiveStreamId\":\"l\"", "\"MediaSources\":[{", "\"LocalAddress\":", "\"LocalAddress\":\"http://h\"", "\"Username\":\"a\"",
    "\"UserId\":\"u\"", "\"DateLastActivity\":\"2026-01-01T00:00:00Z\"", "\"x\"", "ä", "😀", " ", "\n", "\u{feff}", "\u{0}", "\"TotalRecordCount\":1",
];

/// Pieces of which playlists are made.
#[rustfmt::skip]
const PLAYLIST: [&str; 24] = [
    "#EXTM3U\n", "#EXT-X-VERSION:3\n", "#EXT-X-TARGETDURATION:3\n", "#EXT-X-MEDIA-SEQUENCE:", "#EXT-X-PLAYLIST-TYPE:EVENT\n", "#EXTINF:3.0,\n", "#EXTINF:",
    "0123456789abcdef0123456789abcdef0.ts\n", "0123456789abcdef0123456789abcdef12.ts\n", "fedcba9876543210fedcba98765432101.ts\n", "hls/x/0.ts\n",
    "#EXT-X-DISCONTINUITY\n", "#EXT-X-ENDLIST\n", "\r\n", "\n", "0", "18446744073709551616", "-1", "\"", "ä", "#", "?a=b\n", ",", "hls1/main/0.mp4?x=y\n",
];

fn text(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec(select(pieces), 0..30).prop_map(|pieces| pieces.concat())
}

/// Whole JSON of any shape, with the names that are looked for.
fn json() -> impl Strategy<Value = Value> {
    let name = select(
        &[
            "AccessToken",
            "SessionInfo",
            "DeviceId",
            "User",
            "Id",
            "Items",
            "x",
            "PlaySessionId",
            "LocalAddress",
            "UserId",
        ][..],
    );
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(Value::from("0123456789abcdef0123456789abcdef")),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((name.clone().prop_map(str::to_owned), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A body in pieces of these lengths.
fn cut<'a>(mut body: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in cuts {
        let (piece, rest) = body.split_at((*length).min(body.len()));
        pieces.push(piece);
        body = rest;
    }
    pieces.push(body);
    pieces
}

fn learned(path: &str, method: &Method, kind: &str, pieces: &[&[u8]]) -> Option<Learned> {
    let (head, ()) = Response::builder().header("content-type", kind).body(()).expect("an answer").into_parts();
    let mut scanner = BodyScanner::of(Endpoint::of(method, path), method, path, &head)?;
    let mut learned = Learned::default();
    for piece in pieces {
        learned.merge(scanner.feed(piece));
    }
    learned.merge(scanner.finish());
    Some(learned)
}

#[test]
fn a_body_teaches_the_same_however_it_is_cut() {
    const LIVE: &str = "/Videos/0123456789abcdef0123456789abcdef/live.m3u8";
    let targets = [
        ("/Users/AuthenticateByName", Method::POST, "application/json"),
        ("/Items/0123456789abcdef0123456789abcdef/PlaybackInfo", Method::POST, "application/json"),
        ("/LiveStreams/Open", Method::POST, "application/json"),
        (LIVE, Method::GET, "application/vnd.apple.mpegurl"),
        ("/Videos/0123456789abcdef0123456789abcdef/main.m3u8", Method::GET, "application/x-mpegURL"),
    ];
    let body = prop_oneof![
        text(&JSON).prop_map(String::into_bytes),
        json().prop_map(|json| json.to_string().into_bytes()),
        text(&PLAYLIST).prop_map(String::into_bytes),
        vec(any::<u8>(), 0..80),
    ];
    fuzz(
        "body_scanner",
        (select(targets.to_vec()), body, vec(0_usize..20, 0..12)),
        |((path, method, kind), body, cuts)| {
            let whole = learned(path, &method, kind, &[&body]);
            prop_assert_eq!(learned(path, &method, kind, &cut(&body, &cuts)), whole);
            Ok(())
        },
    );
}

#[test]
fn a_playlist_is_read_and_joined_without_harm() {
    fuzz("playlist", (vec(text(&PLAYLIST), 1..4), 0_u64..5), |(lists, segments)| {
        let mut past = PlaylistHistory::default();
        for list in &lists {
            let _ = PlaylistSummary::of(list);
            let _: Vec<_> = list.lines().map(playlist::number_of).collect();
            let _ = past.followed_by(list);
            past = past.and(Some(list), segments);
        }
        let _ = (past.segments(), past.and(None, segments));
        Ok(())
    });
}

#[test]
fn an_address_is_replaced_in_json_that_stays_json_and_nothing_else_is() {
    let body =
        prop_oneof![text(&JSON).prop_map(String::into_bytes), json().prop_map(|json| json.to_string().into_bytes())];
    fuzz("address", body, |body| {
        let Some(replaced) = address::replace(&body, "http://shown") else { return Ok(()) };
        if serde_json::from_slice::<Value>(&body).is_ok() {
            let after = serde_json::from_slice::<Value>(&replaced);
            prop_assert!(
                after.is_ok(),
                "{:?} of {:?}",
                String::from_utf8_lossy(&replaced),
                String::from_utf8_lossy(&body)
            );
        }
        Ok(())
    });
}

#[test]
fn lists_and_rows_are_read_without_harm_and_written_as_they_are_read() {
    let body = prop_oneof![text(&JSON), json().prop_map(|json| json.to_string())];
    fuzz("lists", body, |body| {
        let bytes = Bytes::from(body.clone());
        if let Some(list) = DeviceList::read(&bytes) {
            let written = list.write();
            let again = DeviceList::read(&written);
            prop_assert!(again.is_some(), "{:?}", written);
            prop_assert_eq!(again.expect("a list").write(), written);
        }
        let _ = session_list::read(&bytes);
        let _ = log_in_name::user_name(body.as_bytes());
        let value: Value = serde_json::from_str(&body).unwrap_or_default();
        let _ = (libraries::read(&value), user_data::Row::read(value), user_data::Id::read(&body));
        Ok(())
    });
}
