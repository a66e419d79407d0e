//! Requests that do no harm when two pods execute them.

use http::{Method, Uri};

use super::{is, segments};

/// Whether a second pod may get this request after a first one may have executed it. It adds to the
/// methods that RFC 9110, 9.2.2 calls idempotent. Each has its reason:
///
/// - `Sessions/Capabilities`, `Sessions/Capabilities/Full`, `Sessions/Viewing`: set what a session
///   can do or shows, in the memory of a pod that is gone by then. They add nothing.
/// - `Sessions/Playing/Progress`, `Sessions/Playing/Ping`: set the position; the next one follows.
/// - `Sessions/Playing/Stopped`: sets the last position and whether the film was seen; losing it
///   loses that position. It counts a play only for clients that send no position, and real ones
///   send it.
/// - `SyncPlay/Ping`: a measurement.
/// - `Sessions/Logout`: the first call ends the token. A second pod that accepts the token does not
///   know that yet.
/// - `Items/{id}/PlaybackInfo`: computes an answer. A live stream that it opened is gone with its
///   pod.
/// - `LiveStreams/Open`: the same. Each pod opens what the token in the body names, and pods do not
///   make up that token.
/// - `QuickConnect/Initiate`: makes a code that no client has seen, and that expires by itself.
///
/// Not among them: `Sessions/Playing`, which counts a play each time (see [`starts_playback`]);
/// `QuickConnect/Authorize`, which fails the second time; log-ins, which mint.
/// `QuickConnect/Connect` is a GET.
pub fn is_safe_to_repeat(method: &Method, path: &str) -> bool {
    if method != Method::POST {
        return false;
    }
    let mut segments = segments(path);
    let mut next = || segments.next().unwrap_or_default();
    let (first, second, third, rest) = (next(), next(), next(), next());
    if !rest.is_empty() {
        return false;
    }
    let is_any = |segment: &str, names: &[&str]| names.iter().any(|name| is(segment, name));
    if is(first, "Sessions") {
        return match third {
            "" => is_any(second, &["Capabilities", "Viewing", "Logout"]),
            _ if is(second, "Capabilities") => is(third, "Full"),
            _ => is(second, "Playing") && is_any(third, &["Progress", "Ping", "Stopped"]),
        };
    }
    let is_pair = |one, other| is(first, one) && is(second, other) && third.is_empty();
    is_pair("SyncPlay", "Ping")
        || is_pair("LiveStreams", "Open")
        || is_pair("QuickConnect", "Initiate")
        || (is(first, "Items") && is(third, "PlaybackInfo"))
}

/// `POST /Sessions/Playing`, which counts a play each time. If a pod may have counted it already,
/// another pod gets a progress report instead. Its body has the same form, and it only sets what
/// plays.
pub fn starts_playback(method: &Method, path: &str) -> bool {
    if method != Method::POST {
        return false;
    }
    let mut segments = segments(path);
    let (first, second, rest) = (segments.next(), segments.next(), segments.next());
    rest.is_none()
        && first.is_some_and(|first| is(first, "Sessions"))
        && second.is_some_and(|second| is(second, "Playing"))
}

/// The progress report that replaces a request of [`starts_playback`].
pub fn start_as_progress(uri: &Uri) -> Option<Uri> {
    let mut target = format!("{}/Progress", uri.path().trim_end_matches('/'));
    if let Some(query) = uri.query() {
        target = target + "?" + query;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}
