//! Play sessions and live streams: where they begin and end, and which ids only a path holds.

use super::{ends, is, is_id, segments};
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

/// The channel of a live playlist, and its media source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveChannel<'a> {
    pub channel: &'a str,
    pub source: Option<String>,
}

/// The channel of a live playlist, by its request. `None` if it needs no live stream.
///
/// The stream's id is made of tuner, channel and media source, so it is the same on every pod.
pub fn live_channel<'a>(path: &'a str, query: &str) -> Option<LiveChannel<'a>> {
    query::all(query, "LiveStreamId").iter().find(|id| !id.is_empty())?;
    let channel = segments(path).nth(1).filter(|id| is_id(id))?;
    let source = query::all(query, "MediaSourceId").into_iter().find(|source| is_id(source));
    Some(LiveChannel { channel, source })
}

/// The ids that only a path holds: a live playlist's 32 hex digits in
/// `/Videos/{id}/hls/{playlist}/{segment}`, and a live file's id in
/// `/LiveTv/LiveStreamFiles/{id}/stream.{container}`.
pub(in crate::jellyfin) fn path_ids(path: &str) -> (Option<&str>, Option<&str>) {
    // The first letter rules out most paths.
    if !matches!(path.as_bytes().get(1), Some(b'V' | b'v' | b'A' | b'a' | b'L' | b'l' | b'/')) {
        return (None, None);
    }
    let mut segments = segments(path);
    let (Some(first), Some(second)) = (segments.next(), segments.next()) else { return (None, None) };
    if is(first, "LiveTv") && is(second, "LiveStreamFiles") {
        return (None, segments.next());
    }
    let legacy_hls =
        (is(first, "Videos") || is(first, "Audio")) && segments.next().is_some_and(|third| is(third, "hls"));
    (segments.next().filter(|id| legacy_hls && is_playlist(id)), None)
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
        }
    }
}
