//! What jellypin knows of a request before it decides where the request goes.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
};

use http::{HeaderMap, HeaderValue, Request, Uri, header, request};

use super::select::Keys;
use crate::{
    forward::head::Client,
    jellyfin::{
        Identity,
        endpoint::{self, Endpoint},
    },
    proxy::PoolState,
    sessions::Session,
};

/// A request on its way.
pub(in crate::proxy) struct RequestContext<'a> {
    pub(in crate::proxy) pool: &'a PoolState,
    /// The pool's index in the shared state.
    pub(in crate::proxy) pool_index: usize,
    pub(in crate::proxy) head: &'a request::Parts,
    /// The path below the BaseUrl.
    pub(in crate::proxy) path: &'a str,
    pub(in crate::proxy) client: &'a Client,
    pub(in crate::proxy) origin: IpAddr,
    pub(in crate::proxy) endpoint: Endpoint,
    pub(in crate::proxy) is_upgrade: bool,
    pub(in crate::proxy) keys: Keys<'a>,
    pub(in crate::proxy) client_session: ClientSession,
    pub(in crate::proxy) target: Target,
    /// Whether a pod may have received the request without answering it.
    pub(in crate::proxy) may_be_executed: AtomicBool,
}

/// Which pod a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Target {
    /// The client's home, or the pod on which its media runs.
    Home,
    /// The client's home, wherever its media runs: the media is to start again there.
    NewHome,
    /// The leader, or the pod that made this code or secret.
    Leader(Option<String>),
}

/// The session that a request's token stands for.
#[derive(Clone)]
pub(in crate::proxy) enum ClientSession {
    /// No session is known.
    Unknown,
    /// No session is known here, and Redis has not said whether another replica knows one.
    Unresolved,
    Known(Arc<Session>),
    /// The session has ended: no pod may receive its token, even one that still remembers it.
    Ended,
}

impl RequestContext<'_> {
    pub(in crate::proxy) fn session(&self) -> Option<&Arc<Session>> {
        match &self.client_session {
            ClientSession::Known(session) => Some(session),
            ClientSession::Unknown | ClientSession::Unresolved | ClientSession::Ended => None,
        }
    }

    /// The same request for another pod.
    pub(in crate::proxy) fn with_target(&self, target: Target) -> RequestContext<'_> {
        RequestContext {
            pool: self.pool,
            pool_index: self.pool_index,
            head: self.head,
            path: self.path,
            client: self.client,
            origin: self.origin,
            endpoint: self.endpoint,
            is_upgrade: self.is_upgrade,
            keys: self.keys.clone(),
            client_session: self.client_session.clone(),
            target,
            may_be_executed: AtomicBool::new(false),
        }
    }

    /// The same request without anything that tells whose it is.
    pub(in crate::proxy) fn without_identity(&self) -> RequestContext<'_> {
        RequestContext {
            keys: Keys { identity: Identity::default(), ..self.keys.clone() },
            client_session: ClientSession::Unknown,
            ..self.with_target(Target::Home)
        }
    }

    pub(in crate::proxy) fn query(&self, key: &str) -> Option<String> {
        endpoint::query_value(self.head.uri.query().unwrap_or_default(), key)
    }

    /// A head with the same method and another target, on the client's behalf. It has no body.
    pub(in crate::proxy) fn head_for(&self, target: &str) -> Option<request::Parts> {
        let uri: Uri = format!("{}{target}", self.pool.pool.base_path).parse().ok()?;
        let mut headers: HeaderMap = self.head.headers.clone();
        headers.remove(header::AUTHORIZATION);
        headers.remove("x-emby-authorization");
        headers.remove("x-emby-token");
        headers.remove("x-mediabrowser-token");
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::CONTENT_TYPE);
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = self.head.method.clone();
        head.uri = uri;
        head.headers = headers;
        Some(head)
    }
}
