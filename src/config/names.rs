//! Names of hosts, paths, pods and cookies, and suggestions for misspelt names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::value::FromText;
use crate::leader::writer::WriterConfig;

/// The name of a pool or a pod. Logs, metrics and admin pages show it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) String);

/// A DNS name to resolve, without a trailing dot.
pub(super) struct DnsName(pub(super) String);

/// The host of a route in lower case: an exact name, or `*.` and a name.
pub(super) struct RouteHost(pub(super) String);

/// A host by which operators reach the admin API: a name or an address, in lower case, no port.
pub(super) struct AdminHost(pub(super) String);

/// The path of a route: begins with `/` and does not end with one, except the root.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RoutePath(pub(super) String);

/// A path whose requests go to the leader, as do all paths below it.
#[derive(Clone, Debug)]
pub(super) struct LeaderPath(pub(super) String);

/// The path that pods serve under: empty, or begins with `/` and does not end with one.
pub(super) struct BasePath(pub(super) String);

/// The prefix of all keys in Redis.
pub(super) struct KeyPrefix(pub(super) String);

/// The key in Redis by which the pods name their leader. jellypin does not write it.
pub(super) struct LeaderKey(pub(super) String);

/// The pod that writes the catalogue, or how jellypin finds it.
pub(super) struct WriterName(pub(super) WriterConfig);

/// The id that a pod writes into the leader key.
pub(super) struct InstanceId(pub(super) String);

pub(super) struct CookieName(pub(super) String);
pub(super) struct CookiePath(pub(super) String);
pub(super) struct CookieDomain(pub(super) String);

impl FromText for Name {
    const EXPECTED: &'static str = "a name";

    fn from_text(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        match text {
            "" => Err("an empty name".to_owned()),
            _ if text.len() > 64 => Err("a name is at most 64 characters long".to_owned()),
            _ if text.bytes().all(plain) => Ok(Name(text.to_owned())),
            _ => Err("a name is made of letters of ASCII, digits, `-`, `_` and `.`".to_owned()),
        }
    }
}

impl FromText for WriterName {
    const EXPECTED: &'static str = "`auto`, `off` or the name of a pod";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(WriterName(match text {
            "auto" => WriterConfig::Auto,
            "off" => WriterConfig::Off,
            name => WriterConfig::Pod(Name::from_text(name)?.0),
        }))
    }
}

impl Default for KeyPrefix {
    fn default() -> Self {
        KeyPrefix("jellypin".to_owned())
    }
}

impl FromText for KeyPrefix {
    const EXPECTED: &'static str = "a prefix such as \"jellypin\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        match text {
            "" => Err("an empty prefix".to_owned()),
            _ if text.len() > 64 => Err("a prefix is at most 64 characters long".to_owned()),
            _ if text.bytes().all(plain) => Ok(KeyPrefix(text.to_owned())),
            _ => Err("a prefix is made of letters of ASCII, digits, `-`, `_`, `.` and `:`".to_owned()),
        }
    }
}

impl FromText for LeaderKey {
    const EXPECTED: &'static str = "a key such as \"jellyfin:task-leader\"";

    fn from_text(text: &str) -> Result<Self, String> {
        graphic("a key", text, 256).map(LeaderKey)
    }
}

impl FromText for InstanceId {
    const EXPECTED: &'static str = "an instance id";

    fn from_text(text: &str) -> Result<Self, String> {
        graphic("an instance id", text, 128).map(InstanceId)
    }
}

impl FromText for DnsName {
    const EXPECTED: &'static str = "a host name";

    fn from_text(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.parse::<Ipv4Addr>().is_ok() || name.starts_with('[') {
            return Err(format!("{text:?} is no name; an address belongs under `pods`"));
        }
        if name.contains(':') {
            return Err(format!("{text:?} has a port; it belongs in `port`"));
        }
        host(name).map(DnsName)
    }
}

impl FromText for AdminHost {
    const EXPECTED: &'static str = "a host such as \"jellypin.example.org\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(AdminHost(address.to_string()));
        }
        if let Some((host, _)) = text.rsplit_once(':') {
            return Err(format!("{text:?} has a port; it is called at any port, write {host:?}"));
        }
        match RouteHost::from_text(text)?.0 {
            any if any.starts_with("*.") => Err(format!("{text:?} is no single host; write each by itself")),
            host => Ok(AdminHost(host)),
        }
    }
}

