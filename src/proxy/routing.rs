//! Step 1, route: which pool a request is for.

use std::borrow::Cow;

use http::{header, request};

use super::{
    request::{normalize::normalize, record::RequestRecord, refusal::Refusal},
    shared_state::SharedState,
};
use crate::{jellyfin::canonical, websocket::handshake::UpgradeKind};

/// Gives the head its one form, and finds the index of its pool. A malformed or ambiguous request
/// ends here.
pub(super) fn route(
    shared: &SharedState,
    head: &mut request::Parts,
    asked: UpgradeKind,
    record: &mut RequestRecord,
) -> Result<usize, Refusal> {
    normalize(head)?;
    if let UpgradeKind::Malformed(why) = asked {
        return Err(Refusal::Malformed(why));
    }
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let path = canonical::decoded_path(head.uri.path()).unwrap_or(Cow::Borrowed(head.uri.path()));
    let route = shared.router.find(host, &path).ok_or(Refusal::NoRoute)?;
    let (index, pool) = (route.pool, &shared.pools[route.pool]);
    record.set_route(&route.name, &pool.pool);
    let is_socket = asked == UpgradeKind::Socket;
    canonical::canonicalize(head, &pool.pool.base_path, pool.legacy(), is_socket).map_err(Refusal::Ambiguous)?;
    Ok(index)
}
