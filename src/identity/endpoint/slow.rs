//! Requests that a pod may work on for minutes before it answers.

use super::{is, segments};

/// Whether the first byte may take minutes though the pod is well:
///
/// - `Videos/{id}/{source}/Subtitles/…`, `…/Attachments/…`: the first of a file reads the whole of it, and takes everything of the
///   kind out of it at once (`SubtitleEncoder`, `AttachmentExtractor`; ffmpeg is given 30 minutes).
/// - `Items/{id}/PlaybackInfo`, `LiveStreams/Open`: a file is probed, a channel tuned in.
/// - `Items/…/RemoteSearch/…`, `Audio/…/RemoteSearch/…`, `Providers/…`: others are asked, in the Internet.
pub fn is_slow(path: &str) -> bool {
    let mut segments = segments(path);
    let Some(first) = segments.next() else { return false };
    let mut goes_on = |names: &[&str]| segments.any(|segment| names.iter().any(|name| is(segment, name)));
    match first.len() {
        6 if is(first, "Videos") => goes_on(&["Subtitles", "Attachments"]),
        5 if is(first, "Items") => goes_on(&["PlaybackInfo", "RemoteSearch"]),
        5 if is(first, "Audio") => goes_on(&["RemoteSearch"]),
        11 if is(first, "LiveStreams") => goes_on(&["Open"]),
        9 => is(first, "Providers"),
        _ => false,
    }
}
