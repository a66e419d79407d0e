//! What a pod remembers of its client from requests that the client does not repeat.

use http::Method;

use super::{is, segments};

/// A `POST /Sessions/…` whose content a pod remembers, and which the client does not send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateReport {
    /// `Capabilities` and `Capabilities/Full`.
    Capabilities,
    /// `Playing` and `Playing/Progress`.
    Playing,
    /// `Playing/Stopped`.
    Stopped,
}

impl StateReport {
    pub fn of(method: &Method, path: &str) -> Option<StateReport> {
        if method != Method::POST {
            return None;
        }
        let mut segments = segments(path);
        if !segments.next().is_some_and(|first| is(first, "Sessions")) {
            return None;
        }
        match (segments.next()?, segments.next(), segments.next()) {
            (second, None, _) if is(second, "Capabilities") => Some(StateReport::Capabilities),
            (second, Some(third), None) if is(second, "Capabilities") && is(third, "Full") => {
                Some(StateReport::Capabilities)
            }
            (second, None, _) if is(second, "Playing") => Some(StateReport::Playing),
            (second, Some(third), None) if is(second, "Playing") && is(third, "Progress") => Some(StateReport::Playing),
            (second, Some(third), None) if is(second, "Playing") && is(third, "Stopped") => Some(StateReport::Stopped),
            _ => None,
        }
    }
}
