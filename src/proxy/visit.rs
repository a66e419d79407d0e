//! Removes the traces of a client on a pod that only answered a call for it.
//!
//! Each SyncPlay call and each log-in makes a session on the pod that answers. Nothing would end
//! that session, so the pod would list a device that is not there. A pod ends a session when its
//! last socket closes (`SessionManager.CloseIfNeededAsync`). So the proxy opens a socket for the
//! client there and closes it again.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tokio::time;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::{Proxy, RequestContext, learn::identify_session::to_header_device, pod_client::client_headers};
use crate::{
    forward::outbound::UpstreamBody,
    pod::{Pod, PodInstance},
    sessions::{Device, Session},
    websocket::{self, handshake},
};

/// Longest time for one whole visit.
const LONGEST: Duration = Duration::from_secs(5);

impl Proxy {
    /// Behind the answer, ends the sessions that a pod has made for a client that lives elsewhere.
    pub(super) fn end_visit(self: &Arc<Self>, ctx: &RequestContext<'_>, session: &Arc<Session>, pod: &Arc<Pod>) {
        let mut devices = vec![ctx.reported_by(session)];
        // The pod may have sessions of these devices too: capabilities were reported by them.
        let others = session.capabilities().into_iter().map(|note| note.reported_by).chain([session.device.clone()]);
        for other in others {
            if !devices.iter().any(|known| known.is_same_as(&other)) {
                devices.push(other);
            }
        }
        let (proxy, session, pod) = (self.clone(), session.clone(), pod.clone());
        let (base_path, client) = (ctx.pool.pool.base_path.clone(), client_headers(ctx));
        let ending = async move {
            for device in devices {
                if !proxy.is_visitor(&session, &pod) {
                    return;
                }
                proxy.open_and_close(&session, &pod, &base_path, client.clone(), device).await;
            }
        };
        tokio::spawn(self.shutdown.track(async move {
            if time::timeout(LONGEST, ending).await.is_err() {
                tracing::debug!("a pod keeps the session of a client that lives elsewhere");
            }
        }));
    }

    /// Whether the session lives on another pod and is not migrating to this one.
    fn is_visitor(&self, session: &Session, pod: &Pod) -> bool {
        let place = PodInstance::of(pod);
        let is_here = |at: Option<PodInstance>| at.is_some_and(|at| at.pod == pod.id);
        pod.status().is_alive()
            && !session.is_ended()
            && !is_here(session.home())
            && !is_here(session.migration_target())
            && !session.is_in_group_at(place)
    }

    async fn open_and_close(
        &self,
        session: &Session,
        pod: &Arc<Pod>,
        base_path: &str,
        client: HeaderMap,
        device: Device,
    ) -> Option<()> {
        let token = session.token_at(PodInstance::of(pod))?;
        let mut request = Request::new(UpstreamBody::from_bytes(Vec::new().into()));
        *request.uri_mut() = format!("{base_path}/socket").parse().ok()?;
        *request.headers_mut() = client;
        let headers = request.headers_mut();
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, HeaderValue::from_str(&pod.authority).ok()?);
        }
        headers.insert(header::AUTHORIZATION, to_header_device(device).header(Some(token.as_str())));
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_str(&generate_key()).ok()?);
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        handshake::restore(headers);
        let mut answer = self.forward.upgrade(pod, request).await.ok()?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let upgraded = hyper::upgrade::on(&mut answer).await.ok()?;
        let socket = websocket::pod_side(upgraded, &self.shared.websocket).await;
        // The greeting shows that the pod has attached the socket to the session.
        socket.close_after_greeting().await
    }
}
