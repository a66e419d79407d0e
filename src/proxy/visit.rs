//! Removes the traces of a client on a pod that only answered a call for it, or that it has left.
//!
//! Each SyncPlay call and each log-in makes a session on the pod that answers. Nothing would end
//! that session, so the pod would list a device that is not there. A pod ends a session when its
//! last socket closes (`SessionManager.CloseIfNeededAsync`), and keeps the token. So the proxy opens
//! a socket for the client there and closes it again.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{
    pod_client::{Caller, PodClient},
    request::context::RequestContext,
    shared_state::SharedState,
};
use crate::{
    jellyfin::{client::sessions, endpoint},
    pod::{Pod, PodInstance},
    sessions::{Device, Session},
    shutdown::Shutdown,
    websocket,
};

/// Longest time for one whole visit.
const LONGEST: Duration = Duration::from_secs(5);

/// Ends the visits of clients on pods that they do not live on.
pub(super) struct Visits {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    shutdown: Shutdown,
}

impl Visits {
    pub(super) fn new(shared: Arc<SharedState>, pods: Arc<PodClient>, shutdown: Shutdown) -> Visits {
        Visits { shared, pods, shutdown }
    }

    /// Behind the answer, ends the sessions that a pod has made for a client that lives elsewhere.
    pub(super) fn end(self: &Arc<Self>, ctx: &RequestContext<'_>, session: &Arc<Session>, pod: &Arc<Pod>) {
        self.end_as(vec![ctx.reported_by(session)], Caller::of(ctx), session, pod);
    }

    /// Does what makes such a session, and then ends it, even if the client has left.
    pub(super) async fn during<T: Send + 'static>(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        (session, pod): (&Arc<Session>, &Arc<Pod>),
        visit: impl Future<Output = Option<T>> + Send + 'static,
    ) -> Option<T> {
        let (devices, caller) = (vec![ctx.reported_by(session)], Caller::of(ctx));
        let (visits, session, pod) = (self.clone(), session.clone(), pod.clone());
        let visiting = async move {
            let done = visit.await;
            visits.end_as(devices, caller, &session, &pod);
            done
        };
        // It fails only with the whole process.
        tokio::spawn(self.shutdown.track(visiting)).await.ok().flatten()
    }

    /// Ends the session that a living pod keeps of a client that has moved to another pod. Says
    /// whether it begins to.
    ///
    /// Sockets of the client that were there end it by themselves as they move. A transcode outlives
    /// its session; a live channel does not, so it may be in use. The pod counts as left until the
    /// session is ended there.
    pub(super) fn end_left(self: &Arc<Self>, caller: Caller, session: &Arc<Session>, pod: &Arc<Pod>) -> bool {
        let place = PodInstance::of(pod);
        let plays_live = session.calls.playing().iter().any(|call| endpoint::reports_live_stream(&call.body))
            || !self.shared.streams.channels(session, place).is_empty();
        if plays_live {
            return false;
        }
        if session.sockets.know(pod.id) {
            session.residence.left.forget(place);
            return false;
        }
        // Where a socket is on its way to is known later.
        if session.sockets.are_moving() || !session.residence.left.begin_visit(place) {
            return false;
        }
        let (visits, session, pod) = (self.clone(), session.clone(), pod.clone());
        tokio::spawn(self.shutdown.track(async move {
            let is_ended = visits.end_there(Vec::new(), &caller, &session, &pod).await;
            session.residence.left.finish_visit(place, is_ended);
        }));
        true
    }

    fn end_as(self: &Arc<Self>, devices: Vec<Device>, caller: Caller, session: &Arc<Session>, pod: &Arc<Pod>) {
        let (visits, session, pod) = (self.clone(), session.clone(), pod.clone());
        tokio::spawn(self.shutdown.track(async move { visits.end_there(devices, &caller, &session, &pod).await }));
    }

    /// Ends the sessions of these devices, and of all others that the client has reported by. Says
    /// whether all are ended.
    async fn end_there(
        &self,
        mut devices: Vec<Device>,
        caller: &Caller,
        session: &Arc<Session>,
        pod: &Arc<Pod>,
    ) -> bool {
        // The pod may have sessions of these devices too: capabilities were reported by them.
        let others =
            session.calls.capabilities().into_iter().map(|call| call.reported_by).chain([session.device.clone()]);
        for other in others {
            if !devices.iter().any(|known| known.is_same_as(&other)) {
                devices.push(other);
            }
        }
        let ending = async {
            let mut are_ended = true;
            for device in devices {
                if !is_visitor(session, pod) {
                    return false;
                }
                are_ended &= self.open_and_close(session, pod, caller, &device).await.is_some();
            }
            are_ended
        };
        let is_ended = time::timeout(LONGEST, ending).await.unwrap_or(false);
        if !is_ended {
            tracing::debug!("a pod keeps the session of a client that lives elsewhere");
        }
        is_ended
    }

    async fn open_and_close(&self, session: &Session, pod: &Arc<Pod>, caller: &Caller, device: &Device) -> Option<()> {
        let token = session.token_at(PodInstance::of(pod))?;
        let upgraded = self.pods.open_socket(pod, caller, sessions::socket(device, token.as_str())).await?;
        let socket = websocket::pod_side(upgraded, &self.shared.websocket).await;
        // The greeting shows that the pod has attached the socket to the session.
        socket.close_after_greeting().await
    }
}

/// Whether the session lives on another pod and is not migrating to this one.
fn is_visitor(session: &Session, pod: &Pod) -> bool {
    let place = PodInstance::of(pod);
    let is_here = |at: Option<PodInstance>| at.is_some_and(|at| at.pod == pod.id);
    pod.status().is_alive()
        && !session.is_ended()
        && !is_here(session.home())
        && !is_here(session.migrations.target())
        && !session.group.is_at(place)
}
