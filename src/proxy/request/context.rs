//! What jellypin knows of a request before it decides where the request goes.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
};

use http::{Method, request};

use super::select::Keys;
use crate::{
    forward::head::Client,
    jellyfin::{
        Identity, Legacy, Prefixes,
        endpoint::{self, Act, Duty, Endpoint},
    },
    pod::Pod,
    proxy::pool_state::PoolState,
    sessions::{Device, Session},
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
    /// How the other pods follow what it does, if they must.
    pub(in crate::proxy) act: Option<Act<'a>>,
    /// Which pod does it for all.
    pub(in crate::proxy) duty: Duty,
    pub(in crate::proxy) is_upgrade: bool,
    pub(in crate::proxy) keys: Keys<'a>,
    pub(in crate::proxy) client_session: ClientSession,
    pub(in crate::proxy) target: Target,
    /// Whether jellypin calls by the API key, of which each pod gets its own.
    pub(in crate::proxy) is_by_key: bool,
    /// Whether a pod may have received the request without answering it.
    pub(in crate::proxy) may_be_executed: AtomicBool,
}

/// Where a request goes, and what it asks for.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Routed {
    /// The pool's index in the shared state.
    pub(in crate::proxy) pool: usize,
    /// What the pool's pods accept at present.
    pub(in crate::proxy) prefixes: Prefixes,
    pub(in crate::proxy) legacy: Legacy,
    pub(in crate::proxy) endpoint: Endpoint,
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
    /// The pod that writes the catalogue, and no other.
    Writer,
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
            act: self.act,
            duty: self.duty,
            is_upgrade: self.is_upgrade,
            keys: self.keys.clone(),
            client_session: self.client_session.clone(),
            target,
            is_by_key: self.is_by_key,
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

    /// Path and query below the BaseUrl, for another caller.
    pub(in crate::proxy) fn target_without_tokens(&self) -> String {
        let query = self.head.uri.query().map(endpoint::query_without_tokens).filter(|query| !query.is_empty());
        format!("{}{}", self.path, query.map_or(String::new(), |query| format!("?{query}")))
    }

    /// The first value of a query key.
    pub(in crate::proxy) fn query(&self, key: &str) -> Option<String> {
        endpoint::query_value(self.head.uri.query().unwrap_or_default(), key)
    }

    /// Whether the right answer depends on the client's token. This holds for all but log-ins and
    /// media that anybody may fetch.
    pub(in crate::proxy) fn depends_on_token(&self) -> bool {
        self.is_upgrade || !matches!(self.endpoint, Endpoint::LogIn | Endpoint::AnonymousMedia)
    }

    /// The token, if the answer depends on it.
    pub(in crate::proxy) fn required_token(&self) -> Option<&str> {
        let hangs = self.is_upgrade || self.endpoint.requires_token();
        self.keys.identity.token.as_deref().filter(|_| hangs)
    }

    /// Whether a pod may receive the request although another may have executed it.
    pub(in crate::proxy) fn can_repeat(&self) -> bool {
        let method = &self.head.method;
        method.is_idempotent()
            || endpoint::is_safe_to_repeat(method, self.path)
            || endpoint::starts_playback(method, self.path)
    }

    /// Whether the pod cannot know the token that the request needs. The client's home is another
    /// pod, and only the home's refusal counts.
    pub(in crate::proxy) fn cannot_know_token(&self, pod: &Pod) -> bool {
        let is_unknown = |session: &Session| session.lives_elsewhere(&self.pool.pool, pod) && !session.is_known_at(pod);
        self.required_token().is_some() && self.session().is_some_and(|session| is_unknown(session))
    }

    /// What the client claims in this request, completed from the log-in as a pod does it.
    pub(in crate::proxy) fn reported_by(&self, session: &Session) -> Device {
        Device::claimed(&self.head.headers, self.pool.legacy()).filled_from(&session.device)
    }

    pub(in crate::proxy) fn is_live_segment(&self) -> bool {
        self.endpoint == Endpoint::AnonymousMedia && self.keys.identity.playlist.is_some()
    }

    /// Whether it asks for a live stream or recording that is in the memory of one pod, and nothing
    /// but an id in the request tells of which. A known client has opened the stream on its own pod.
    pub(in crate::proxy) fn is_for_open_stream(&self) -> bool {
        let Identity { live_file, live_stream, .. } = &self.keys.identity;
        self.endpoint == Endpoint::AnonymousMedia
            && (live_file.is_some() || (live_stream.is_some() && self.session().is_none()))
    }

    /// Whether the answer is merged with those of other pods.
    pub(in crate::proxy) fn is_to_be_merged(&self) -> bool {
        matches!(self.endpoint, Endpoint::SessionList | Endpoint::DeviceList) && self.pool.pool.pods().len() > 1
    }

    /// Whether the answer contains the server's own address.
    pub(in crate::proxy) fn contains_address(&self) -> bool {
        matches!(self.endpoint, Endpoint::LogoutTrigger | Endpoint::Open)
            && self.head.method == Method::GET
            && endpoint::contains_address(self.path)
    }
}
