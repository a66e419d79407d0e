//! Who may use a route to a service that does not ask by itself. Pure.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::passwords::PasswordHash;

/// Who decides whether a request may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// jellypin, by these users' passwords.
    Basic(BTreeMap<String, PasswordHash>),
    /// Another server.
    Forward(ForwardAuth),
}

/// A server that is asked about each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardAuth {
    pub address: Uri,
    /// What the service behind is told of its answer, and of nobody else's.
    pub copy_headers: Vec<HeaderName>,
}

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// The user and the password that a request names, if it names one.
pub fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let (scheme, encoded) = line.to_str().ok()?.split_once(' ')?;
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = memchr::memchr(b':', &decoded)?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

impl ForwardAuth {
    /// The headers of the question about a request, whose head is prepared for pods. They are the
    /// request's own, but for what concerns its body, its answer's body, or a protocol.
    pub fn question(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> HeaderMap {
        let mut question = headers.clone();
        let is_wanted = |name: &HeaderName| {
            let name = name.as_str();
            let is_conditional = name.starts_with("if-") || matches!(name, "range" | "expect" | "te" | "trailer");
            !is_conditional && !name.starts_with("content-") && !name.starts_with("sec-websocket-") && name != "host"
        };
        let unwanted: Vec<HeaderName> = headers.keys().filter(|name| !is_wanted(name)).cloned().collect();
        for name in unwanted {
            question.remove(name);
        }
        // Of a request with very many fields this one was left out.
        if let Some(host) = headers.get(header::HOST).filter(|_| !question.contains_key(FORWARDED_HOST)) {
            question.insert(FORWARDED_HOST, host.clone());
        }
        // A method and a target that were received are header values too.
        if let Ok(method) = HeaderValue::from_str(method.as_str()) {
            question.insert(FORWARDED_METHOD, method);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        if let Ok(target) = HeaderValue::from_str(target) {
            question.insert(FORWARDED_URI, target);
        }
        question
    }

    /// Puts what the server says into a request that may pass. What the client itself said there goes
    /// first, in each form that a service could read as the same name.
    pub fn copy(&self, answer: &HeaderMap, headers: &mut HeaderMap) {
        let is_copied =
            |name: &HeaderName| self.copy_headers.iter().any(|copied| plain(copied.as_str()).eq(plain(name.as_str())));
        let claimed: Vec<HeaderName> = headers.keys().filter(|name| is_copied(name)).cloned().collect();
        for name in claimed {
            headers.remove(name);
        }
        for name in &self.copy_headers {
            for value in answer.get_all(name) {
                let mut value = value.clone();
                value.set_sensitive(name == header::AUTHORIZATION);
                headers.append(name, value);
            }
        }
    }
}

/// A name as CGI and its heirs read it: they make one of `-` and `_`.
fn plain(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn credentials_are_read_from_one_line_of_the_basic_scheme() {
        let of = |value: &str| credentials(&headers(&[("authorization", value)]));
        // alice:pw:x
        assert_eq!(of("basic YWxpY2U6cHc6eA=="), Some(("alice".into(), b"pw:x".to_vec())));
        for none in ["Bearer YWxpY2U6cHc6eA==", "Basic", "Basic ?", "Basic YWxpY2U=", ""] {
            assert_eq!(of(none), None, "{none}");
        }
        let line = "Basic YWxpY2U6cHc6eA==";
        assert_eq!(credentials(&headers(&[("authorization", line), ("authorization", line)])), None);
        assert_eq!(credentials(&HeaderMap::new()), None);
    }

    #[test]
    fn a_client_cannot_say_what_the_server_is_to_say() {
        let auth = ForwardAuth {
            address: Uri::from_static("http://h/verify"),
            copy_headers: vec![HeaderName::from_static("remote-user"), HeaderName::from_static("remote-groups")],
        };
        let mut request = headers(&[
            ("remote-user", "root"),
            ("remote_user", "root"),
            ("remote_groups", "admins"),
            ("remote-name", "kept"),
        ]);
        auth.copy(&headers(&[("remote-user", "alice"), ("x-other", "y")]), &mut request);
        assert_eq!(request, headers(&[("remote-name", "kept"), ("remote-user", "alice")]));
    }

    #[test]
    fn the_question_names_the_request_and_leaves_its_body_out() {
        let auth = ForwardAuth { address: Uri::from_static("http://h/verify"), copy_headers: Vec::new() };
        let request = headers(&[
            ("host", "wiki.example.org"),
            ("cookie", "session=1"),
            ("content-length", "7"),
            ("if-none-match", "x"),
            ("sec-websocket-key", "x"),
            ("x-forwarded-uri", "/harmless"),
        ]);
        let question = auth.question(&Method::POST, &Uri::from_static("/edit?a=b"), &request);
        let expected = [
            ("cookie", "session=1"),
            ("x-forwarded-host", "wiki.example.org"),
            ("x-forwarded-method", "POST"),
            ("x-forwarded-uri", "/edit?a=b"),
        ];
        assert_eq!(question, headers(&expected));
    }
}
