//! What a request is for: what can wait while its pod has too much to do.

use http::Method;

use super::{Endpoint, StateReport, is, segments, starts_playback};

/// How much somebody misses the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A player stops, a session ends or does not begin.
    Playing,
    /// A page is not there.
    Page,
    /// A picture is not there, or nobody notices.
    Picture,
}

impl Need {
    pub fn of(endpoint: Endpoint, method: &Method, path: &str) -> Need {
        use Endpoint::{LogIn, LogOut, TranscodeControl};
        let is_report = || StateReport::of(method, path).is_some() || starts_playback(method, path);
        if endpoint.is_failure_costly() || matches!(endpoint, LogIn | LogOut | TranscodeControl) || is_report() {
            return Need::Playing;
        }
        let mut need = Need::Page;
        for segment in segments(path) {
            match segment.len() {
                // `is` ignores case; the length only saves comparisons.
                12 if is(segment, "PlaybackInfo") => return Need::Playing,
                11 if is(segment, "LiveStreams") => return Need::Playing,
                6 if is(segment, "Images") => need = Need::Picture,
                9 if ["Trickplay", "UserImage", "ClientLog"].iter().any(|name| is(segment, name)) => {
                    need = Need::Picture;
                }
                _ => {}
            }
        }
        need
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_player_needs_goes_first_and_pictures_last() {
        for (method, path, need) in [
            (Method::GET, "/Videos/0123456789abcdef0123456789abcdef/hls1/main/1.ts", Need::Playing),
            (Method::GET, "/System/Info", Need::Playing),
            (Method::POST, "/Users/AuthenticateByName", Need::Playing),
            (Method::POST, "/Sessions/Playing/Progress", Need::Playing),
            (Method::POST, "/items/0123456789abcdef0123456789abcdef/playbackinfo", Need::Playing),
            (Method::GET, "/Users/Me", Need::Playing),
            (Method::GET, "/UserViews", Need::Page),
            (Method::GET, "/Items", Need::Page),
            (Method::GET, "/items/0123456789abcdef0123456789abcdef/images/Primary", Need::Picture),
            (Method::GET, "/UserImage", Need::Picture),
        ] {
            assert_eq!(Need::of(Endpoint::of(&method, path), &method, path), need, "{path}");
        }
    }
}
