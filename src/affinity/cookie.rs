//! The affinity cookie: an opaque value that names a pod to holders of the key.
//!
//! The value is the start of an HMAC over the names of pool and pod, and shows neither. Without the
//! key, no client can make another pod's value. Every replica with the same ring reads it, and
//! nothing is stored for it. A change of pods makes new values; a request costs one look-up.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cookie::Cookie;
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderValue, header};
use sha2::Sha256;

use super::Secret;
use crate::pod::{Pod, PodId};

/// The cookie of a sign-in to the admin listener. Browsers send it to every port of its host, so it
/// comes to the listeners for clients too. No pod may get it.
pub const OF_ADMIN: &str = "jellypin_admin";

/// The cookie's name and attributes.
#[derive(Clone, Debug)]
pub struct CookieConfig {
    /// Default `jellyfin_server_id`.
    pub name: String,
    /// Default `true`.
    pub http_only: bool,
    /// Default `Strict`.
    pub same_site: SameSite,
    /// Default `Auto`.
    pub secure: Secure,
    /// Default `/`.
    pub path: String,
    /// Default none: the cookie belongs to the host that was called.
    pub domain: Option<String>,
    /// Default none: the cookie ends with the browser's session.
    pub max_age: Option<Duration>,
    /// Default `false`.
    pub partitioned: bool,
}

/// With which cross-site requests a browser sends the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// With none.
    Strict,
    /// With those that follow a link.
    Lax,
    /// With all; browsers demand `Secure` for it.
    None,
}

/// When the `Secure` attribute is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// When the client itself came over TLS, as far as jellypin can know.
    Auto,
    /// On every answer: a proxy before this one speaks TLS, but is not trusted to say so.
    Always,
    /// On none.
    Never,
}

/// The cookies of one set of pods.
#[derive(Debug)]
pub struct Cookies {
    name: Arc<str>,
    secure: Secure,
    pods: HashMap<Box<[u8]>, CookieClaim, ahash::RandomState>,
    set: HashMap<PodId, SetCookie, ahash::RandomState>,
}

/// What a request's cookie says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentCookie {
    /// The pod that it names, if it names one.
    pub claim: Option<CookieClaim>,
    /// Whether the client sends the cookie, whatever its value.
    pub is_sent: bool,
}

/// What a cookie's value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieClaim {
    pub pod: PodId,
    /// Made with the newest key; otherwise the cookie must be set again.
    pub is_current: bool,
}

#[derive(Debug)]
struct SetCookie {
    plain: HeaderValue,
    secure: HeaderValue,
}

impl Cookies {
    /// The cookies for these pods under this ring of keys, newest first.
    pub fn new(config: &CookieConfig, keys: &[Secret], pods: &[Arc<Pod>]) -> Cookies {
        let mut named = HashMap::default();
        let mut set = HashMap::default();
        for pod in pods {
            for (age, key) in keys.iter().enumerate().rev() {
                let value = value(key, pod);
                if age == 0 {
                    set.insert(pod.id, SetCookie::new(config, &value));
                }
                named.insert(value.into_bytes().into(), CookieClaim { pod: pod.id, is_current: age == 0 });
            }
        }
        Cookies { name: config.name.as_str().into(), secure: config.secure, pods: named, set }
    }

    /// What the request's cookie says. If a client sends several, the first that names a pod counts;
    /// the rest are ignored.
    pub fn read(&self, headers: &HeaderMap) -> SentCookie {
        let mut sent = SentCookie::default();
        for pair in headers.get_all(header::COOKIE).into_iter().flat_map(|line| pairs(line.as_bytes())) {
            let Some(value) = ours(pair, &self.name) else { continue };
            sent.is_sent = true;
            let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
            if let Some(claim) = self.pods.get(bare) {
                sent.claim = Some(*claim);
                break;
            }
        }
        sent
    }

