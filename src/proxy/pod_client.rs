//! Sends jellypin's own calls to a pod: few, small, and bounded in time and memory.
//!
//! What a call says is in `jellyfin/client`; here is how it gets to the pod.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::upgrade::Upgraded;
use tokio::time::{self, Instant};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::request::context::RequestContext;
use crate::{
    forward::{Cause, Failure, Forward, ResponseTimeout, head, outbound::UpstreamBody},
    jellyfin::client::{ApiCall, ApiResponse},
    pod::{Pod, Pool, Urgency},
    server_id::{IdRewriter, ShownServer, is_readable_json, users::UserDirectory},
    websocket::handshake,
};

/// How long a call waits until a pod has said which users it has.
const UNTIL_KNOWN: Duration = Duration::from_secs(1);

/// Time between two looks whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// One worker's calls to the pods. Cheap to clone.
#[derive(Clone)]
pub(super) struct PodClient {
    forward: Arc<Forward>,
    own: Arc<OwnDatabases>,
}

/// What is different where pods have databases of their own: users' ids, and API keys.
#[derive(Default)]
pub(super) struct OwnDatabases {
    /// The pools whose pods have users of their own.
    pub(super) pools: Vec<(Arc<str>, Arc<ShownServer>)>,
    /// The key that jellypin's calls name.
    pub(super) key: Option<HeaderValue>,
    /// What takes its place, by pool and pod.
    pub(super) keys: Vec<(String, String, HeaderValue)>,
}

/// For whom a call is made, as the pod sees it.
#[derive(Clone)]
pub(super) struct Caller {
    base_path: Arc<str>,
    /// Address and program of the client. With them the pod's rules judge the client and not the
    /// proxy.
    headers: HeaderMap,
}

impl PodClient {
    pub(super) fn new(forward: Arc<Forward>, own: Arc<OwnDatabases>) -> PodClient {
        PodClient { forward, own }
    }

    /// Calls a pod, and reads its answer. A broken connection is not tried again. Where the pod has
    /// users of its own, call and answer name them by the shown ids.
    pub(super) async fn call<T>(&self, pod: &Arc<Pod>, caller: &Caller, call: ApiCall<T>) -> Result<T, Failure> {
        let names = match self.own.of(pod) {
            // Boxed: this path is rare, and would make every call's future larger.
            Some(users) => Box::pin(names(users, pod, &call.target)).await?,
            None => None,
        };
        self.call_by(pod, caller, call, names.as_ref()).await
    }

    /// The same with the pod's own ids.
    pub(super) async fn call_by_own_ids<T>(
        &self,
        pod: &Arc<Pod>,
        caller: &Caller,
        call: ApiCall<T>,
    ) -> Result<T, Failure> {
        self.call_by(pod, caller, call, None).await
    }

    async fn call_by<T>(
        &self,
        pod: &Arc<Pod>,
        caller: &Caller,
        call: ApiCall<T>,
        names: Option<&IdRewriter>,
    ) -> Result<T, Failure> {
        let mut repeats = call.repeats;
        loop {
            let response = time::timeout(call.longest_time, self.send(pod, caller, &call, names));
            let mut response = response.await.unwrap_or_else(|_| Err(failure(Cause::TimedOut)))?;
            if response.status == StatusCode::INTERNAL_SERVER_ERROR && repeats > 0 {
                repeats -= 1;
                continue;
            }
            let cause = match response.status {
                StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE => Cause::ServerError,
                _ => Cause::Malformed,
            };
            if let Some(names) = names.filter(|_| is_readable_json(&response.headers)) {
                response.body = names.whole_to_client(response.body);
            }
            return call.read(response).ok_or(failure(cause));
        }
    }

