//! What a request is for: what can wait while its pod has too much to do.

use http::Method;

use super::{Endpoint, StateReport, is, segments, starts_playback};

/// How much somebody misses the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A player stops, a session ends or does not begin.
    Playing,
    /// A page is not there.
    Page,
    /// A picture is not there, or nobody notices.
    Picture,
}

impl Purpose {
    pub fn of(endpoint: Endpoint, method: &Method, path: &str) -> Purpose {
        use Endpoint::{LogIn, LogOut, TranscodeControl};
        let is_report = || StateReport::of(method, path).is_some() || starts_playback(method, path);
        if endpoint.is_failure_costly() || matches!(endpoint, LogIn | LogOut | TranscodeControl) || is_report() {
            return Purpose::Playing;
        }
        let mut purpose = Purpose::Page;
        for segment in segments(path) {
            match segment.len() {
                // `is` ignores case; the length only saves comparisons.
                12 if is(segment, "PlaybackInfo") => return Purpose::Playing,
                11 if is(segment, "LiveStreams") => return Purpose::Playing,
                6 if is(segment, "Images") => purpose = Purpose::Picture,
                9 if ["Trickplay", "UserImage", "ClientLog"].iter().any(|name| is(segment, name)) => {
                    purpose = Purpose::Picture;
                }
                _ => {}
            }
        }
        purpose
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_player_needs_goes_first_and_pictures_last() {
        for (method, path, purpose) in [
            (Method::GET, "/Videos/0123456789abcdef0123456789abcdef/hls1/main/1.ts", Purpose::Playing),
            (Method::GET, "/System/Info", Purpose::Playing),
            (Method::POST, "/Users/AuthenticateByName", Purpose::Playing),
            (Method::POST, "/Sessions/Playing/Progress", Purpose::Playing),
            (Method::POST, "/items/0123456789abcdef0123456789abcdef/playbackinfo", Purpose::Playing),
            (Method::GET, "/Users/Me", Purpose::Playing),
            (Method::GET, "/UserViews", Purpose::Page),
            (Method::GET, "/Items", Purpose::Page),
            (Method::GET, "/items/0123456789abcdef0123456789abcdef/images/Primary", Purpose::Picture),
            (Method::GET, "/UserImage", Purpose::Picture),
        ] {
            assert_eq!(Purpose::of(Endpoint::of(&method, path), &method, path), purpose, "{path}");
        }
    }
}
