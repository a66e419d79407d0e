//! Requests that do no harm when two pods have carried them out.

use http::{Method, Uri};

use super::{is, segments};

/// Whether this request may reach a second pod though a first one may have carried it out, beside those whose method says so
/// (RFC 9110, 9.2.2). Each has its reason:
///
/// - `Sessions/Capabilities`, `Sessions/Capabilities/Full`, `Sessions/Viewing`: what a session can do or shows is set, not added to,
///   in the memory of a pod that is gone by then.
/// - `Sessions/Playing/Progress`, `Sessions/Playing/Ping`: the place in the film is set; each is followed by the next.
/// - `Sessions/Playing/Stopped`: the last place is set, and whether the film was seen; if it is lost, so is that place. It counts
///   a play only for clients that name no place, and real ones name it.
/// - `SyncPlay/Ping`: a measurement.
/// - `Sessions/Logout`: the token is gone after the first time, and a second pod that takes it has not heard of that.
/// - `Items/{id}/PlaybackInfo`: computes an answer. A live stream that it opened is gone with its pod.
/// - `LiveStreams/Open`: the same. On each pod it opens what the token in its body names, which pods do not make up.
/// - `QuickConnect/Initiate`: makes a code that nobody has been shown, and that ends by itself.
///
/// Not among them: `Sessions/Playing`, which counts a play each time (see [`starts_playback`]); `QuickConnect/Authorize`, which fails
/// the second time; log-ins, which mint. `QuickConnect/Connect` is a GET.
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

/// `POST /Sessions/Playing`, which counts a play each time. Where a pod may have counted it already, another is told the same by a
/// report of progress, whose body is of the same form and which only sets what plays.
pub fn starts_playback(method: &Method, path: &str) -> bool {
    let mut segments = segments(path);
    let (first, second, rest) = (segments.next(), segments.next(), segments.next());
    method == Method::POST
        && rest.is_none()
        && first.is_some_and(|first| is(first, "Sessions"))
        && second.is_some_and(|second| is(second, "Playing"))
}

/// The report of progress in the place of one that [`starts_playback`].
pub fn start_as_progress(uri: &Uri) -> Option<Uri> {
    let mut target = format!("{}/Progress", uri.path().trim_end_matches('/'));
    if let Some(query) = uri.query() {
        target = target + "?" + query;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}
