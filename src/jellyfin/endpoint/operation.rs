//! What sets a server up, restarts it or shuts it down.

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
}
