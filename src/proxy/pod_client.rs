//! The proxy's own requests to a pod: few, small, and bounded in time and memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use tokio::time;

use super::{Proxy, RequestContext};
use crate::{
    forward::{Cause, Failure, ResponseTimeout, head, outbound::UpstreamBody},
    jellyfin::authorization,
    pod::Pod,
};

/// Longest answer that the proxy reads, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// Longest time for one call. A pod's first mint takes a second, and many at once take two.
const PATIENCE: Duration = Duration::from_secs(10);

/// One call.
pub(super) struct PodRequest<'a> {
    pub(super) method: Method,
    /// Path and query below the BaseUrl.
    pub(super) target: &'a str,
    /// The headers that describe the client to the pod.
    pub(super) client: &'a HeaderMap,
    pub(super) authorization: Option<HeaderValue>,
    /// JSON, or empty.
    pub(super) body: Bytes,
}

/// An answer, read in full.
pub(super) struct PodResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A pod's answer about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenStatus {
    /// The pod knows the token. An API key has no user.
    Known {
        user: Option<String>,
        is_administrator: bool,
    },
    Unknown,
}

impl PodResponse {
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl Proxy {
    /// Calls a pod. Skips kept connections that have closed; does not retry a broken one.
    pub(super) async fn call_pod(
        &self,
        pod: &Arc<Pod>,
        base_path: &str,
        call: PodRequest<'_>,
    ) -> Result<PodResponse, Failure> {
        let failure = |cause| Failure { cause, may_be_received: true, on_reused_connection: false };
        let target = format!("{base_path}{}", call.target);
        let uri: Uri = target.parse().map_err(|_| failure(Cause::Malformed))?;
        let length = call.body.len();
        let mut request = Request::new(UpstreamBody::from_bytes(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = call.client.clone();
        let headers = request.headers_mut();
        if !headers.contains_key(header::HOST)
            && let Ok(host) = HeaderValue::from_str(&pod.authority)
        {
            headers.insert(header::HOST, host);
        }
        if let Some(authorization) = call.authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        if length > 0 {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let answered = async {
            let response_timeout = ResponseTimeout { first_byte: PATIENCE, after_lost: Duration::ZERO };
            let (head, body) = self.forward.send(pod, request, response_timeout).await?.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|_| failure(Cause::Broken))?;
            Ok(PodResponse { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        time::timeout(PATIENCE, answered).await.unwrap_or_else(|_| Err(failure(Cause::TimedOut)))
    }

    /// Asks a pod whose token this is.
    pub(super) async fn token_status(
        &self,
        pod: &Arc<Pod>,
        base_path: &str,
        token: &str,
        client: &HeaderMap,
    ) -> Result<TokenStatus, Failure> {
        let mut again = true;
        loop {
            let call = PodRequest {
                method: Method::GET,
                target: "/Users/Me",
                client,
                authorization: Some(authorization::token_only(token)),
                body: Bytes::new(),
            };
            let reply = self.call_pod(pod, base_path, call).await?;
            return Ok(match reply.status {
                StatusCode::OK => {
                    let me = reply.json().unwrap_or_default();
                    let user = me["Id"].as_str().map(str::to_owned);
                    TokenStatus::Known { user, is_administrator: me["Policy"]["IsAdministrator"] == true }
                }
                StatusCode::UNAUTHORIZED => TokenStatus::Unknown,
                // An API key has no user; or the user may not sign in now or from there.
                StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
                    TokenStatus::Known { user: None, is_administrator: false }
                }
                // Another pod has deleted a row. Only the first call fails so.
                StatusCode::INTERNAL_SERVER_ERROR if std::mem::take(&mut again) => continue,
                _ => {
                    return Err(Failure {
                        cause: Cause::Malformed,
                        may_be_received: true,
                        on_reused_connection: false,
                    });
                }
            });
        }
    }
}

/// The client headers for the proxy's own calls: address and program, as in the client's request.
/// With them the pod's rules judge the client and not the proxy.
pub(super) fn client_headers(ctx: &RequestContext<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in [header::HOST.as_str(), "user-agent", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
        // A pod refuses every request with a header that is not text.
        for value in ctx.head.headers.get_all(name).iter().filter(|value| value.to_str().is_ok()) {
            headers.append(header::HeaderName::from_bytes(name.as_bytes()).unwrap_or(header::HOST), value.clone());
        }
    }
    head::to_pod(&mut headers, ctx.client);
    headers
}
