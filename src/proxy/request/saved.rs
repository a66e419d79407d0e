//! A request that is kept after its answer, so that jellypin can send it again.

use std::net::IpAddr;

use http::{HeaderMap, Request, request};

use super::context::RequestContext;
use crate::forward::head::Client;

/// The kept parts of a request. They include no body: a request with a body cannot be sent again
/// this way.
#[derive(Clone)]
pub(in crate::proxy) struct SavedRequest {
    /// The pool's index in the shared state.
    pub(in crate::proxy) pool: usize,
    pub(in crate::proxy) head: request::Parts,
    pub(in crate::proxy) client: Client,
    pub(in crate::proxy) origin: IpAddr,
    pub(in crate::proxy) is_upgrade: bool,
}

impl SavedRequest {
    pub(in crate::proxy) fn new(ctx: &RequestContext<'_>) -> SavedRequest {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = ctx.head.method.clone();
        head.uri = ctx.head.uri.clone();
        head.version = ctx.head.version;
        head.headers = ctx.head.headers.clone();
        SavedRequest {
            pool: ctx.pool_index,
            head,
            client: ctx.client.clone(),
            origin: ctx.origin,
            is_upgrade: ctx.is_upgrade,
        }
    }

    /// The header fields for the next time.
    pub(in crate::proxy) fn headers(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }
}