    /// Opens a socket by a call. `None` if the pod does not open it.
    pub(super) async fn open_socket<T>(&self, pod: &Arc<Pod>, caller: &Caller, call: ApiCall<T>) -> Option<Upgraded> {
        let names = self.own.of(pod).and_then(|users| users.rewriter(pod));
        let mut request = self.request(pod, caller, &call, names.as_ref()).ok()?;
        let headers = request.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_str(&generate_key()).ok()?);
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        handshake::restore(headers);
        let mut answer = self.forward.upgrade(pod, request, Urgency::Idle).await.ok()?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        hyper::upgrade::on(&mut answer).await.ok()
    }

    /// Skips kept connections that have closed.
    async fn send<T>(
        &self,
        pod: &Arc<Pod>,
        caller: &Caller,
        call: &ApiCall<T>,
        names: Option<&IdRewriter>,
    ) -> Result<ApiResponse, Failure> {
        let request = self.request(pod, caller, call, names)?;
        if !pod.extra_calls.draw(call.longest_time).await {
            return Err(Failure { cause: Cause::Overloaded, may_be_received: false, on_reused_connection: false });
        }
        let response_timeout = ResponseTimeout { first_byte: call.longest_time, after_lost: Duration::ZERO };
        let (head, body) = self.forward.send(pod, request, response_timeout, Urgency::Interactive).await?.into_parts();
        let body = Limited::new(body, call.longest_answer).collect().await.map_err(|_| failure(Cause::Broken))?;
        Ok(ApiResponse { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    fn request<T>(
        &self,
        pod: &Pod,
        caller: &Caller,
        call: &ApiCall<T>,
        names: Option<&IdRewriter>,
    ) -> Result<Request<UpstreamBody>, Failure> {
        let mut request = request(pod, caller, call)?;
        if let Some(key) = self.own.key_of(pod, call.authorization.as_ref()) {
            request.headers_mut().insert(header::AUTHORIZATION, key);
        }
        if let Some(names) = names {
            if let Some(target) = names.target_to_pod(request.uri()) {
                *request.uri_mut() = target;
            }
            // Another id has the same length.
            *request.body_mut() = UpstreamBody::from_bytes(names.whole_to_pod(call.body.clone()));
        }
        Ok(request)
    }
}

impl OwnDatabases {
    fn of(&self, pod: &Pod) -> Option<&UserDirectory> {
        let (_, shown_server) = self.pools.iter().find(|(pool, _)| *pool == pod.pool)?;
        shown_server.users.as_ref()
    }

    /// The pod's own key, if the call goes by the key.
    fn key_of(&self, pod: &Pod, authorization: Option<&HeaderValue>) -> Option<HeaderValue> {
        let key = self.keys.iter().find(|(pool, name, _)| **pool == *pod.pool && **name == *pod.name);
        key.filter(|_| self.key.is_some() && self.key.as_ref() == authorization).map(|(_, _, key)| key.clone())
    }
}

/// What rewrites a call. One that names a user waits until the pod's own id of the user is known.
async fn names(users: &UserDirectory, pod: &Pod, target: &str) -> Result<Option<IdRewriter>, Failure> {
    let began = Instant::now();
    while !users.is_known(pod) && users.is_named_in(target) {
        if began.elapsed() >= UNTIL_KNOWN {
            return Err(failure(Cause::TimedOut));
        }
        time::sleep(LOOK).await;
    }
    Ok(users.rewriter(pod))
}

impl Caller {
    /// The client of a request.
    pub(super) fn of(ctx: &RequestContext<'_>) -> Caller {
        Caller::new(&ctx.pool.pool, client_headers(ctx))
    }

    /// jellypin itself.
    pub(super) fn proxy(pool: &Pool) -> Caller {
        Caller::new(pool, HeaderMap::new())
    }

    /// A client that these headers describe.
    pub(super) fn new(pool: &Pool, headers: HeaderMap) -> Caller {
        Caller { base_path: pool.base_path.clone(), headers }
    }

    /// The headers that describe the client.
    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }
}

fn request<T>(pod: &Pod, caller: &Caller, call: &ApiCall<T>) -> Result<Request<UpstreamBody>, Failure> {
    let target = format!("{}{}", caller.base_path, call.target);
    let uri: Uri = target.parse().map_err(|_| failure(Cause::Malformed))?;
    let length = call.body.len();
    let mut request = Request::new(UpstreamBody::from_bytes(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = caller.headers.clone();
    let headers = request.headers_mut();
    if !headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(&pod.authority)
    {
        headers.insert(header::HOST, host);
    }
    if let Some(authorization) = &call.authorization {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    if length > 0 {
        let json = || HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, call.content_type.clone().unwrap_or_else(json));
    }
    if let Some(accept) = &call.accept {
        headers.insert(header::ACCEPT, accept.clone());
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(request)
}

/// The headers that describe a request's client to a pod.
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

fn failure(cause: Cause) -> Failure {
    Failure { cause, may_be_received: true, on_reused_connection: false }
}
