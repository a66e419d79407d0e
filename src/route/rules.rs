//! What a route asks of a request, and what it changes of it and of its answer. Pure.

use std::{borrow::Cow, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use ipnet::IpNet;

use super::auth::Auth;

/// What a route does beside leading somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The clients that are let in. Empty: all.
    pub allow: Vec<IpNet>,
    /// Changes of a request, as pods get it.
    pub request: HeaderChanges,
    /// Changes of an answer, as clients get it.
    pub response: HeaderChanges,
    /// Who decides about each request. Only for routes to pools that are not Jellyfin's.
    pub auth: Option<Auth>,
}

/// Fields that are set, or that are taken away where there is no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges(pub Vec<(HeaderName, Option<HeaderValue>)>);

impl Rules {
    /// Whether a client with this address is let in.
    pub fn admits(&self, address: IpAddr) -> bool {
        self.allow.is_empty() || is_in(&self.allow, address)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Rules::default()
    }
}

impl HeaderChanges {
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            match value {
                Some(value) => drop(headers.insert(name, value.clone())),
                None => drop(headers.remove(name)),
            }
        }
    }
}

/// Whether one of these networks has the address.
pub fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// The address that a redirect names: `to`, then what of the path is below the route's prefix, then
/// the query.
pub fn redirected(to: &str, prefix: &str, uri: &Uri) -> String {
    let rest = match uri.path().split_at_checked(prefix.len()) {
        // Else it would go on with the name of the host.
        Some((start, rest)) if start.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/')) => rest,
        // The prefix is written in another form (`%XX`): what is below it cannot be told apart.
        _ => "",
    };
    // To the root of the same host: two slashes in a row would begin another host's name.
    let rest = match to {
        "" => Cow::Owned(format!("/{}", rest.trim_start_matches(['/', '\\']))),
        _ => Cow::Borrowed(rest),
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{to}{rest}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_keeps_what_is_below_the_route() {
        for (to, prefix, uri, expected) in [
            ("https://h", "", "/a/b?c=d", "https://h/a/b?c=d"),
            ("https://h/new", "/old", "/OLD/b", "https://h/new/b"),
            ("/jellyfin", "", "/", "/jellyfin/"),
            ("/jellyfin", "", "//evil.example", "/jellyfin//evil.example"),
            ("https://h", "/old", "/%6fld/b?c", "https://h?c"),
            ("https://h", "/old", "/old", "https://h"),
            ("https://h", "/old", "/old.evil.example/../old/x", "https://h"),
            ("https://h", "/old", "/old@evil.example/../old/x", "https://h"),
            ("", "/old", "/old//evil.example/x", "/evil.example/x"),
            ("", "/old", "/old/\\evil.example", "/evil.example"),
            ("", "/old", "/old?a", "/?a"),
        ] {
            assert_eq!(redirected(to, prefix, &uri.parse().expect("a target")), expected, "{uri}");
        }
    }

    #[test]
    fn an_address_is_let_in_whatever_its_form() {
        let rules = Rules { allow: vec!["10.0.0.0/8".parse().expect("a network")], ..Rules::default() };
        let admits = |address: &str| rules.admits(address.parse().expect("an address"));
        assert!(admits("10.1.2.3") && admits("::ffff:10.1.2.3"));
        assert!(!admits("192.0.2.1") && !admits("::1"));
        assert!(Rules::default().admits("192.0.2.1".parse().expect("an address")));
    }
}
