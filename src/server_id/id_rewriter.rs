//! Rewrites ids between one pod and its clients: the pod has its own id, clients see the shown one.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Uri, header, uri::PathAndQuery};

use super::{BodyRewriter, Replacer, ServerId, replacer::Replacement};

/// A pod's own ids and those that clients see, in both directions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IdRewriter {
    /// The server's own id and the shown one, where they differ.
    server: Option<(ServerId, ServerId)>,
    to_client: Arc<Replacement>,
    to_pod: Arc<Replacement>,
}

impl IdRewriter {
    pub(super) fn new(own: ServerId, shown: ServerId) -> IdRewriter {
        let replacement = |id, by| Arc::new(Replacement::new(id, by));
        let (to_client, to_pod) = (replacement(own, shown), replacement(shown, own));
        IdRewriter { server: Some((own, shown)), to_client, to_pod }
    }

    /// For the users' ids of a pod too: what each becomes for the client, and what becomes each for
    /// the pod.
    pub(super) fn with_users(
        server: Option<(ServerId, ServerId)>,
        to_client: &[(ServerId, ServerId)],
        to_pod: &[(ServerId, ServerId)],
    ) -> IdRewriter {
        let back = server.map(|(own, shown)| (shown, own));
        IdRewriter {
            server,
            to_client: Arc::new(Replacement::of_many(server.as_slice(), to_client)),
            to_pod: Arc::new(Replacement::of_many(back.as_slice(), to_pod)),
        }
    }

    /// Whether it replaces the server's id in this way.
    pub(super) fn is_for(&self, server: Option<(ServerId, ServerId)>) -> bool {
        self.server == server
    }

    /// Rewrites a body for the client.
    pub fn to_client(&self) -> BodyRewriter {
        BodyRewriter::new(Replacer::new(self.to_client.clone()))
    }

    /// Rewrites a complete body for the client.
    pub fn whole_to_client(&self, body: Bytes) -> Bytes {
        whole(&self.to_client, body)
    }

    /// Rewrites a complete body for the pod.
    pub fn whole_to_pod(&self, body: Bytes) -> Bytes {
        whole(&self.to_pod, body)
    }

    /// Rewrites a body for the pod.
    pub fn to_pod(&self) -> BodyRewriter {
        BodyRewriter::new(Replacer::new(self.to_pod.clone()))
    }

    /// Path and query as the pod gets them; `None` if they do not change.
    pub fn target_to_pod(&self, target: &Uri) -> Option<Uri> {
        let text = self.to_pod.of_text(target.path_and_query()?.as_str())?;
        // Other hex digits keep a valid target valid.
        PathAndQuery::from_maybe_shared(Bytes::from(text)).ok().map(Uri::from)
    }

    /// Rewrites a text that comes in pieces for the client.
    pub fn pieces_to_client(&self) -> Replacer {
        Replacer::new(self.to_client.clone())
    }

    pub(super) fn text_to_client(&self, text: &str) -> Option<String> {
        self.to_client.of_text(text)
    }

    pub(super) fn text_to_pod(&self, text: &str) -> Option<String> {
        self.to_pod.of_text(text)
    }
}

fn whole(by: &Arc<Replacement>, body: Bytes) -> Bytes {
    let mut replacer = Replacer::new(by.clone());
    let (most, rest) = (replacer.push(body), replacer.finish());
    if rest.is_empty() { most } else { [most, rest].concat().into() }
}

/// Whether a body is JSON, and not compressed.
pub fn is_readable_json(headers: &HeaderMap) -> bool {
    let is_encoded = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
    let is_a_json = kind.last_chunk::<5>().is_some_and(|end| end.eq_ignore_ascii_case(b"+json"));
    !is_encoded && (is_a_json || is("application/json") || is("text/json"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_told_by_its_type_and_must_not_be_compressed() {
        let is = |kind: &str, coding: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).expect("a value"));
            if let Some(coding) = coding {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_str(coding).expect("a value"));
            }
            is_readable_json(&headers)
        };
        assert!(is("application/json; charset=utf-8", None));
        assert!(is("application/json; profile=\"CamelCase\"; charset=utf-8", Some("identity")));
        assert!(is("Text/JSON", None) && is("application/problem+json", None));
        assert!(!is("application/json", Some("gzip")) && !is("application/json", Some("br")));
        for kind in
            ["", "json", "text/html", "application/x-mpegURL", "application/javascript", "video/mp4", "text/vtt"]
        {
            assert!(!is(kind, None), "{kind}");
        }
        assert!(!is_readable_json(&HeaderMap::new()));
    }

    #[test]
    fn a_target_is_rewritten_in_path_and_query_and_else_left_alone() {
        let id = |digit: &str| ServerId::parse(&digit.repeat(32)).expect("an id");
        let id_rewriter = IdRewriter::new(id("a"), id("b"));
        let target = format!("/Küche/{0}?serverId={0}&x=%2F{0}", id("b").as_str());
        let uri: Uri = target.parse().expect("a target");
        let expected = target.replace(id("b").as_str(), id("a").as_str());
        assert_eq!(id_rewriter.target_to_pod(&uri).expect("another").to_string(), expected);
        assert_eq!(id_rewriter.target_to_pod(&Uri::from_static("/Items?a=b")), None);
    }
}
