//! The URL of a pod. It may contain only a scheme, a host and a port.

use super::{names, value::FromText};

pub(super) struct PodUrl {
    /// `host:port`, in lower case.
    pub(super) authority: String,
    /// Whether the pod is spoken to over TLS.
    pub(super) is_https: bool,
}

impl PodUrl {
    /// The host alone.
    pub(super) fn host(&self) -> &str {
        self.authority.rsplit_once(':').map_or(&self.authority, |(host, _)| host)
    }
}

impl FromText for PodUrl {
    const EXPECTED: &'static str = "a URL such as \"http://10.0.0.11:8096\"";

    // No message contains the URL itself: it may hold a password.
    fn from_text(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // Searches the whole rest: a password may contain a character that ends the authority.
        if rest.contains('@') {
            return Err("a user name and password have no place in a pod's URL".to_owned());
        }
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            "" => {
                return Err(format!("a pod's URL begins with `http://` or `https://`; write `http://{authority}`"));
            }
            other => {
                return Err(format!(
                    "`{other}://` is not spoken to pods; a pod's URL begins with `http://` or `https://`"
                ));
            }
        };
        if tail.contains(['?', '#']) {
            return Err("a query or fragment has no place in a pod's URL".to_owned());
        }
        if tail.len() > 1 {
            let path = tail.trim_end_matches('/');
            return Err(format!("a path has no place in a pod's URL; write `base_path = {path:?}` in its pool"));
        }
        let (host, port) = host_and_port(authority, if is_https { "443" } else { "80" })?;
        Ok(PodUrl { authority: format!("{host}:{port}"), is_https })
    }
}

/// A host, and a port, which is this one if none is written.
pub(super) fn host_and_port(authority: &str, default: &str) -> Result<(String, u16), String> {
    let (host, port) = match authority.rsplit_once(':') {
        _ if authority.ends_with(']') => (authority, default),
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
            return Err("an IPv6 address stands in brackets, as in \"http://[::1]:8096\"".to_owned());
        }
        Some(parts) => parts,
        None => (authority, default),
    };
    match port.parse::<u16>() {
        Ok(number) if number > 0 => Ok((names::host(host)?, number)),
        _ => Err(format!("{port:?} is not a port; write a number from 1 to 65535")),
    }
}
