//! QuickConnect, SyncPlay and single sign-on, which one pod alone can serve, and the time that goes with groups.

use http::Method;

use super::{is, segments, sign_on};

/// What only the leader can answer, or what has to do with it.
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
    /// `POST /SyncPlay/New`: makes a group, and its caller a member.
    New,
    /// `POST /SyncPlay/Join`: makes its caller a member.
    Join,
    /// What else is posted below `/SyncPlay/`: by members, on whose pod the group is.
    Member,
    /// `GET /SyncPlay/List` and `GET /SyncPlay/{id}`: show the groups.
    Look,
    /// `GET /GetUtcTime`.
    Time,
    /// `/sso/*` and what else one pod has to see from its beginning to its end: the state of the flow, if it has begun, stands in the
    /// query.
    SignOn,
    /// `POST /sso/{OID|SAML}/Auth/{provider}` and `/Link/…`: the state of the flow stands in the body.
    SignOnEnd,
}

impl LeaderCall {
    pub fn of(method: &Method, path: &str) -> Option<LeaderCall> {
        let mut segments = segments(path);
        let first = segments.next()?;
        match first.len() {
            3 if is(first, "sso") => return Some(sign_on::led(method, segments)),
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
