//! Log-ins by password, by what their paths say; and what changes the names that they go by.

use http::Method;

use super::{is, is_decoded, is_id, segments};

/// The user that a log-in by password names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogInBy<'a> {
    /// `/Users/AuthenticateByName`: the body holds the name.
    Name,
    /// `/Users/{id}/Authenticate`.
    Id(&'a str),
}

/// The user of a log-in by password, from its path. The path's letters may be written as `%XX`.
pub fn log_in_by_password(path: &str) -> Option<LogInBy<'_>> {
    let mut segments = segments(path);
    let (first, second, third) = (segments.next()?, segments.next()?, segments.next());
    if !is_decoded(first, "Users") || segments.next().is_some() {
        return None;
    }
    match third {
        None if is_decoded(second, "AuthenticateByName") => Some(LogInBy::Name),
        Some(third) if is_decoded(third, "Authenticate") => Some(LogInBy::Id(second)),
        _ => None,
    }
}

/// Whether a request makes a user, or may change the name of one.
pub fn changes_names(method: &Method, path: &str) -> bool {
    let mut segments = segments(path);
    let is_of_users = segments.next().is_some_and(|first| is(first, "Users"));
    let is_named = segments.next().is_none_or(|second| is(second, "New") || is_id(second));
    is_of_users && is_named && method == Method::POST && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_by_few_requests() {
        let id = "0123456789abcdef0123456789abcdef";
        for path in ["/Users", "/Users/New", "/users/new", &format!("/Users/{id}")] {
            assert!(changes_names(&Method::POST, path) && !changes_names(&Method::GET, path), "{path}");
        }
        for path in ["/", "/Items", "/Users/AuthenticateByName", "/Users/Password", &format!("/Users/{id}/Policy")] {
            assert!(!changes_names(&Method::POST, path), "{path}");
        }
    }
}