    /// The `Set-Cookie` value that binds a client to this pod.
    pub fn bind(&self, pod: PodId, over_tls: bool) -> Option<HeaderValue> {
        let cookie = self.set.get(&pod)?;
        let secure = match self.secure {
            Secure::Auto => over_tls,
            Secure::Always => true,
            Secure::Never => false,
        };
        Some(if secure { cookie.secure.clone() } else { cookie.plain.clone() })
    }
}

impl SetCookie {
    fn new(config: &CookieConfig, value: &str) -> SetCookie {
        let attributes = |secure| {
            let mut cookie = Cookie::build((config.name.as_str(), value))
                .path(config.path.as_str())
                .http_only(config.http_only)
                .secure(secure)
                .partitioned(config.partitioned)
                .same_site(match config.same_site {
                    SameSite::Strict => cookie::SameSite::Strict,
                    SameSite::Lax => cookie::SameSite::Lax,
                    SameSite::None => cookie::SameSite::None,
                });
            if let Some(domain) = &config.domain {
                cookie = cookie.domain(domain.as_str());
            }
            if let Some(max_age) = config.max_age {
                cookie = cookie.max_age(max_age.try_into().unwrap_or(cookie::time::Duration::MAX));
            }
            cookie.build().to_string()
        };
        // `config` has checked that name, path and domain are cookie text.
        let header = |secure| HeaderValue::try_from(attributes(secure)).unwrap_or(HeaderValue::from_static(""));
        SetCookie { plain: header(false), secure: header(true) }
    }
}

/// 128 bits of HMAC-SHA256 in 22 letters.
fn value(key: &Secret, pod: &Pod) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.bytes()) else { return String::new() };
    for part in ["jellypin affinity", &pod.pool, &pod.name] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..16])
}

/// Removes these cookies from the request's head; all others stay as they are. HTTP/2 may split
/// `Cookie` into several fields; pods get one (RFC 9113, 8.2.3).
pub fn strip(headers: &mut HeaderMap, names: &[&str]) {
    let (mut lines, mut is_there) = (0, false);
    let mut others: Vec<&[u8]> = Vec::new();
    for line in headers.get_all(header::COOKIE) {
        lines += 1;
        for pair in pairs(line.as_bytes()) {
            match names.iter().any(|name| ours(pair, name).is_some()) {
                true => is_there = true,
                false => others.push(pair),
            }
        }
    }
    if !is_there && lines <= 1 {
        return;
    }
    // Parts of valid header values make a valid one.
    match HeaderValue::from_bytes(&others.join(&b"; "[..])) {
        Ok(others) if !others.is_empty() => drop(headers.insert(header::COOKIE, others)),
        _ => drop(headers.remove(header::COOKIE)),
    }
}

/// The pairs of a `Cookie` line. Attributes that a client returns by mistake count as pairs.
fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b';', line).chain([line.len()]);
    let pairs = ends.scan(0, |start, end| line.get(std::mem::replace(start, end + 1)..end));
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

