//! Decides who may use the admin listener; pure.
//!
//! Any page in an operator's browser could reach this listener. It may use a host name of its own
//! (DNS rebinding); the host check stops that. It may send a form; the origin check stops that. A
//! stranger who connects directly is only stopped by a private address or a token.
//!
//! `/live` and `/ready` answer anyone under any host: probes use any address, and learn one word.

use std::{fmt, net::IpAddr};

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, uri::Authority};
use subtle::ConstantTimeEq;

use super::{
    Config,
    answer::{Answer, text},
    dashboard::STYLE_PATH,
};
use crate::affinity::Secret;

/// Who uses the listener, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// No token is configured, so nobody is asked.
    Anyone,
    /// By the token, as a program sends it.
    Token,
    /// By a sign-in, under this name.
    SignedIn(String),
    /// Nobody yet: only what leads to a sign-in is open.
    Stranger,
}

/// Why the listener refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It names a host that is not this listener's.
    ForeignHost,
    /// A page of another origin sends it.
    ForeignOrigin,
    /// It has no token, or a wrong one.
    NoToken,
    /// No pod says whether who signed in is still an administrator.
    NoPod,
}

/// Judges a request. `called_at`: the address at which its connection came in. `signed_in`: whose
/// cookie it has.
pub(super) fn admit<B>(
    request: &Request<B>,
    called_at: Option<IpAddr>,
    config: &Config,
    signed_in: Option<String>,
) -> Result<Operator, Refusal> {
    let is_probe = matches!(request.uri().path(), "/live" | "/ready");
    if is_probe && (request.method() == Method::GET || request.method() == Method::HEAD) {
        return Ok(Operator::Stranger);
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let mut hosts = host.iter().chain(request.uri().authority());
    if host.is_none() || !hosts.all(|host| is_own(host, called_at, config)) {
        return Err(Refusal::ForeignHost);
    }
    if *request.method() == Method::POST && !is_of_same_origin(request.headers(), host.as_ref()) {
        return Err(Refusal::ForeignOrigin);
    }
    let Some(token) = &config.token else { return Ok(Operator::Anyone) };
    if shows(request.headers(), token) {
        return Ok(Operator::Token);
    }
    match signed_in {
        // Browsers send the cookie by themselves, and say where a POST comes from.
        Some(_) if *request.method() == Method::POST && !says_origin(request.headers()) => Err(Refusal::ForeignOrigin),
        Some(name) => Ok(Operator::SignedIn(name)),
        None if matches!(request.uri().path(), "/sign-in" | STYLE_PATH) => Ok(Operator::Stranger),
        None => Err(Refusal::NoToken),
    }
}

fn says_origin(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-state")
}

/// Whether a host is this listener: a loopback name, the called address, or a configured host.
fn is_own(host: &Authority, called_at: Option<IpAddr>, config: &Config) -> bool {
    let host = host.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if host == "localhost" || config.hosts.contains(&host) {
        return true;
    }
    let Ok(address) = host.parse::<IpAddr>() else { return false };
    let address = address.to_canonical();
    address.is_loopback() || Some(address) == called_at || config.hosts.contains(&address.to_string())
}

/// Browsers say which page sends a POST. Other programs say nothing, and may pass.
fn is_of_same_origin(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let is_own_site = |shared: &HeaderValue| matches!(shared.as_bytes(), b"same-origin" | b"none");
    let is_own_origin = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(scheme, of)| {
            matches!(scheme, "http" | "https") && host.is_some_and(|host| host.as_str().eq_ignore_ascii_case(of))
        })
    };
    headers.get_all("sec-fetch-state").iter().all(is_own_site)
        && headers.get_all(header::ORIGIN).iter().all(is_own_origin)
}

/// Whether the request has the token. The time this takes reveals nothing of a wrong one.
fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Some((scheme, shown)) = line.as_bytes().split_at_checked("Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(shown.trim_ascii().ct_eq(token.bytes()))
}

