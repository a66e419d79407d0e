//! The SyncPlay groups that a client is shown, of all pods that have some.
//!
//! The leader answers. A pod that led before keeps its groups until they end, and only that pod lists
//! them. So jellypin asks it too, in the client's own name: each pod judges by the user's rights. If
//! no other pod has a group, this costs one look-up in memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Method, StatusCode, header, response};
use tokio::time;

use super::{
    groups::group::Group,
    migrate::{MigrationKind, MigrationRequest, Migrator},
    pod_client::{Caller, PodClient},
    request::{context::RequestContext, record::RequestRecord},
    response::{
        answer::strip,
        body::Body,
        rewriting::{BrokeOff, Collected, collect, shown, shown_read_ahead},
    },
    shared_state::SharedState,
    visit::Visits,
};
use crate::{
    forward::answer::AnswerBody,
    jellyfin::{
        client::sync_play::{self as calls, Member},
        endpoint::{Endpoint, group_looked_at},
        sync_play,
    },
    pod::{Pod, PodInstance},
    sessions::session::MigrationOutcome,
};

/// The longest list of one pod, in bytes.
const LONGEST_LIST: usize = 64 * 1024;

/// The longest wait for the other pods. One that does not answer in time is left out.
const LONGEST: Duration = Duration::from_secs(2);

/// One worker's lists of groups.
pub(super) struct GroupLists {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    migrator: Arc<Migrator>,
    visits: Arc<Visits>,
}

impl GroupLists {
    pub(super) fn new(
        shared: Arc<SharedState>,
        (pods, migrator, visits): (Arc<PodClient>, Arc<Migrator>, Arc<Visits>),
    ) -> GroupLists {
        GroupLists { shared, pods, migrator, visits }
    }

    /// The pods beside the one that answers which have groups that this request may show.
    pub(super) fn others(&self, ctx: &RequestContext<'_>, own: &Pod) -> Vec<(Arc<Pod>, Arc<Group>)> {
        if ctx.endpoint != Endpoint::SyncPlay
            || self.shared.groups.is_empty()
            || ctx.head.method != Method::GET
            || ctx.session().is_none()
        {
            return Vec::new();
        }
        let pool = &ctx.pool.pool;
        let mut groups = match group_looked_at(ctx.path) {
            Some(group) => self.shared.groups.by_id(&pool.name, &sync_play::plain(group)).into_iter().collect(),
            None => self.shared.groups.of_pool(&pool.name),
        };
        let mut others: Vec<(Arc<Pod>, Arc<Group>)> = Vec::new();
        // One that is being made again is the next pod's.
        groups.retain(|group| !group.moving.is_under_way());
        for group in groups {
            let place = group.location.place();
            let has_it = |pod: &&Arc<Pod>| PodInstance::of(pod) == place && pod.status().is_alive();
            if place.pod != own.id
                && !others.iter().any(|(pod, _)| pod.id == place.pod)
                && let Some(pod) = pool.pods().iter().find(has_it)
            {
                others.push((pod.clone(), group));
            }
        }
        others
    }

    /// 8. Adds the groups of other pods to the list, or shows the one that another pod has.
    pub(super) async fn answer(
        &self,
        ctx: &RequestContext<'_>,
        others: Vec<(Arc<Pod>, Arc<Group>)>,
        (answer, record): (&mut response::Parts, &mut RequestRecord),
        mut body: AnswerBody,
    ) -> Result<Body, BrokeOff> {
        let is_one = group_looked_at(ctx.path).is_some();
        let json = match answer.status {
            StatusCode::OK if !is_one => {
                let own = match collect(&mut body, LONGEST_LIST).await? {
                    Collected::Whole(own) => own,
                    Collected::Longer(early) => return Ok(shown_read_ahead(ctx, early, body)),
                };
                let lists = self.of_others(ctx, &others, None, record).await;
                sync_play::merged_lists(&own, &lists).unwrap_or(own)
            }
            StatusCode::NOT_FOUND if is_one => {
                let id = others.first().map(|(_, group)| group.location.id());
                let Some(found) = self.of_others(ctx, &others, id.as_deref(), record).await.into_iter().next() else {
                    return Ok(shown(ctx, body));
                };
                answer.status = StatusCode::OK;
                record.set_status(StatusCode::OK.as_u16());
                strip(&mut answer.headers);
                let json = HeaderValue::from_static("application/json; charset=utf-8");
                answer.headers.insert(header::CONTENT_TYPE, json);
                found
            }
            _ => return Ok(shown(ctx, body)),
        };
        let pool = &ctx.pool.pool.name;
        let with_ids = std::str::from_utf8(&json).ok().and_then(|text| self.shared.groups.with_shown_ids(pool, text));
        let json = with_ids.map_or(json, Bytes::from);
        answer.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(json.len()));
        Ok(Body::whole(json))
    }

    async fn of_others(
        &self,
        ctx: &RequestContext<'_>,
        others: &[(Arc<Pod>, Arc<Group>)],
        group: Option<&str>,
        record: &mut RequestRecord,
    ) -> Vec<Bytes> {
        let asked = join_all(others.iter().map(async |(pod, _)| {
            let shown = time::timeout(LONGEST, self.of_pod(ctx, pod, group)).await;
            (pod, shown.ok().flatten())
        }));
        let mut lists = Vec::new();
        for (pod, list) in asked.await {
            record.record_fan_out(pod, if list.is_some() { "200" } else { "failed" });
            lists.extend(list);
        }
        lists
    }

    /// What the pod shows the client. It is asked to the end, even if the client has left.
    async fn of_pod(&self, ctx: &RequestContext<'_>, pod: &Arc<Pod>, group: Option<&str>) -> Option<Bytes> {
        let session = ctx.session()?;
        let request = MigrationRequest { kind: MigrationKind::KeepHome, ..MigrationRequest::for_request(ctx) };
        let mut caller = Caller::of(ctx);
        // The pods then write their fields in the same case.
        if let Some(accept) = ctx.head.headers.get(header::ACCEPT) {
            caller.headers_mut().insert(header::ACCEPT, accept.clone());
        }
        let (pods, migrator, group) = (self.pods.clone(), self.migrator.clone(), group.map(str::to_owned));
        let (visitor, visited) = (session.clone(), pod.clone());
        let look = async move {
            let place = PodInstance::of(&visited);
            if visitor.token_at(place).is_none()
                && migrator.migrate(&visitor, &visited, request).await != MigrationOutcome::Done
            {
                return None;
            }
            let token = visitor.token_at(place)?;
            let call = calls::look(Member { device: &visitor.device, token: token.as_str() }, group.as_deref());
            pods.call(&visited, &caller, call).await.ok().flatten()
        };
        self.visits.during(ctx, (session, pod), look).await
    }
}
