//! Play sessions and live streams: where they begin and end, and which ids only a path holds.

use http::Method;

use super::{ends, is, is_id, segments, starts};
use crate::jellyfin::query;

/// `/Items/{id}/PlaybackInfo` and `/LiveStreams/Open`: the answers name play sessions and streams.
pub(in crate::jellyfin) fn opens_playback(path: &str) -> bool {
    // The end of the path rules out most paths.
    let end = path.trim_end_matches('/');
    if !ends(end, "/PlaybackInfo") && !ends(end, "/Open") {
        return false;
    }
    let mut segments = segments(path);
    match (segments.next(), segments.next(), segments.next()) {
        (Some(first), _, Some(third)) if is(first, "Items") => is(third, "PlaybackInfo"),
        (Some(first), Some(second), None) => is(first, "LiveStreams") && is(second, "Open"),
        _ => false,
    }
}

/// `/Videos/{id}/live.m3u8`, whose segments have no query.
pub fn is_live_playlist(path: &str) -> bool {
    ends(path, "/live.m3u8")
}

/// Segments of HLS with a query, and live playlists: a pod makes them only by the lease of their
/// play session, where pods hold leases.
pub fn is_leased(path: &str) -> bool {
    is_live_playlist(path) || segments(path).nth(2).is_some_and(|third| is(third, "hls1"))
}

/// A computed playlist, which any pod gives and which repeats the request's query.
pub fn is_computed_playlist(path: &str) -> bool {
    ends(path, ".m3u8") && !is_live_playlist(path)
}

/// `/Videos/ActiveEncodings` and `/LiveStreams/Close`, by which a client ends its playback.
pub fn ends_playback(path: &str) -> bool {
    path.rsplit('/').find(|last| !last.is_empty()).is_some_and(|last| is(last, "ActiveEncodings") || is(last, "Close"))
}

/// The play session of a playback report. Only the body holds it, under a name in any case.
pub fn reported_play_session(report: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(report).ok()?;
    let (_, id) = json.as_object()?.iter().find(|(name, _)| is(name, "PlaySessionId"))?;
    id.as_str().filter(|id| !id.is_empty()).map(str::to_owned)
}

/// Whether a playback report is of a live stream, which its pod closes with the session.
pub fn reports_live_stream(report: &[u8]) -> bool {
    // Most reports have none, and are not parsed for that.
    let json = || serde_json::from_slice::<serde_json::Value>(report).ok();
    let is_named = |name: &[u8]| name.eq_ignore_ascii_case(b"\"livestreamid\"");
    report.windows(14).any(is_named)
        && json().is_some_and(|json| {
            let fields = json.as_object().into_iter().flatten();
            let mut ids = fields.filter(|(name, _)| is(name, "LiveStreamId")).map(|(_, id)| id);
            ids.any(|id| id.as_str().is_some_and(|id| !id.is_empty()))
        })
}

/// Whether a pod answers the request only with the live stream open that it may name:
/// `PlaybackInfo`, playlists, segments and streams.
pub fn may_name_live_stream(method: &Method, path: &str) -> bool {
    let mut segments = segments(path);
    let (first, id, third) = (segments.next(), segments.next(), segments.next().unwrap_or_default());
    if !id.is_some_and(is_id) {
        return false;
    }
    let is_first = |name| first.is_some_and(|first| is(first, name));
    if is_first("Items") {
        return method == Method::POST && is(third, "PlaybackInfo");
    }
    (is_first("Videos") || is_first("Audio")) && (is(third, "hls1") || ends(third, ".m3u8") || starts(third, "stream"))
}

/// A live stream that a request names, its channel, and its media source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveChannel<'a> {
    pub channel: &'a str,
    pub source: Option<String>,
    /// The stream's id. It is made of tuner, channel and media source, so it is the same on every
    /// pod.
    pub stream: String,
}

/// The live stream that a request names, in its query or else in its body. `None` if it needs none.
pub fn live_channel<'a>(path: &'a str, query: &str, body: &[u8]) -> Option<LiveChannel<'a>> {
    let in_body = |name: &str| {
        let json: serde_json::Value = serde_json::from_slice(body).ok()?;
        let (_, value) = json.as_object()?.iter().find(|(key, _)| is(key, name))?;
        value.as_str().filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let given = |name: &str| query::all(query, name).into_iter().next().or_else(|| in_body(name));
    let stream = given("LiveStreamId")?;
    let channel = segments(path).nth(1).filter(|id| is_id(id))?;
    // A tuner may give its media sources ids of any form.
    Some(LiveChannel { channel, source: given("MediaSourceId"), stream })
}

/// The ids that only a path holds: a live playlist's 32 hex digits in
/// `/Videos/{id}/hls/{playlist}/{segment}`, and the id of a live file in
/// `/LiveTv/LiveStreamFiles/{id}/stream.{container}` or `/LiveTv/LiveRecordings/{id}/stream`.
pub(in crate::jellyfin) fn path_ids(path: &str) -> (Option<&str>, Option<&str>) {
    // The first letter rules out most paths.
    if !matches!(path.as_bytes().get(1), Some(b'V' | b'v' | b'A' | b'a' | b'L' | b'l' | b'/')) {
        return (None, None);
    }
    let mut segments = segments(path);
    let (Some(first), Some(second)) = (segments.next(), segments.next()) else { return (None, None) };
    if is(first, "LiveTv") && (is(second, "LiveStreamFiles") || is(second, "LiveRecordings")) {
        return (None, segments.next());
    }
    let legacy_hls =
        (is(first, "Videos") || is(first, "Audio")) && segments.next().is_some_and(|third| is(third, "hls"));
    (segments.next().filter(|id| legacy_hls && is_playlist(id)), None)
}

