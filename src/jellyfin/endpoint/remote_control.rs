//! Remote control: calls on another client's session.
//!
//! Source: `SessionController.cs`. Any user may control any session (`AssertCanControl` compares
//! nothing), so only the pod that has the session can answer.

use http::Method;

use super::{is, segments};

/// A call on a session, by the id that the session has on every pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteControl<'a> {
    pub session: &'a str,
    pub act: Control,
}

/// What happens to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// `POST Playing?playCommand=&itemIds=`: the client is to play something.
    Play,
    /// `POST Playing/{command}`: pause, seek and the like.
    Playstate,
    /// `POST Command`, `Command/{command}`, `System/{command}`, `Viewing` and `Message`.
    Command,
    /// `POST User/{userId}` and `DELETE User/{userId}`: another user watches too. It is no message.
    Users,
}

impl Control {
    /// Whether it reaches the client as a message on its socket.
    pub fn is_message(self) -> bool {
        self != Control::Users
    }
}

impl RemoteControl<'_> {
    /// Reads the call from a method and a path below the BaseUrl.
    pub fn of<'a>(method: &Method, path: &'a str) -> Option<RemoteControl<'a>> {
        let mut segments = segments(path);
        let (first, session, what) = (segments.next()?, segments.next()?, segments.next()?);
        let (detail, rest) = (segments.next(), segments.next());
        if !is(first, "Sessions") || !is_session(session) || rest.is_some() {
            return None;
        }
        let is_post = method == Method::POST;
        let act = match detail {
            None if is(what, "Playing") && is_post => Control::Play,
            None if is_post && ["Command", "Message", "Viewing"].iter().any(|name| is(what, name)) => Control::Command,
            Some(_) if is(what, "Playing") && is_post => Control::Playstate,
            Some(_) if is_post && (is(what, "Command") || is(what, "System")) => Control::Command,
            Some(_) if is(what, "User") && (is_post || method == Method::DELETE) => Control::Users,
            _ => return None,
        };
        Some(RemoteControl { session, act })
    }
}

/// Whether a path's segment is a session's id, and not the name of an endpoint.
pub(super) fn is_session(segment: &str) -> bool {
    segment.len() == 32 && segment.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789ABCDEF0123456789abcdef";

    #[test]
    fn calls_on_another_session_are_told_from_those_on_the_callers_own() {
        let act = |method: &Method, rest: &str| {
            let path = format!("/sessions/{ID}/{rest}");
            RemoteControl::of(method, &path).map(|call| (call.session == ID, call.act))
        };
        let post = [
            ("Playing", Control::Play),
            ("Playing/Pause", Control::Playstate),
            ("playing/seek/", Control::Playstate),
            ("Command", Control::Command),
            ("Command/Mute", Control::Command),
            ("System/GoHome", Control::Command),
            ("Message", Control::Command),
            ("Viewing", Control::Command),
            ("User/1", Control::Users),
        ];
        for (rest, expected) in post {
            assert_eq!(act(&Method::POST, rest), Some((true, expected)), "{rest}");
        }
        assert_eq!(act(&Method::DELETE, "User/1"), Some((true, Control::Users)));
        for (method, rest) in [
            (Method::GET, "Playing"),
            (Method::DELETE, "Playing"),
            (Method::POST, "System"),
            (Method::POST, "Message/x"),
            (Method::POST, "Playing/Pause/x"),
            (Method::POST, ""),
        ] {
            assert_eq!(act(&method, rest), None, "{method} {rest}");
        }
        for own in ["/Sessions/Playing/Progress", "/Sessions/Viewing", "/Sessions/Capabilities/Full", "/Sessions"] {
            assert_eq!(RemoteControl::of(&Method::POST, own), None, "{own}");
        }
    }
}