impl Refusal {
    pub(super) fn response(self) -> Answer {
        match self {
            Refusal::ForeignHost => text(
                StatusCode::MISDIRECTED_REQUEST,
                "Nobody is called by this host here. [admin] hosts names those that are.\n",
            ),
            Refusal::ForeignOrigin => text(StatusCode::FORBIDDEN, "Not for pages of other origins.\n"),
            Refusal::NoToken => {
                let mut answer = text(StatusCode::UNAUTHORIZED, "The token of [admin] is asked for.\n");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                answer
            }
            Refusal::NoPod => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "No Jellyfin server says at the moment whether you are still an administrator. The token works.\n",
            ),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operator::Anyone => "anyone",
            Operator::Token => "token",
            Operator::SignedIn(name) => name,
            Operator::Stranger => "stranger",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(token: Option<&str>) -> Config {
        let hosts = vec!["jellypin.example.org".to_owned(), "2001:db8::1".to_owned()];
        Config { listen: None, hosts, token: token.map(Secret::new), administrators: true }
    }

    fn judged(method: Method, path: &str, headers: &[(&str, &str)], token: Option<&str>) -> Result<(), Refusal> {
        let build = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(build, |build, (name, value)| build.header(*name, *value));
        admitted(&request.body(()).expect("a request"), token, None).map(|_| ())
    }

    fn admitted(request: &Request<()>, token: Option<&str>, signed_in: Option<&str>) -> Result<Operator, Refusal> {
        admit(request, Some([10, 1, 2, 3].into()), &config(token), signed_in.map(str::to_owned))
    }

    #[test]
    fn a_foreign_host_is_turned_away_but_for_probes() {
        for host in [
            "localhost",
            "LOCALHOST:9096",
            "127.0.0.1:9096",
            "127.9.9.9",
            "[::1]:9096",
            "10.1.2.3:9096",
            "jellypin.example.org:9096",
            "[2001:db8::1]",
        ] {
            assert_eq!(judged(Method::GET, "/pods", &[("host", host)], None), Ok(()), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "10.1.2.4:9096", "localhost.evil", "", "a b"] {
            assert_eq!(judged(Method::GET, "/pods", &[("host", host)], None), Err(Refusal::ForeignHost), "{host}");
            assert_eq!(judged(Method::GET, "/live", &[("host", host)], Some("secret")), Ok(()), "{host}");
            assert_eq!(judged(Method::HEAD, "/ready", &[("host", host)], None), Ok(()), "{host}");
            assert!(judged(Method::POST, "/ready", &[("host", host)], None).is_err(), "{host}");
        }
        assert_eq!(judged(Method::GET, "/pods", &[], None), Err(Refusal::ForeignHost));
        let absolute = judged(Method::GET, "http://evil.example/pods", &[("host", "localhost")], None);
        assert_eq!(absolute, Err(Refusal::ForeignHost));
    }

    #[test]
    fn a_post_comes_from_a_page_of_this_listener_or_from_none() {
        let post = |headers: &[(&str, &str)]| {
            judged(Method::POST, "/pods/main/a/drain", &[&[("host", "localhost:9096")], headers].concat(), None)
        };
        for own in [
            &[][..],
            &[("origin", "http://localhost:9096")],
            &[("sec-fetch-state", "same-origin"), ("origin", "http://localhost:9096")],
            &[("sec-fetch-state", "none")],
        ] {
            assert_eq!(post(own), Ok(()), "{own:?}");
        }
        for foreign in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "http://localhost:8096")],
            &[("sec-fetch-state", "cross-state")],
            &[("sec-fetch-state", "same-state")],
            &[("sec-fetch-state", "same-origin"), ("origin", "http://evil.example")],
        ] {
            assert_eq!(post(foreign), Err(Refusal::ForeignOrigin), "{foreign:?}");
        }
    }

    #[test]
    fn the_token_is_asked_for_where_there_is_one() {
        let shown = |authorization: &[(&str, &str)]| {
            let headers = [&[("host", "localhost")], authorization].concat();
            judged(Method::GET, "/pods", &headers, Some("a-secret-of-some-length"))
        };
        assert_eq!(shown(&[("authorization", "Bearer a-secret-of-some-length")]), Ok(()));
        assert_eq!(shown(&[("authorization", "bearer a-secret-of-some-length")]), Ok(()));
        for wrong in
            ["Bearer", "Bearer a-secret-of-some-lengt", "Basic a-secret-of-some-length", "a-secret-of-some-length"]
        {
            assert_eq!(shown(&[("authorization", wrong)]), Err(Refusal::NoToken), "{wrong}");
        }
        assert_eq!(shown(&[]), Err(Refusal::NoToken));
        let twice = [("authorization", "Bearer a-secret-of-some-length"), ("authorization", "Bearer x")];
        assert_eq!(shown(&twice), Err(Refusal::NoToken));
    }
    #[test]
    fn a_sign_in_opens_the_pages_and_its_posts_say_where_they_come_from() {
        let token = Some("a-secret-of-some-length");
        let request = |method: Method, path: &str, origin: Option<&str>| {
            let build = Request::builder().method(method).uri(path).header("host", "localhost:9096");
            let build = origin.into_iter().fold(build, |build, origin| build.header("origin", origin));
            build.body(()).expect("a request")
        };
        let alice = Ok(Operator::SignedIn("alice".into()));
        let own = Some("http://localhost:9096");
        assert_eq!(admitted(&request(Method::GET, "/", None), token, Some("alice")), alice);
        let drain = |origin| request(Method::POST, "/pods/main/a/drain", origin);
        assert_eq!(admitted(&drain(own), token, Some("alice")), alice);
        for foreign in [None, Some("http://localhost:8096"), Some("null")] {
            assert_eq!(admitted(&drain(foreign), token, Some("alice")), Err(Refusal::ForeignOrigin), "{foreign:?}");
        }
        for open in ["/sign-in", STYLE_PATH] {
            assert_eq!(admitted(&request(Method::GET, open, None), token, None), Ok(Operator::Stranger), "{open}");
        }
        assert_eq!(admitted(&request(Method::POST, "/sign-in", own), token, None), Ok(Operator::Stranger));
        let foreign = request(Method::POST, "/sign-in", Some("http://evil.example"));
        assert_eq!(admitted(&foreign, token, None), Err(Refusal::ForeignOrigin));
        for closed in ["/", "/assets/script.js", "/overview/stream", "/explain"] {
            assert_eq!(admitted(&request(Method::GET, closed, None), token, None), Err(Refusal::NoToken), "{closed}");
        }
        assert_eq!(admitted(&drain(None), None, None), Ok(Operator::Anyone), "nobody is asked");
    }
}
