//! Pure rules for headers on their way through.
//!
//! Hop-by-hop fields (RFC 9110, 7.6.1) end here in both directions. The pod learns of the client
//! what the proxy knows. What a client says of itself counts only from a trusted peer. From a chain
//! of such peers the pod gets one address, so it must trust only this proxy. `Host` and
//! `User-Agent` pass unchanged: Jellyfin keys its transcodes by the User-Agent.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;

use crate::{hop, limits::AddressUse};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Hop-by-hop fields besides `Connection` and those that it names. `TE` is handled separately.
fn is_hop_by_hop(name: &str) -> bool {
    // The length rules out most names.
    match name.len() {
        7 => name == "upgrade",
        10 => name == "keep-alive",
        14 => name == "http2-settings",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        18 => name == "proxy-authenticate",
        19 => name == "proxy-authorization",
        _ => false,
    }
}

/// Further fields by which a client could pose as another.
fn is_forwarded_field(name: &str) -> bool {
    match name.len() {
        9 => matches!(name, "forwarded" | "x-real-ip"),
        16 => name == "x-forwarded-port",
        18 => matches!(name, "x-forwarded-server" | "x-forwarded-prefix"),
        _ => false,
    }
}

/// Fields that a request may have without being joined. Kestrel takes 100
/// (`MaxRequestHeaderCount`), and up to three follow: a body's framing or a WebSocket's handshake.
const FIELDS: usize = 97;

/// Fields of which pods read the first line alone, or of which two lines mean something else.
fn is_single(name: &HeaderName) -> bool {
    let is_known = [header::HOST, header::AUTHORIZATION, header::CONTENT_LENGTH, header::CONTENT_TYPE].contains(name);
    is_known || matches!(name.as_str(), "x-emby-authorization" | "x-emby-token" | "x-mediabrowser-token")
}

/// What the proxy knows of a client's connection.
#[derive(Clone, Debug)]
pub struct Client {
    pub address: IpAddr,
    /// The address as a header value, made once for each connection.
    pub address_text: HeaderValue,
    pub over_tls: bool,
    /// The peers whose forwarding headers are believed.
    pub trusted: Arc<[IpNet]>,
    /// The peer is one of them.
    pub is_trusted: bool,
    /// Requests under way from the peer's address. `None` for a trusted peer, which has many
    /// clients.
    pub in_use: Option<Arc<AddressUse>>,
}

impl Client {
    /// Whether this address is a trusted peer.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }
}

/// The client's own address: behind trusted peers, the last of `X-Forwarded-For` that is not one.
pub fn origin(headers: &HeaderMap, client: &Client) -> IpAddr {
    if !client.is_trusted {
        return client.address;
    }
    let lines = headers.get_all(FORWARDED_FOR).iter().rev().filter_map(|line| line.to_str().ok());
    let hops = lines.flat_map(|line| line.rsplit(',')).map_while(|hop| address_of(hop.trim()));
    let stranger = hops.map(|hop| hop.to_canonical()).find(|hop| !client.trusts(*hop));
    stranger.unwrap_or(client.address)
}

/// Whether the client itself came over TLS, as far as jellypin can know.
pub fn is_https(headers: &HeaderMap, client: &Client) -> bool {
    if client.is_trusted
        && let Some(proto) = headers.get(FORWARDED_PROTO)
    {
        // The first of several is the one nearest to the client.
        let first = proto.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        // Some proxies name the protocol of a socket (`wss`), not that of its request.
        return first.eq_ignore_ascii_case(b"https") || first.eq_ignore_ascii_case(b"wss");
    }
    client.over_tls
}

/// The host that the client itself called, as far as jellypin can know.
pub fn requested_host<'a>(headers: &'a HeaderMap, client: &Client) -> Option<&'a str> {
    let claimed = headers.get(FORWARDED_HOST).filter(|_| client.is_trusted);
    // The first of several is the one nearest to the client.
    claimed.or_else(|| headers.get(header::HOST))?.to_str().ok()?.split(',').next().map(str::trim)
}

