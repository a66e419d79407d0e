//! Log-outs, and other requests that end sessions.

use http::Method;

use super::{is, is_id, segments};
use crate::jellyfin::query;

/// What a request ends if the pod carries it out. These may be sessions other than the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// `POST /Sessions/Logout`: the caller's own token.
    Token,
    /// `DELETE /Devices?id=…[&id=…]`: every token of these devices.
    Devices(Vec<String>),
    /// `POST /Users/Password`, `POST /Users/{id}/Password`: every token of the user but the
    /// caller's. `None` means the caller's own user.
    OtherSessionsOf(Option<String>),
    /// `POST /Users/{id}/Policy`: every token of the user, if the new policy disables the user.
    UserIfDisabled(String),
    /// `DELETE /Users/{id}`.
    User(String),
}

impl Revocation {
    pub fn of(method: &Method, path: &str, query: &str) -> Option<Revocation> {
        let mut segments = segments(path);
        let (first, second, third) = (segments.next()?, segments.next(), segments.next());
        if segments.next().is_some() {
            return None;
        }
        let is_user = is(first, "Users");
        match (method, second, third) {
            (&Method::POST, Some(second), None) if is(first, "Sessions") && is(second, "Logout") => {
                Some(Revocation::Token)
            }
            (&Method::DELETE, None, None) if is(first, "Devices") => Some(Revocation::Devices(query::all(query, "id"))),
            (&Method::POST, Some(second), None) if is_user && is(second, "Password") => {
                Some(Revocation::OtherSessionsOf(query::all(query, "userId").into_iter().next()))
            }
            (&Method::POST, Some(id), Some(third)) if is_user && is_id(id) && is(third, "Password") => {
                Some(Revocation::OtherSessionsOf(Some(id.to_owned())))
            }
            (&Method::POST, Some(id), Some(third)) if is_user && is_id(id) && is(third, "Policy") => {
                Some(Revocation::UserIfDisabled(id.to_owned()))
            }
            (&Method::DELETE, Some(id), None) if is_user && is_id(id) => Some(Revocation::User(id.to_owned())),
            _ => None,
        }
    }
}
