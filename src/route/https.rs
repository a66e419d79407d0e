//! Where a request in clear is sent to, so that it comes again over https. Pure.

use http::{Uri, uri::Authority};

/// Sends requests in clear to https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToHttps {
    /// The port of https as clients see it.
    pub port: u16,
    /// Whether apps that look for a server by http are answered in clear.
    pub spares_discovery: bool,
}

/// Certificate authorities ask here, in clear (RFC 8555, 8.3).
pub const ACME: &str = "/.well-known/acme-challenge/";

/// What apps ask first at an address that a user typed.
const DISCOVERY: &str = "/system/info/public";

impl ToHttps {
    /// The address over https: the same host, path and query. `None` if the request is to be
    /// answered in clear, or names no host.
    pub fn location(&self, host: Option<&str>, target: &Uri) -> Option<String> {
        let path = target.path();
        let is_discovery = || path.trim_end_matches('/').to_ascii_lowercase().ends_with(DISCOVERY);
        if path.starts_with(ACME) || (self.spares_discovery && is_discovery()) {
            return None;
        }
        let authority = host?.parse::<Authority>().ok().filter(|authority| !authority.as_str().contains('@'))?;
        let port = if self.port == 443 { String::new() } else { format!(":{}", self.port) };
        let query = target.query().map_or(String::new(), |query| format!("?{query}"));
        Some(format!("https://{}{port}{path}{query}", authority.host()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_clear_keeps_its_host_path_and_query() {
        let at = |port, host, target: &str| {
            let to = ToHttps { port, spares_discovery: false };
            to.location(host, &target.parse().expect("a target"))
        };
        let host = Some("media.example.org");
        assert_eq!(at(443, host, "/web/?a=1&b=%20#x"), Some("https://media.example.org/web/?a=1&b=%20".into()));
        assert_eq!(at(8920, Some("media.example.org:8096"), "/"), Some("https://media.example.org:8920/".into()));
        assert_eq!(at(443, Some("[::1]:80"), "/"), Some("https://[::1]/".into()));
        assert_eq!(at(443, host, "/System/Info/Public"), Some("https://media.example.org/System/Info/Public".into()));
        assert_eq!(at(443, host, "/.well-known/acme-challenge/token"), None);
        for none in [None, Some(""), Some("a b"), Some("user@host")] {
            assert_eq!(at(443, none, "/"), None, "{none:?}");
        }
    }

    #[test]
    fn apps_may_look_for_a_server_in_clear() {
        let to = ToHttps { port: 443, spares_discovery: true };
        let is_sent = |target: &str| to.location(Some("h"), &target.parse().expect("a target")).is_some();
        assert!(!is_sent("/System/Info/Public") && !is_sent("/jellyfin/system/info/public/"));
        assert!(is_sent("/System/Info") && is_sent("/web/"));
    }
}
