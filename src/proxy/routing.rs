//! Step 1, route: which pool a request is for.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::{HeaderValue, Response, StatusCode, header, request};

use super::{
    request::{context::Routed, normalize::normalize, record::RequestRecord, refusal::Refusal},
    response::{
        answer::{Aborted, answer, refuse},
        body::Body,
    },
    shared_state::SharedState,
};
use crate::{
    forward::head::{self, Client},
    hop,
    jellyfin::{Prefixes, canonical, controller_path, endpoint},
    pod::Pool,
    route::{Target, https::ACME, rules},
    websocket::handshake::UpgradeKind,
};

/// Where a request goes.
pub(super) enum Destination {
    Jellyfin(Routed),
    /// A pool that is not Jellyfin's. The head is as the client sent it.
    Plain(Arc<Pool>),
}

/// Why a request goes to no pool.
pub(super) enum Unrouted {
    Refused(Refusal),
    /// It is to come again over https, at this address.
    Moved(HeaderValue),
    /// The operator leads it to another address, for now.
    Redirected(HeaderValue),
    /// An authority asks for the answer to this token.
    Challenge(String),
}

/// Gives the head its one form, that in which pods get it, and finds its pool. A malformed or
/// ambiguous request ends here.
pub(super) fn route(
    shared: &SharedState,
    head: &mut request::Parts,
    (client, origin, asked): (&Client, IpAddr, UpgradeKind),
    record: &mut RequestRecord,
) -> Result<Destination, Unrouted> {
    normalize(head)?;
    if let UpgradeKind::Malformed(why) = asked {
        return Err(Refusal::Malformed(why).into());
    }
    if hop::comes_round(&head.headers) {
        return Err(Refusal::Loop.into());
    }
    if shared.router.answers_acme
        && let Some(token) = head.uri.path().strip_prefix(ACME)
    {
        return Err(Unrouted::Challenge(token.to_owned()));
    }
    if let Some(location) = over_https(shared, head, client) {
        return Err(Unrouted::Moved(location));
    }
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let path = canonical::decoded_path(head.uri.path()).unwrap_or(Cow::Borrowed(head.uri.path()));
    let route = shared.router.find(host, &path).ok_or(Refusal::NoRoute)?;
    record.set_route(&route.name, route.rules.as_ref());
    if route.rules.as_ref().is_some_and(|rules| !rules.admits(origin)) {
        return Err(Refusal::NotAllowed.into());
    }
    let index = match &route.target {
        Target::Pool(index) => *index,
        Target::Plain(index) => {
            if !shared.router.is_plainly(route, host, head.uri.path()) {
                return Err(Refusal::Malformed("servers read its path in two ways").into());
            }
            let pool = shared.plain[*index].clone();
            record.pool = Some(pool.clone());
            return Ok(Destination::Plain(pool));
        }
        Target::Redirect(to) => {
            let location = HeaderValue::try_from(rules::redirected(to, &route.prefix, &head.uri));
            return Err(location.map_or(Unrouted::Refused(Refusal::NoRoute), Unrouted::Redirected));
        }
    };
    let pool = &shared.pools[index];
    record.pool = Some(pool.pool.clone());
    let (prefixes, legacy) = pool.prefixes_and_legacy();
    if let Some(path) = without_prefix(&path, &pool.pool.base_path, prefixes)
        && let Some(route) = shared.router.find(host, &path).filter(|route| route.pool() == Some(index))
        && route.rules.as_ref().is_some_and(|rules| !rules.admits(origin))
    {
        return Err(Refusal::NotAllowed.into());
    }
    let is_socket = asked == UpgradeKind::Socket;
    let endpoint = canonical::canonicalize(head, &pool.pool.base_path, prefixes, is_socket);
    let endpoint = endpoint.map_err(Refusal::Ambiguous)?;
    if !shared.operate_from.is_empty()
        && operates_server(head, &pool.pool.base_path, prefixes)
        && !rules::is_in(&shared.operate_from, origin)
    {
        return Err(Refusal::NotAllowed.into());
    }
    head::to_pod(&mut head.headers, client);
    if let Some(rules) = &route.rules {
        rules.request.apply(&mut head.headers);
    }
    Ok(Destination::Jellyfin(Routed { pool: index, prefixes, legacy, endpoint }))
}

/// The path as the pod reads it, BaseUrl included, if the pod takes away a prefix that old clients
/// put before it. What a route says of the path holds with the prefix too.
fn without_prefix(path: &str, base: &str, prefixes: Prefixes) -> Option<String> {
    let below = canonical::below_base(base, path);
    let seen = controller_path(below, prefixes);
    (seen.len() < below.len()).then(|| format!("{}{seen}", &path[..path.len() - below.len()]))
}

/// Whether it sets the server up, restarts it or shuts it down, however its path is written.
fn operates_server(head: &request::Parts, base: &str, prefixes: Prefixes) -> bool {
    let path = canonical::decoded_path(head.uri.path()).unwrap_or(Cow::Borrowed(head.uri.path()));
    endpoint::operates_server(controller_path(canonical::below_base(base, &path), prefixes))
}

/// The address over https of a request that came in clear and should not.
fn over_https(shared: &SharedState, head: &request::Parts, client: &Client) -> Option<HeaderValue> {
    let to_https = shared.router.to_https.as_ref()?;
    if head::is_https(&head.headers, client) {
        return None;
    }
    let location = to_https.location(head::requested_host(&head.headers, client), &head.uri)?;
    HeaderValue::try_from(location).ok()
}

impl Unrouted {
    /// The proxy's own answer.
    pub(super) async fn answer(
        self,
        shared: &SharedState,
        mut record: Box<RequestRecord>,
    ) -> Result<Response<Body>, Aborted> {
        let (mut head, ()) = Response::new(()).into_parts();
        let body = match self {
            Unrouted::Refused(refusal) => return refuse(record, refusal),
            Unrouted::Moved(location) => {
                head.status = StatusCode::PERMANENT_REDIRECT;
                head.headers.insert(header::LOCATION, location);
                Body::empty()
            }
            Unrouted::Redirected(location) => {
                head.status = StatusCode::TEMPORARY_REDIRECT;
                head.headers.insert(header::LOCATION, location);
                Body::empty()
            }
            Unrouted::Challenge(token) => match shared.challenges.answer(&token).await {
                Some(answer) => Body::whole(answer.into()),
                None => return refuse(record, Refusal::NoRoute),
            },
        };
        record.set_status(head.status.as_u16());
        Ok(answer(record, head, body))
    }
}

impl From<Refusal> for Unrouted {
    fn from(refusal: Refusal) -> Unrouted {
        Unrouted::Refused(refusal)
    }
}
