//! Keeps each user's data of items in step on all pods: favourites, ratings, what was played, and
//! positions.
//!
//! A pod reads a row once, keeps it in memory, and later writes it back whole. So what another pod
//! has written is not seen there, and is destroyed by the next write. After a write through one
//! pod, the others are told by the API key (`carry`). A request waits until its pod has the
//! rows that it reads or writes (`user_data_state/ledger`).

mod calls;
mod carry;
mod named;
mod pod_calls;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::StatusCode;

use super::{
    pod_client::PodClient,
    request::{attempt::WriteUnderWay, context::RequestContext},
    shared_state::SharedState,
    user_data_state::ledger::{Access, UserKey},
};
use crate::{
    forward::outbound::ReplayBody,
    jellyfin::{
        endpoint::{self, UserDataWrite, Versions, Write},
        user_data::Id,
    },
    observe::metrics::Metrics,
    pod::{Pod, PodInstance},
    sessions::{Session, Token},
    shutdown::Shutdown,
};
use calls::{Calls, Unread};
use carry::Carrier;

/// One worker's part in keeping users' data in step.
pub(super) struct UserData {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    carrier: Arc<Carrier<Calls>>,
}

impl UserData {
    pub(super) fn new(
        shared: Arc<SharedState>,
        pods: Arc<PodClient>,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> UserData {
        let calls = Calls::new(shared.clone(), pods.clone(), metrics);
        let carrier = Carrier::new(shared.user_data.ledgers.clone(), calls, shutdown);
        UserData { shared, pods, carrier }
    }

    /// Waits until the pod was told what the request reads or writes, at most two seconds. What
    /// this returns is the client's write, until the pod has answered it. `token` is the caller's at
    /// the pod.
    pub(super) async fn admit(
        &self,
        ctx: &RequestContext<'_>,
        pod: &Arc<Pod>,
        token: Option<&Token>,
    ) -> Option<Box<dyn WriteUnderWay>> {
        let write = UserDataWrite::of(&ctx.head.method, ctx.path);
        // The usual case costs only these looks.
        if write.is_none() && (self.carrier.is_empty() || !is_about_items(ctx)) {
            return None;
        }
        if !self.shared.keeps_user_data(ctx.pool_index) {
            return None;
        }
        let query = ctx.head.uri.query().unwrap_or_default();
        let (named, access) = match write {
            Some(write) => (write.user(query), Access::Write(write.item(query, versions_of(pod)))),
            None => (None, endpoint::item_read(ctx.path).map_or(Access::Other, Access::Item)),
        };
        let id = named::user_of(&self.pods, ctx, (pod, token), named).await?;
        // Boxed: this path is rare, and would make every request's future larger.
        let admitted =
            Box::pin(self.carrier.admit(UserKey { pool: ctx.pool_index, id }, self.place(ctx.pool_index, pod), access));
        admitted.await.map(|open| Box::new(open) as Box<dyn WriteUnderWay>)
    }

    /// Waits until the pod was told all that the user wrote elsewhere, at most two seconds.
    pub(super) async fn catch_up(&self, session: &Session, pod: &Pod) {
        let pool = self.shared.pools.iter().position(|shared| shared.pool.name == session.pool);
        let (Some(pool), Some(id)) = (pool, Id::read(&session.user)) else { return };
        if self.shared.keeps_user_data(pool) {
            self.carrier.admit(UserKey { pool, id }, self.place(pool, pod), Access::All).await;
        }
    }

    /// Repeats to a pod the client's last report of what it plays. The report is old, so its changes
    /// to the user's data are taken back. A pod whose row cannot be read first does not get it.
    pub(super) async fn preserve(
        &self,
        session: &Session,
        pod: &Pod,
        report: &[u8],
        replay: impl Future<Output = ()> + Send + 'static,
    ) {
        let pool = self.shared.pools.iter().position(|shared| shared.pool.name == session.pool);
        let user = pool.filter(|pool| self.shared.keeps_user_data(*pool)).zip(Id::read(&session.user));
        match user.zip(endpoint::reported_item(report, versions_of(pod))) {
            Some(((pool, id), item)) => {
                self.carrier.preserve(UserKey { pool, id }, self.place(pool, pod), item, replay).await;
            }
            None => replay.await,
        }
    }

    /// A pod has answered: if it has written user data, the other pods are to be told.
    pub(super) fn record(
        &self,
        ctx: &RequestContext<'_>,
        (pod, body): (&Pod, &ReplayBody),
        open: Option<Box<dyn WriteUnderWay>>,
        status: StatusCode,
    ) {
        let Some(open) = open else {
            let is_write = || UserDataWrite::of(&ctx.head.method, ctx.path).is_some();
            if status.is_success() && self.shared.keeps_user_data(ctx.pool_index) && is_write() {
                self.carrier.calls.unread(Unread::User);
            }
            return;
        };
        open.end(status.is_success().then(|| self.read(ctx, (pod, body))).flatten().as_ref());
    }

    /// Where a pod has rows: in the memory of its process, or in a database of its own.
    fn place(&self, pool: usize, pod: &Pod) -> PodInstance {
        let has_own = self.shared.pools.get(pool).is_some_and(|shared| shared.shown_server.users.is_some());
        if has_own { PodInstance::of_database(pod) } else { PodInstance::of(pod) }
    }

    /// What the request has written, out of its head and its body.
    fn read(&self, ctx: &RequestContext<'_>, (pod, body): (&Pod, &ReplayBody)) -> Option<Write> {
        let write = UserDataWrite::of(&ctx.head.method, ctx.path)?;
        let Some(body) = body.replayable() else {
            self.carrier.calls.unread(Unread::Body);
            return None;
        };
        write.read(ctx.head.uri.query().unwrap_or_default(), &body, versions_of(pod))
    }
}

impl SharedState {
    /// Whether users' data are kept in step in this pool.
    pub(super) fn keeps_user_data(&self, pool: usize) -> bool {
        self.keeps_in_step
            && self.api_key().is_some()
            && self.pools.get(pool).is_some_and(|shared| shared.pool.pods().len() > 1)
    }
}

/// Which row this pod writes for a version of an item.
fn versions_of(pod: &Pod) -> Versions {
    if pod.info.may_be_legacy() { Versions::Together } else { Versions::Each }
}

/// Whether the answer may show user data: it depends on the caller, and is no media.
fn is_about_items(ctx: &RequestContext<'_>) -> bool {
    ctx.endpoint.requires_token() && !ctx.endpoint.goes_with_media() && !ctx.is_upgrade
}
