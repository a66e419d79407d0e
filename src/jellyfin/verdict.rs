//! What a pod's answer means for the client's session: the signatures of Jellyfin's refusals. Pure.
//!
//! The refusal of an unknown token differs from endpoint to endpoint. Most 401s mean something
//! else: a wrong password, a disabled QuickConnect, a forbidden item. Those have a body.
//! Source: `CustomAuthenticationHandler.cs`, `WebSocketManager.cs`, `SyncPlayAccessHandler.cs`,
//! `ExceptionMiddleware.cs`.

use http::{HeaderMap, Method, StatusCode, header, response};

use super::endpoint::Endpoint;

/// What the head of an answer says about the token that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pod accepted the token that the endpoint demands.
    Accepted,
    /// The pod does not know the token. The endpoint did not run.
    UnknownToken,
    /// Another pod deleted the token's row. The pod answers one such 500; the next request passes.
    StaleRow,
    /// Nothing that concerns the token.
    Other,
}

/// What was asked with a token.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub method: &'a Method,
    pub endpoint: Endpoint,
    /// Sending the request twice does no harm.
    pub may_repeat: bool,
    pub is_upgrade: bool,
}

/// Judges the head of an answer to a request that carried a token.
pub fn judge(question: Question<'_>, answer: &response::Parts) -> Verdict {
    let Question { method, endpoint, may_repeat, is_upgrade } = question;
    let status = answer.status;
    if matches!(endpoint, Endpoint::LogIn | Endpoint::QuickConnect) {
        return Verdict::Other;
    }
    if is_upgrade {
        return match status {
            StatusCode::SWITCHING_PROTOCOLS => Verdict::Accepted,
            StatusCode::FORBIDDEN => Verdict::UnknownToken,
            _ => Verdict::Other,
        };
    }
    let is_unknown = match endpoint {
        Endpoint::SyncPlay => status == StatusCode::BAD_REQUEST && is_error_text(&answer.headers),
        _ => false,
    };
    if is_unknown || (status == StatusCode::UNAUTHORIZED && is_challenge(method, &answer.headers)) {
        Verdict::UnknownToken
    } else if status == StatusCode::INTERNAL_SERVER_ERROR && may_repeat && is_error_text(&answer.headers) {
        Verdict::StaleRow
    } else if endpoint.proves_token() && status.is_success() {
        Verdict::Accepted
    } else {
        Verdict::Other
    }
}

/// Whether another pod has the lease of what is to be transcoded: a 503 with `Retry-After` that a
/// controller wrote. A starting pod sends a page.
pub fn is_leased_elsewhere(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    status == StatusCode::SERVICE_UNAVAILABLE
        && headers.contains_key(header::RETRY_AFTER)
        && kind.starts_with(b"application/")
}

/// The answer of the authentication handler: empty, and without `WWW-Authenticate`. Kestrel gives
/// such an answer a length, unless the request was `HEAD`.
fn is_challenge(method: &Method, headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_LENGTH).map_or(method == Method::HEAD, |length| length == "0")
        && !headers.contains_key(header::CONTENT_TYPE)
        && !headers.contains_key(header::WWW_AUTHENTICATE)
}

/// `Error processing request.`, the only error text of a pod outside development.
fn is_error_text(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)]) -> response::Parts {
        let build =
            headers.iter().fold(Response::builder().status(status), |build, (name, value)| build.header(*name, *value));
        build.body(()).expect("an answer").into_parts().0
    }

    #[test]
    fn the_signatures_of_real_pods_are_told_apart() {
        use Endpoint::{Authenticated, LogIn, Open, QuickConnect, SyncPlay};
        let empty: &[(&str, &str)] = &[("content-length", "0"), ("content-language", "en-US")];
        let text: &[(&str, &str)] = &[("content-type", "text/plain"), ("transfer-encoding", "chunked")];
        let json: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8")];
        let rows = [
            ("unknown token", Authenticated, 401, empty, Verdict::UnknownToken),
            ("unknown token on a plugin's path", Open, 401, empty, Verdict::UnknownToken),
            ("wrong password", LogIn, 401, text, Verdict::Other),
            ("empty 401 of a log-in", LogIn, 401, empty, Verdict::Other),
            ("QuickConnect is off", QuickConnect, 401, json, Verdict::Other),
            ("no right to delete an item", Authenticated, 401, json, Verdict::Other),
            (
                "a proxy's own log-in",
                Authenticated,
                401,
                &[("content-length", "0"), ("www-authenticate", "Basic")],
                Verdict::Other,
            ),
            ("policy forbids", Authenticated, 403, empty, Verdict::Other),
            ("unknown token at SyncPlay", SyncPlay, 400, text, Verdict::UnknownToken),
            ("bad request elsewhere", Authenticated, 400, text, Verdict::Other),
            ("row deleted by another pod", Authenticated, 500, text, Verdict::StaleRow),
            ("accepted", Authenticated, 200, json, Verdict::Accepted),
            ("not modified", Authenticated, 304, &[], Verdict::Other),
            ("let in for his address", Endpoint::Guarded, 204, &[], Verdict::Other),
            ("open to all", Open, 200, json, Verdict::Other),
            ("not found", Authenticated, 404, json, Verdict::Other),
        ];
        let get = |endpoint| Question { method: &Method::GET, endpoint, may_repeat: true, is_upgrade: false };
        for (what, endpoint, status, headers, verdict) in rows {
            assert_eq!(judge(get(endpoint), &answer(status, headers)), verdict, "{what}");
        }
        let post = Question { method: &Method::POST, may_repeat: false, ..get(Authenticated) };
        assert_eq!(judge(post, &answer(500, text)), Verdict::Other, "a POST may have run");
        let head = Question { method: &Method::HEAD, ..get(Authenticated) };
        assert_eq!(judge(head, &answer(401, &[])), Verdict::UnknownToken, "Kestrel sends no length");
        assert_eq!(judge(head, &answer(401, json)), Verdict::Other);
        assert_eq!(judge(get(Authenticated), &answer(401, &[])), Verdict::Other);
        let upgrade = Question { is_upgrade: true, ..get(Open) };
        assert_eq!(judge(upgrade, &answer(403, text)), Verdict::UnknownToken);
        assert_eq!(judge(upgrade, &answer(101, &[])), Verdict::Accepted);
        assert_eq!(judge(upgrade, &answer(503, text)), Verdict::Other);
    }
}