/// The id of a live stream's file, from the address that an answer gives for it. It is new at each
/// opening, and only the pod that opened the stream has it.
pub(in crate::jellyfin) fn live_file_in(address: &str) -> Option<&str> {
    const FOLDER: &[u8] = b"/LiveTv/LiveStreamFiles/";
    let at = address.as_bytes().windows(FOLDER.len()).position(|part| part.eq_ignore_ascii_case(FOLDER))?;
    address.get(at + FOLDER.len()..)?.split('/').next().filter(|id| is_playlist(id))
}

fn is_playlist(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_playback_and_which() {
        assert!(ends_playback("/Videos/activeencodings/") && ends_playback("/LiveStreams/Close"));
        assert!(!ends_playback("/Sessions/Playing/Ping") && !ends_playback("/"));
        assert_eq!(reported_play_session(br#"{"playsessionid":"p1","ItemId":"i"}"#).as_deref(), Some("p1"));
        for nothing in [&b"{}"[..], br#"{"PlaySessionId":""}"#, br#"{"PlaySessionId":7}"#, b"[]", b"no JSON"] {
            assert_eq!(reported_play_session(nothing), None);
            assert!(!reports_live_stream(nothing));
        }
        assert!(reports_live_stream(br#"{"ItemId":"i","LiveStreamId":"l1"}"#));
        for none in [&br#"{"LiveStreamId":""}"#[..], br#"{"LiveStreamId":null}"#, br#"{"Name":"LiveStreamId"}"#] {
            assert!(!reports_live_stream(none));
        }
    }

    #[test]
    fn a_live_stream_is_named_with_its_channel_and_a_source_of_any_form() {
        let id = "0123456789abcdef0123456789abcdef";
        let hdhomerun = format!("native_{id}_{id}");
        let (playlist, info) = (format!("/videos/{id}/master.m3u8"), format!("/Items/{id}/PlaybackInfo"));
        let named = |source: Option<&str>| {
            Some(LiveChannel { channel: id, source: source.map(str::to_owned), stream: "s 1".into() })
        };
        let query = format!("MediaSourceId={hdhomerun}&LIVESTREAMID=s%201");
        assert_eq!(live_channel(&playlist, &query, b""), named(Some(&hdhomerun)));
        assert_eq!(live_channel(&playlist, "liveStreamId=s+1&MediaSourceId=", b"no JSON"), named(None));
        let body =
            format!(r#"{{"DeviceProfile":{{"LiveStreamId":"no"}},"liveStreamId":"s 1","MediaSourceId":"{id}"}}"#);
        assert_eq!(live_channel(&info, "", body.as_bytes()), named(Some(id)));
        assert_eq!(live_channel(&info, "LiveStreamId=s%201&MediaSourceId=x", body.as_bytes()), named(Some("x")));
        for nothing in [&b""[..], b"{}", br#"{"LiveStreamId":""}"#, br#"{"LiveStreamId":7}"#, b"[]"] {
            assert_eq!(live_channel(&info, "LiveStreamId=", nothing), None);
        }
        assert_eq!(live_channel("/Videos/x/master.m3u8", &query, b""), None, "no channel");
    }

    #[test]
    fn what_may_name_a_live_stream() {
        let id = "0123456789abcdef0123456789abcdef";
        let may = |method: &Method, path: &str| may_name_live_stream(method, &path.replace("ID", id));
        for path in ["/videos/ID/master.m3u8", "/Videos/ID/live.m3u8", "/Videos/ID/stream.ts", "/Audio/ID/stream"] {
            assert!(may(&Method::GET, path), "{path}");
        }
        assert!(may(&Method::GET, "/Videos/ID/hls1/main/0.ts") && may(&Method::POST, "/Items/ID/PlaybackInfo"));
        for path in ["/Videos/ID/hls/ID/ID0.ts", "/Items/ID/PlaybackInfo", "/Items/ID", "/Videos/x/stream", "/"] {
            assert!(!may(&Method::GET, path), "{path}");
        }
    }

    #[test]
    fn a_live_file_is_found_in_its_address() {
        let id = "0123456789abcdef0123456789abcdef";
        let of = |address: &str| live_file_in(&address.replace("ID", id)).map(str::to_owned);
        assert_eq!(of("http://tv.example:8096/LiveTv/LiveStreamFiles/ID/stream.ts").as_deref(), Some(id));
        assert_eq!(of("https://tv.example/jf/livetv/livestreamfiles/ID/stream.ts").as_deref(), Some(id));
        for none in
            ["/media/ä/film.mkv", "http://h/LiveTv/LiveStreamFiles/", "http://h/LiveTv/LiveStreamFiles/../x", ""]
        {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
