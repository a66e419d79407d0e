//! What a client may have under way, and which requests must be finished without their client.

use std::sync::Arc;

use http::{Method, Request, header};

use super::{
    pool_state::PoolState,
    shared_state::{SharedState, in_use_by},
};
use crate::{
    forward::head::{self, Client},
    jellyfin::{
        self, canonical,
        endpoint::{Act, Revocation, Scope as WriteScope, UserDataWrite},
    },
    limits::{Exceeded, Kind, Permit, Scope},
};

/// Counts requests against the limits.
pub struct Admission {
    shared: Arc<SharedState>,
}

impl Admission {
    pub(super) fn new(shared: Arc<SharedState>) -> Admission {
        Admission { shared }
    }

    /// Counts a request against the limits, and also its socket if it asks for one. The request's
    /// permit lasts until the answer's last byte, the socket's as long as the socket.
    pub fn admit<B>(&self, request: &Request<B>, client: &Client) -> Result<(Permit, Option<Permit>), Exceeded> {
        let origin = head::origin(request.headers(), client);
        let limits = &self.shared.limits;
        let in_use = in_use_by(limits, client, origin);
        let is_upgrade = request.headers().contains_key(header::UPGRADE);
        let of_request = limits.take(Kind::Requests, in_use.as_ref())?;
        let of_socket = if is_upgrade { Some(limits.take(Kind::Sockets, in_use.as_ref())?) } else { None };
        Ok((of_request, of_socket))
    }

    /// Counts that a client's connection exceeded its own limit.
    pub fn exceeded(&self, kind: Kind, client: &Client) {
        self.shared.limits.exceeded(kind, Scope::Connection, Some(client.address));
    }

    /// Whether the request may end sessions other than its caller's, or write user data, in any
    /// pool. Its pod may do so even if the client leaves, and the other pods must then be told.
    /// Browsers report the end of playback while they close the page.
    pub fn must_finish<B>(&self, request: &Request<B>) -> bool {
        let (method, uri) = (request.method(), request.uri());
        if *method != Method::POST && *method != Method::DELETE {
            return false;
        }
        let Some(decoded) = canonical::decoded_path(uri.path()) else { return false };
        let changes = |(index, shared): (usize, &PoolState)| {
            let path =
                jellyfin::controller_path(canonical::below_base(&shared.pool.base_path, &decoded), shared.prefixes());
            let act = WriteScope::of(method, path).and_then(WriteScope::act);
            act.is_some_and(|act| act != Act::UserData)
                || Revocation::of(method, path, uri.query().unwrap_or_default()).is_some()
                || (self.shared.keeps_user_data(index) && UserDataWrite::of(method, path).is_some())
        };
        self.shared.pools.iter().enumerate().any(changes)
    }
}
