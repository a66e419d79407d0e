//! What sets a server up, restarts it or shuts it down.

use http::Method;

use super::is;

/// Whether a path, decoded and below the BaseUrl, belongs to the set-up wizard (`/Startup/*`), or
/// is `/System/Restart` or `/System/Shutdown`.
pub fn operates_server(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    match (segments.next(), segments.next()) {
        (Some(first), _) if is(first, "Startup") => true,
        (Some(first), Some(second)) => is(first, "System") && (is(second, "Restart") || is(second, "Shutdown")),
        _ => false,
    }
}

/// `POST /Users` and `POST /Users/{id}` (`UserController.UpdateUser`), by which users also change their
/// own names.
pub fn may_rename_user(method: &Method, path: &str) -> bool {
    const OTHERS: [&str; 6] =
        ["AuthenticateByName", "AuthenticateWithQuickConnect", "Configuration", "ForgotPassword", "New", "Password"];
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    *method == Method::POST
        && segments.next().is_some_and(|first| is(first, "Users"))
        && segments.next().is_none_or(|second| OTHERS.iter().all(|other| !is(second, other)))
        && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_up_restart_and_shut_down_are_known_in_every_form() {
        for path in ["/Startup/User", "/startup", "/System/Restart", "/system/SHUTDOWN/", "//System//Restart"] {
            assert!(operates_server(path), "{path}");
        }
        for path in ["/", "/System/Info", "/System", "/Startups", "/web/Startup", "/Items/System/Restart"] {
            assert!(!operates_server(path), "{path}");
        }
    }

    #[test]
    fn what_may_rename_a_user_is_told_from_the_rest() {
        for path in ["/Users", "/users/", "/Users/0123456789abcdef0123456789abcdef", "/USERS/x/"] {
            assert!(may_rename_user(&Method::POST, path), "{path}");
            assert!(!may_rename_user(&Method::GET, path), "{path}");
        }
        for path in ["/Users/New", "/users/configuration", "/Users/x/Password", "/UserItems", "/", "/Users/Password"] {
            assert!(!may_rename_user(&Method::POST, path), "{path}");
        }
    }
}
