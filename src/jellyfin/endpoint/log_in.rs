//! Log-ins by password, by what their paths say.

use super::{is_decoded, segments};

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