/// Prepares a request's head for the pods. `Host` must be there already. A head that is prepared
/// stays as it is when it is prepared again.
pub fn to_pod(headers: &mut HeaderMap, client: &Client) {
    remove_connection(headers);
    let mut has_te = false;
    let mut has_via = false;
    remove_all(headers, |name| {
        has_te |= name == "te";
        has_via |= name == "via";
        is_hop_by_hop(name) || is_forwarded_field(name)
    });
    if has_te
        && let Some(te) = headers.remove(header::TE)
        && te.as_bytes().to_ascii_lowercase().starts_with(b"trailers")
    {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let (address, scheme, host) = if client.is_trusted {
        let address = origin(headers, client).to_string();
        let host = requested_host(headers, client).map(HeaderValue::from_str);
        // An address's text is always a valid header value, and so is a part of one.
        (HeaderValue::try_from(address).ok(), scheme(is_https(headers, client)), host.and_then(Result::ok))
    } else {
        (None, scheme(client.over_tls), headers.get(header::HOST).cloned())
    };
    headers.insert(FORWARDED_FOR, address.unwrap_or_else(|| client.address_text.clone()));
    headers.insert(FORWARDED_PROTO, scheme);
    match host {
        Some(host) => headers.insert(FORWARDED_HOST, host),
        None => headers.remove(FORWARDED_HOST),
    };
    if !has_via {
        headers.insert(header::VIA, hop::mark().clone());
    } else if !hop::comes_round(headers) {
        headers.append(header::VIA, hop::mark().clone());
    }
    if headers.len() > FIELDS {
        join_fields(headers);
    }
    // The mark goes last: without it a loop goes unseen.
    for spare in [FORWARDED_HOST, header::VIA] {
        if headers.len() > FIELDS {
            headers.remove(spare);
        }
    }
}

/// Makes fewer fields of what would be too many for a pod. Without `X-Forwarded-Host` pods read
/// `Host`. Lines of one name mean the same in one line (RFC 9110, 5.3).
fn join_fields(headers: &mut HeaderMap) {
    if headers.get(FORWARDED_HOST) == headers.get(header::HOST) {
        headers.remove(FORWARDED_HOST);
    }
    let repeated = |name: &&HeaderName| !is_single(name) && headers.get_all(*name).iter().nth(1).is_some();
    let names: Vec<HeaderName> = headers.keys().filter(repeated).cloned().collect();
    for name in names {
        let lines: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        // HTTP/2 may split cookies into fields of their own (RFC 9113, 8.2.3).
        let between = if name == header::COOKIE { &b"; "[..] } else { &b", "[..] };
        // Parts of valid header values make a valid one.
        if let Ok(joined) = HeaderValue::from_bytes(&lines.join(between)) {
            headers.insert(name, joined);
        }
    }
}

/// Prepares an answer's head for the client.
pub fn to_client(headers: &mut HeaderMap) {
    remove_connection(headers);
    remove_all(headers, is_hop_by_hop);
}

/// Removes `Connection`, and the fields that it names.
fn remove_connection(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::CONNECTION).iter();
    let Some(first) = lines.next() else { return };
    // The usual values name only fields that are removed anyway.
    let usual: [&[u8]; 3] = [b"keep-alive", b"close", b"upgrade"];
    if lines.next().is_some() || !usual.iter().any(|value| first.as_bytes().eq_ignore_ascii_case(value)) {
        remove_named(headers);
    }
    headers.remove(header::CONNECTION);
}

/// Removes these fields. Scanning the present names is cheaper than a look-up for each candidate.
fn remove_all(headers: &mut HeaderMap, mut is_unwanted: impl FnMut(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| is_unwanted(name.as_str())).cloned() {
        headers.remove(name);
    }
}