fn ours<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::PodConfig;

    fn config() -> CookieConfig {
        CookieConfig {
            name: "jellyfin_server_id".into(),
            http_only: true,
            same_site: SameSite::Strict,
            secure: Secure::Auto,
            path: "/".into(),
            domain: None,
            max_age: None,
            partitioned: false,
        }
    }

    fn pods() -> Vec<Arc<Pod>> {
        let pool: Arc<str> = "pool".into();
        let pod = |name: &str| {
            Pod::new(&pool, &PodConfig { name: name.into(), authority: format!("{name}:80"), ..Default::default() })
        };
        vec![pod("alpha"), pod("beta")]
    }

    fn key(text: &str) -> Secret {
        Secret::new(text)
    }

    fn value_of(set_cookie: &HeaderValue) -> String {
        let text = set_cookie.to_str().expect("text");
        text.split(';').next().expect("a pair").to_owned()
    }

    fn with_cookie(line: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(line).expect("a header"))])
    }

    #[test]
    fn a_cookie_names_its_pod_and_shows_neither_name_nor_address() {
        let pods = pods();
        let cookies = Cookies::new(&config(), &[key("one")], &pods);
        for pod in &pods {
            let set = cookies.bind(pod.id, false).expect("a cookie");
            let pair = value_of(&set);
            assert_eq!(set.to_str().unwrap(), format!("{pair}; HttpOnly; SameSite=Strict; Path=/"));
            let claim = cookies.read(&with_cookie(&pair)).claim;
            assert_eq!(claim, Some(CookieClaim { pod: pod.id, is_current: true }));
            assert!(!pair.contains(&*pod.name));
        }
        assert!(cookies.bind(pods[0].id, true).unwrap().to_str().unwrap().contains("; Secure"));
    }

    #[test]
    fn a_rotated_key_moves_nobody() {
        let pods = pods();
        let old = Cookies::new(&config(), &[key("old")], &pods);
        let pair = value_of(&old.bind(pods[1].id, false).unwrap());
        let both = Cookies::new(&config(), &[key("new"), key("old")], &pods);
        let claim = both.read(&with_cookie(&pair)).claim;
        assert_eq!(claim, Some(CookieClaim { pod: pods[1].id, is_current: false }));
        let forgotten = Cookies::new(&config(), &[key("new")], &pods);
        assert_eq!(forgotten.read(&with_cookie(&pair)), SentCookie { claim: None, is_sent: true });
    }

    #[test]
    fn reading_survives_attributes_sent_back_duplicates_and_junk() {
        let pods = pods();
        let cookies = Cookies::new(&config(), &[key("one")], &pods);
        let pair = value_of(&cookies.bind(pods[0].id, false).unwrap());
        for line in [
            format!("{pair}; Path=/; HttpOnly; SameSite=Strict"),
            format!("a=b;{pair}"),
            format!("jellyfin_server_id=junk; {pair}"),
            format!(";;; =; jellyfin_server_id; {pair};"),
            pair.replace('=', "=\"") + "\"",
        ] {
            let claim = cookies.read(&with_cookie(&line)).claim;
            assert_eq!(claim.map(|named| named.pod), Some(pods[0].id), "{line}");
        }
        for (line, is_sent) in [
            ("", false),
            ("jellyfin_server_id=", true),
            ("jellyfin_server_id=alpha", true),
            ("xjellyfin_server_id=1", false),
        ] {
            assert_eq!(cookies.read(&with_cookie(line)), SentCookie { claim: None, is_sent }, "{line}");
        }
    }

    #[test]
    fn only_our_own_cookie_is_taken_out() {
        let rows = [
            ("jellyfin_server_id=x", None),
            ("a=b; jellyfin_server_id=x; c=d", Some("a=b; c=d")),
            ("a=b;c=d", Some("a=b;c=d")),
            ("xjellyfin_server_id=1", Some("xjellyfin_server_id=1")),
        ];
        for (line, left) in rows {
            let mut headers = with_cookie(line);
            strip(&mut headers, &["jellyfin_server_id"]);
            assert_eq!(headers.get(header::COOKIE).map(|value| value.to_str().unwrap()), left, "{line}");
        }
    }

    #[test]
    fn a_pod_gets_one_line_whatever_the_client_sent() {
        let lines = |lines: &[&'static str]| {
            let line = |line: &&'static str| (header::COOKIE, HeaderValue::from_static(line));
            let mut headers = HeaderMap::from_iter(lines.iter().map(line));
            strip(&mut headers, &["jellyfin_server_id"]);
            let left = headers.get_all(header::COOKIE).iter().map(|line| line.to_str().unwrap().to_owned());
            left.collect::<Vec<_>>()
        };
        assert_eq!(lines(&["a=b", "jellyfin_server_id=x", "c=d"]), ["a=b; c=d"]);
        assert_eq!(lines(&["a=b", "c=d; e=f"]), ["a=b; c=d; e=f"]);
        assert!(lines(&["jellyfin_server_id=x", "jellyfin_server_id=y"]).is_empty());
    }
}
