//! QuickConnect, SyncPlay and single sign-on, which one pod alone can serve, and the groups' time.

use http::Method;

use super::{is, segments};

/// A request that only the leader can answer, or that belongs to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderCall {
    /// `/QuickConnect/Enabled`.
    Enabled,
    /// `/QuickConnect/Initiate`: makes a code and a secret.
    Initiate,
    /// `/QuickConnect/Connect?secret=`: asks whether the code was authorized.
    Connect,
    /// `POST /QuickConnect/Authorize?code=[&userId=]`.
    Authorize,
    /// `POST /Users/AuthenticateWithQuickConnect`, with the secret in its body.
    LogIn,
    /// `POST /SyncPlay/New`: creates a group with its caller as a member.
    New,
    /// `POST /SyncPlay/Join`: makes its caller a member of a group.
    Join,
    /// Any other `POST` below `/SyncPlay/`: from members, for the pod that has their group.
    Member,
    /// `GET /SyncPlay/List` and `GET /SyncPlay/{id}`: show the groups.
    Look,
    /// `GET /GetUtcTime`.
    Time,
    /// `/sso/*` and anything else that one pod must serve from beginning to end. The query holds
    /// the state of the flow, if the flow has begun.
    SignOn,
    /// `POST /sso/{OID|SAML}/Auth/{provider}` and `/Link/…`: the body holds the state of the flow.
    SignOnEnd,
}

impl LeaderCall {
    pub fn of(method: &Method, path: &str) -> Option<LeaderCall> {
        let mut segments = segments(path);
        let first = segments.next()?;
        match first.len() {
            3 if is(first, "sso") => return Some(sign_on(method, segments)),
            8 if is(first, "SSOViews") => return Some(LeaderCall::SignOn),
            _ => {}
        }
        let second = segments.next().unwrap_or_default();
        if segments.next().is_some() {
            return None;
        }
        let is_post = method == Method::POST;
        match first.len() {
            12 if is(first, "QuickConnect") => match second {
                _ if is(second, "Enabled") => Some(LeaderCall::Enabled),
                _ if is(second, "Initiate") => Some(LeaderCall::Initiate),
                _ if is(second, "Connect") => Some(LeaderCall::Connect),
                _ if is(second, "Authorize") && is_post => Some(LeaderCall::Authorize),
                _ => None,
            },
            5 if is(first, "Users") && is(second, "AuthenticateWithQuickConnect") && is_post => Some(LeaderCall::LogIn),
            8 if is(first, "SyncPlay") && is_post => match second {
                _ if is(second, "New") => Some(LeaderCall::New),
                _ if is(second, "Join") => Some(LeaderCall::Join),
                _ => Some(LeaderCall::Member),
            },
            8 if is(first, "SyncPlay") && method == Method::GET && !second.is_empty() => Some(LeaderCall::Look),
            10 if is(first, "GetUtcTime") && method == Method::GET && second.is_empty() => Some(LeaderCall::Time),
            _ => None,
        }
    }
}

/// Whether a member says by this that the others need not wait for it.
pub fn is_ignore_wait(path: &str) -> bool {
    is_sync_play(path, "SetIgnoreWait")
}

/// Whether a member joins a group by this.
pub fn is_join(path: &str) -> bool {
    is_sync_play(path, "Join")
}

/// The group that a client looks at by this; `None` for the list of all.
pub fn group_looked_at(path: &str) -> Option<&str> {
    segments(path).nth(1).filter(|second| !is(second, "List"))
}

fn is_sync_play(path: &str, name: &str) -> bool {
    let mut segments = segments(path);
    segments.next().is_some_and(|first| is(first, "SyncPlay")) && segments.next().is_some_and(|second| is(second, name))
}

/// Which leader call a request below `/sso` is.
fn sign_on<'a>(method: &Method, mut segments: impl Iterator<Item = &'a str>) -> LeaderCall {
    let (_mode, step) = (segments.next(), segments.next().unwrap_or_default());
    if method == Method::POST && (is(step, "Auth") || is(step, "Link")) {
        LeaderCall::SignOnEnd
    } else {
        LeaderCall::SignOn
    }
}