/// Removes the fields that `Connection` names.
fn remove_named(headers: &mut HeaderMap) {
    let lines = headers.get_all(header::CONNECTION).iter();
    let named: Vec<HeaderName> = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_kept(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// What the message itself depends on, and what a trusted peer says of the client: the client may have
/// written the `Connection` that the peer passed on.
fn is_kept(name: &HeaderName) -> bool {
    [&header::HOST, &header::CONTENT_LENGTH, &header::TE, &FORWARDED_FOR, &FORWARDED_PROTO, &FORWARDED_HOST]
        .contains(&name)
}

fn scheme(over_tls: bool) -> HeaderValue {
    HeaderValue::from_static(if over_tls { "https" } else { "http" })
}

/// An address as proxies write it: bare or with a port (`198.51.100.7:4711`, `[2001:db8::7]:4711`).
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    bare.parse().or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in pairs.iter().map(parse) {
            map.append(name, value);
        }
        map
    }

    fn client(is_trusted: bool) -> Client {
        Client {
            address: [192, 0, 2, 7].into(),
            address_text: HeaderValue::from_static("192.0.2.7"),
            over_tls: false,
            trusted: Arc::from(["192.0.2.0/24".parse::<IpNet>().expect("a network")]),
            is_trusted,
            in_use: None,
        }
    }

    #[test]
    fn behind_trusted_peers_the_client_is_the_last_stranger() {
        let origin_of = |chain: &str| origin(&headers(&[("x-forwarded-for", chain)]), &client(true));
        assert_eq!(origin_of("203.0.113.9, 198.51.100.1, 192.0.2.9"), IpAddr::from([198, 51, 100, 1]));
        assert_eq!(origin_of("198.51.100.1:4711, 192.0.2.9"), IpAddr::from([198, 51, 100, 1]), "a port is no matter");
        assert_eq!(origin_of("[2001:db8::7]:4711").to_string(), "2001:db8::7");
        assert_eq!(origin_of("[2001:db8::7]").to_string(), "2001:db8::7");
        assert_eq!(origin_of("192.0.2.9"), IpAddr::from([192, 0, 2, 7]), "nobody but trusted peers: the peer itself");
        assert_eq!(origin_of("198.51.100.1, junk, 192.0.2.9"), IpAddr::from([192, 0, 2, 7]), "junk hides the rest");
        let stranger = Client { is_trusted: false, ..client(true) };
        assert_eq!(origin(&headers(&[("x-forwarded-for", "198.51.100.1")]), &stranger), IpAddr::from([192, 0, 2, 7]));
    }

    /// The fields in order, but for the mark of this process.
    fn lines(map: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut lines: Vec<_> = map.iter().map(line).collect();
        lines.retain(|line| !line.starts_with("via: 1.1 jellypin-"));
        lines.sort();
        lines
    }

    fn sent(pairs: &[(&str, &str)], is_trusted: bool) -> Vec<String> {
        let mut map = headers(pairs);
        to_pod(&mut map, &client(is_trusted));
        let once = map.clone();
        to_pod(&mut map, &client(is_trusted));
        assert_eq!(map, once);
        lines(&map)
    }

    #[test]
    fn hop_by_hop_fields_end_here_and_so_do_those_that_connection_names() {
        let request = [
            ("host", "h"),
            ("connection", "X-Secret, keep-alive, Host, content-length"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers, deflate"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("proxy-authorization", "x"),
            ("content-length", "3"),
            ("user-agent", "Player/1"),
        ];
        let expected = [
            "content-length: 3",
            "host: h",
            "te: trailers",
            "user-agent: Player/1",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-host: h",
            "x-forwarded-proto: http",
        ];
        assert_eq!(sent(&request, false), expected);
    }

    #[test]
    fn too_many_fields_become_fewer_and_cookies_stay_cookies() {
        let cookies = [("cookie", "a=b"); 97];
        let request = [&[("host", "h"), ("accept", "x"), ("accept", "y")][..], &cookies[..]].concat();
        let expected = [
            "accept: x, y",
            &format!("cookie: {}", ["a=b"; 97].join("; ")),
            "host: h",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-proto: http",
        ];
        let mut map = headers(&request);
        to_pod(&mut map, &client(false));
        assert_eq!(lines(&map), expected);
        assert!(map.len() <= FIELDS, "with the mark");
    }

    #[test]
    fn a_stranger_cannot_pose_as_another() {
        let request = [
            ("host", "h"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
        ];
        assert_eq!(
            sent(&request, false),
            ["host: h", "x-forwarded-for: 192.0.2.7", "x-forwarded-host: h", "x-forwarded-proto: http"]
        );
        assert!(!is_https(&headers(&request), &client(false)));
    }

    #[test]
    fn of_a_chain_of_trusted_peers_the_pod_is_told_the_client() {
        let request = [
            ("host", "h"),
            ("x-forwarded-for", "10.9.9.9, 198.51.100.1, 192.0.2.9"),
            ("x-forwarded-proto", "https, http"),
            ("x-forwarded-host", "media.example.org, middle"),
            ("x-forwarded-port", "8443"),
            ("x-real-ip", "10.9.9.9"),
        ];
        let expected = [
            "host: h",
            "x-forwarded-for: 198.51.100.1",
            "x-forwarded-host: media.example.org",
            "x-forwarded-proto: https",
        ];
        assert_eq!(sent(&request, true), expected);
        assert!(is_https(&headers(&request), &client(true)));
    }

    #[test]
    fn a_client_cannot_take_away_what_a_trusted_peer_says() {
        let request = [
            ("host", "h"),
            ("connection", "close, X-Forwarded-For, x-forwarded-proto"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-proto", "https"),
        ];
        let expected = ["host: h", "x-forwarded-for: 198.51.100.1", "x-forwarded-host: h", "x-forwarded-proto: https"];
        assert_eq!(sent(&request, true), expected);
    }

    #[test]
    fn a_socket_that_trusted_peers_call_encrypted_came_over_tls() {
        for (proto, is_tls) in [("wss", true), ("WSS, http", true), ("https", true), ("ws", false), ("http", false)] {
            let request = [("host", "h"), ("x-forwarded-proto", proto)];
            assert_eq!(is_https(&headers(&request), &client(true)), is_tls, "{proto}");
            assert!(!is_https(&headers(&request), &client(false)), "{proto}");
            let expected = if is_tls { "x-forwarded-proto: https" } else { "x-forwarded-proto: http" };
            assert!(sent(&request, true).iter().any(|line| line == expected), "{proto}");
        }
    }

    #[test]
    fn the_host_that_was_called_is_told_by_trusted_peers_only() {
        let request = headers(&[("host", "inner"), ("x-forwarded-host", "media.example.org:8443, middle")]);
        assert_eq!(requested_host(&request, &client(true)), Some("media.example.org:8443"));
        assert_eq!(requested_host(&request, &client(false)), Some("inner"));
        assert_eq!(requested_host(&headers(&[("host", "inner")]), &client(true)), Some("inner"));
        assert_eq!(requested_host(&headers(&[]), &client(true)), None);
    }
}
