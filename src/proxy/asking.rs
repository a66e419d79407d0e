//! What is known of a request before it is decided where it goes.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
};

use http::{HeaderMap, HeaderValue, Request, Uri, header, request};

use super::{PoolSite, decide::Keys};
use crate::{
    carryover::Session,
    forward::head::Client,
    identity::endpoint::{self, Endpoint},
};

/// A request on its way.
pub(super) struct Asking<'a> {
    pub(super) pool: &'a PoolSite,
    /// The pool's number among those of the site.
    pub(super) pool_index: usize,
    pub(super) head: &'a request::Parts,
    /// Below the BaseUrl.
    pub(super) path: &'a str,
    pub(super) client: &'a Client,
    pub(super) origin: IpAddr,
    pub(super) endpoint: Endpoint,
    pub(super) is_upgrade: bool,
    pub(super) keys: Keys<'a>,
    pub(super) client_session: ClientSession,
    pub(super) target: Target,
    /// A pod may have received the request, and given no answer.
    pub(super) may_be_done: AtomicBool,
}

/// Which pod a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Its client's home, or the pod on which its media runs.
    Home,
    /// Its client's home, wherever its media runs: there it is to begin anew.
    NewHome,
    /// The leader, or the pod that made this code or secret.
    Leader(Option<String>),
}

/// The session that a request's token stands for.
#[derive(Clone)]
pub(super) enum ClientSession {
    /// None is known.
    Unknown,
    /// None either, and Redis has not said whether another replica knows one.
    Untold,
    Known(Arc<Session>),
    /// It was ended: no pod may take its token any more, whatever it remembers.
    Ended,
}

impl Asking<'_> {
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        match &self.client_session {
            ClientSession::Known(session) => Some(session),
            ClientSession::Unknown | ClientSession::Untold | ClientSession::Ended => None,
        }
    }

    /// The same request for another pod.
    pub(super) fn toward(&self, target: Target) -> Asking<'_> {
        Asking {
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
            may_be_done: AtomicBool::new(false),
        }
    }

    pub(super) fn query(&self, key: &str) -> Option<String> {
        endpoint::in_query(self.head.uri.query().unwrap_or_default(), key)
    }

    /// A head for the same method, on the client's behalf, with another target.
    pub(super) fn head_for(&self, target: &str) -> Option<request::Parts> {
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
