//! The URL by which clients reach the server, and the server id that they see.

use super::{names, value::FromText};
use crate::server_id::ServerId;

/// `scheme://host[:port][/path]`, without a trailing slash.
pub(super) struct PublicUrl(pub(super) String);

impl FromText for PublicUrl {
    const EXPECTED: &'static str = "a URL such as \"https://media.example.org\"";

    // No message contains the URL itself: it may hold a password.
    fn from_text(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let scheme = scheme.to_ascii_lowercase();
        if rest.contains('@') {
            return Err("a user name and password have no place in a public URL".to_owned());
        }
        if scheme != "http" && scheme != "https" {
            return Err("a public URL begins with `https://` or `http://`".to_owned());
        }
        if rest.contains(['?', '#']) {
            return Err("a query or fragment has no place in a public URL".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let host = names::host(host)?;
        let port = match port {
            None => String::new(),
            Some(port) => match port.parse::<u16>() {
                Ok(number) if number > 0 => format!(":{number}"),
                _ => return Err(format!("{port:?} is not a port; write a number from 1 to 65535")),
            },
        };
        let path = if path.is_empty() { String::new() } else { names::path_prefix(path)? };
        Ok(PublicUrl(format!("{scheme}://{host}{port}{path}")))
    }
}

impl FromText for ServerId {
    const EXPECTED: &'static str = "32 hex digits";

    fn from_text(text: &str) -> Result<Self, String> {
        let problem = || format!("{text:?} is not the id of a server; write its 32 hex digits without dashes");
        ServerId::parse(text).ok_or_else(problem)
    }
}