impl FromText for RouteHost {
    const EXPECTED: &'static str = "a host such as \"media.example.org\" or \"*.example.org\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if let Some((_, host)) = text.split_once("://") {
            let host = host.split('/').next().unwrap_or_default();
            return Err(format!("a URL; write the host alone: {host:?}"));
        }
        if text.contains('/') {
            return Err(format!("{text:?} has a path; it belongs in the route's `path`"));
        }
        if let Some((host, _)) = text.rsplit_once(':')
            && !text.ends_with(']')
        {
            return Err(format!("{text:?} has a port; a route takes every port, write {host:?}"));
        }
        match text.strip_prefix("*.") {
            Some(domain) if domain.parse::<Ipv4Addr>().is_err() => Ok(RouteHost(format!("*.{}", host(domain)?))),
            _ => host(text).map(RouteHost),
        }
    }
}

impl FromText for RoutePath {
    const EXPECTED: &'static str = "a path such as \"/\" or \"/jellyfin\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let path = path_prefix(text)?;
        Ok(RoutePath(if path.is_empty() { "/".to_owned() } else { path }))
    }
}

impl FromText for LeaderPath {
    const EXPECTED: &'static str = "a path such as \"/api/oidc\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let path = path_prefix(text)?;
        if path.is_empty() {
            return Err("every request; then no other pod would serve anybody".to_owned());
        }
        Ok(LeaderPath(path))
    }
}

impl FromText for BasePath {
    const EXPECTED: &'static str = "a path such as \"/jellyfin\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(BasePath(String::new())) } else { path_prefix(text).map(BasePath) }
    }
}

impl FromText for CookieName {
    const EXPECTED: &'static str = "a cookie's name";

    /// RFC 6265, section 4.1.1: an HTTP token.
    fn from_text(text: &str) -> Result<Self, String> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !text.is_empty() && text.bytes().all(token) {
            return Ok(CookieName(text.to_owned()));
        }
        Err(format!("{text:?} is no name for a cookie; use letters of ASCII, digits, `-` and `_`"))
    }
}

impl FromText for CookiePath {
    const EXPECTED: &'static str = "a path such as \"/\"";

    /// RFC 6265, section 4.1.1: no control character and no semicolon.
    fn from_text(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("{text:?} does not begin with `/`"));
        }
        if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b';') {
            return Ok(CookiePath(text.to_owned()));
        }
        Err(format!("{text:?} has a character that a cookie's path cannot have"))
    }
}

impl FromText for CookieDomain {
    const EXPECTED: &'static str = "a domain such as \"example.org\"";

    fn from_text(text: &str) -> Result<Self, String> {
        host(text).map(CookieDomain)
    }
}

/// A host in lower case: a name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn host(text: &str) -> Result<String, String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| format!("{inner:?} is not an IPv6 address"))?;
        return Ok(format!("[{address}]"));
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        let address: Ipv4Addr = text.parse().map_err(|_| format!("{text:?} is not an IPv4 address"))?;
        return Ok(address.to_string());
    }
    // Host names have no underscores, but service names of containers do.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-');
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("{text:?} is not a host name"))
}

/// A text of printable ASCII without spaces.
fn graphic(what: &str, text: &str, longest: usize) -> Result<String, String> {
    match text {
        "" => Err("is empty".to_owned()),
        _ if text.len() > longest => Err(format!("{what} is at most {longest} characters long")),
        _ if text.bytes().all(|b| b.is_ascii_graphic()) => Ok(text.to_owned()),
        _ => Err(format!("{what} is made of letters of ASCII, digits and signs, without spaces")),
    }
}

/// A path without its trailing slash.
pub(super) fn path_prefix(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} does not begin with `/`"));
    }
    if text.contains("//") || !text.bytes().all(|b| b.is_ascii_graphic() && !b"?#*\\\"<>{}|^`".contains(&b)) {
        return Err(format!("{text:?} is not a plain path: one of its characters cannot stand in it"));
    }
    Ok(text.strip_suffix('/').unwrap_or(text).to_owned())
}

/// "did you mean `…`?", if one of the valid names is similar.
pub(super) fn did_you_mean<'a>(given: &str, valid: impl Iterator<Item = &'a str>) -> Option<String> {
    let given = given.to_lowercase();
    let (distance, name) = valid.map(|name| (strsim::osa_distance(&given, name), name)).min()?;
    let near = name.len().max(given.len()) / 3;
    (distance <= near).then(|| format!("did you mean `{name}`?"))
}

/// "`a`, `b`"
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
