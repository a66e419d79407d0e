//! The lists of sessions that clients get, merged out of those of all pods.
//!
//! The caller's own pod answers, and says who the caller is. Only then the other pods are asked by
//! API key, and their lists are cut to what the caller may see (`jellyfin/session_list`). A row is left out
//! if its session has moved to another pod.

pub(super) mod feed;
mod polling;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::{HeaderValue, StatusCode, header, response};
use tokio::{sync::Semaphore, time};

use super::{
    pod_client::{Caller, PodClient},
    pool_state::PoolState,
    request::{context::RequestContext, record::RequestRecord},
    response::{
        body::Body,
        rewriting::{BrokeOff, Collected, collect, shown, shown_read_ahead},
    },
    shared_state::SharedState,
};
use crate::{
    forward::answer::AnswerBody,
    jellyfin::{
        client::{
            sessions::{self, LONGEST_LIST},
            users,
        },
        session_list::{self, Question, Row, Viewer},
    },
    observe::metrics::{self, Metrics},
    pod::{Pod, PodId},
    server_id::{ShownServer, is_readable_json},
    sessions::Token,
    shutdown::Shutdown,
};

/// The longest wait for what the caller's pod says of the caller, and for the other pods. A pod that
/// does not answer in time is left out.
const LONGEST: Duration = Duration::from_secs(1);

/// How many lists of pods one worker reads at once.
const AT_ONCE: usize = 16;

/// One worker's lists of sessions.
pub(super) struct SessionLists {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    permits: Semaphore,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// The sessions of one pod.
struct PodList {
    pod: Arc<Pod>,
    rows: Vec<Row>,
}

/// Why a pod's list is missing.
enum Missing {
    Refused(StatusCode),
    TimedOut,
    Failed,
}

impl SessionLists {
    pub(super) fn new(
        shared: Arc<SharedState>,
        pods: Arc<PodClient>,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> SessionLists {
        SessionLists { shared, pods, permits: Semaphore::new(AT_ONCE), metrics, shutdown }
    }

    /// The key, if there is one and another pod that it could ask.
    pub(super) fn key_for(&self, pool: &PoolState) -> Option<&Token> {
        self.shared.api_key().filter(|_| pool.pool.pods().len() > 1)
    }

    /// 8. Makes `GET /Sessions` the list of all pods. `token` is the one by which the caller's own
    ///    pod has answered.
    pub(super) async fn answer(
        &self,
        ctx: &RequestContext<'_>,
        token: Option<&Token>,
        answer: &mut response::Parts,
        mut body: AnswerBody,
        record: &mut RequestRecord,
    ) -> Result<Body, BrokeOff> {
        let own_pod = body.pod().clone();
        let is_readable = answer.status == StatusCode::OK && is_readable_json(&answer.headers);
        let own = ctx.keys.identity.token.as_deref();
        let (Some(key), Some(token), true) = (self.key_for(ctx.pool), token.map(Token::as_str).or(own), is_readable)
        else {
            return Ok(shown(ctx, body));
        };
        let whole = match collect(&mut body, LONGEST_LIST).await? {
            Collected::Whole(whole) => whole,
            Collected::Longer(early) => return Ok(shown_read_ahead(ctx, early, body)),
        };
        let whole = ctx.pool.shown_server.whole_to_client(&own_pod, whole);
        let mut caller = Caller::of(ctx);
        let Some(own) = session_list::read(&whole) else { return Ok(Body::whole(whole)) };
        let viewer = time::timeout(LONGEST, self.pods.call(&own_pod, &caller, users::viewer(token))).await;
        let Ok(Ok(viewer)) = viewer else { return Ok(Body::whole(whole)) };
        // The pods then write their fields in the same case.
        if let Some(accept) = ctx.head.headers.get(header::ACCEPT) {
            caller.headers_mut().insert(header::ACCEPT, accept.clone());
        }
        let question = Question::of(ctx.head.uri.query().unwrap_or_default());
        let target = question.for_pod(&viewer);
        let others = self.of_others(ctx.pool, &own_pod, &caller, key, &target).await;
        let rule = question.rule(&viewer);
        let mut lists = vec![PodList { pod: own_pod, rows: own }];
        for (pod, list) in others {
            let outcome = list.as_ref().map_or_else(Missing::to_text, |_| "200".to_owned());
            record.record_fan_out(&pod, &outcome);
            if let Ok(mut rows) = list {
                rows.retain(|row| viewer.may_see(row, rule));
                lists.push(PodList { pod, rows });
            }
        }
        let json = session_list::write(&self.merge(lists), &viewer);
        answer.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(json.len()));
        Ok(Body::whole(json))
    }

    /// The pod that lists a session, other than this one.
    pub(super) async fn pod_with(&self, pool: &PoolState, but: &Arc<Pod>, session: &str) -> Option<Arc<Pod>> {
        let (key, caller) = (self.key_for(pool)?, Caller::proxy(&pool.pool));
        let lists = self.of_others(pool, but, &caller, key, &Question::default().for_pod(&Viewer::Key)).await;
        let found = lists.into_iter().flat_map(|(pod, rows)| {
            let is_it = |row: &Row| row.id.eq_ignore_ascii_case(session);
            let row = rows.into_iter().flatten().find(is_it);
            row.map(|row| (row, pod))
        });
        found.max_by(|(one, _), (other, _)| one.last_active().cmp(other.last_active())).map(|(_, pod)| pod)
    }

    /// All sessions of a pool, for a viewer who sees everything. `None` if no pod gives its list.
    async fn of_all(&self, pool: &PoolState) -> Option<Vec<Row>> {
        let (key, caller) = (self.key_for(pool)?, Caller::proxy(&pool.pool));
        let target = Question::default().for_pod(&Viewer::Key);
        let pods = pool.pool.pods();
        let lists = self.of_pods(&pods, &pool.shown_server, &caller, key, &target).await;
        let lists: Vec<PodList> =
            lists.into_iter().filter_map(|(pod, rows)| Some(PodList { pod, rows: rows.ok()? })).collect();
        (!lists.is_empty()).then(|| self.merge(lists))
    }

    async fn of_others(
        &self,
        pool: &PoolState,
        but: &Arc<Pod>,
        caller: &Caller,
        key: &Token,
        target: &str,
    ) -> Vec<(Arc<Pod>, Result<Vec<Row>, Missing>)> {
        let others: Vec<_> = pool.pool.pods().iter().filter(|pod| pod.id != but.id).cloned().collect();
        self.of_pods(&others, &pool.shown_server, caller, key, target).await
    }

    /// Asks the living ones of these pods at the same time.
    async fn of_pods(
        &self,
        pods: &[Arc<Pod>],
        shown_server: &ShownServer,
        caller: &Caller,
        key: &Token,
        target: &str,
    ) -> Vec<(Arc<Pod>, Result<Vec<Row>, Missing>)> {
        let living = pods.iter().filter(|pod| pod.status().is_alive());
        join_all(living.map(async |pod| {
            let asked = time::timeout(LONGEST, self.of_pod(pod, shown_server, caller, key, target));
            let list = asked.await.unwrap_or(Err(Missing::TimedOut));
            let outcome = list.as_ref().map_or_else(Missing::as_str, |_| "2xx");
            let labels =
                metrics::PodCall { pool: pod.pool.clone(), pod: pod.name.clone(), what: "session_list", outcome };
            self.metrics.pod_calls.get_or_create(&labels).inc();
            (pod.clone(), list)
        }))
        .await
    }

    async fn of_pod(
        &self,
        pod: &Arc<Pod>,
        shown_server: &ShownServer,
        caller: &Caller,
        key: &Token,
        target: &str,
    ) -> Result<Vec<Row>, Missing> {
        // This cannot fail: the semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let call = sessions::list(target.to_owned(), key.as_str());
        let list = self.pods.call(pod, caller, call).await.map_err(|_| Missing::Failed)?;
        let list = shown_server.whole_to_client(pod, list.map_err(Missing::Refused)?);
        session_list::read(&list).ok_or(Missing::Failed)
    }

    fn merge(&self, lists: Vec<PodList>) -> Vec<Row> {
        let listed: Vec<PodId> = lists.iter().map(|list| list.pod.id).collect();
        let present = |PodList { pod, rows }: PodList| {
            let here = |row: &Row| !self.lives_elsewhere(row, &pod, &listed);
            rows.into_iter().filter(here).collect::<Vec<_>>()
        };
        session_list::merge(lists.into_iter().flat_map(present))
    }

    /// Whether the session lives on another pod whose list is there too.
    fn lives_elsewhere(&self, row: &Row, pod: &Pod, listed: &[PodId]) -> bool {
        let session = self.shared.sessions.known.of_device(&pod.pool, &row.user, &row.device);
        let home = session.and_then(|session| session.home());
        home.is_some_and(|home| home.pod != pod.id && listed.contains(&home.pod))
    }
}

impl Missing {
    fn as_str(&self) -> &'static str {
        match self {
            Missing::Refused(status) => metrics::class(status.as_u16()),
            Missing::TimedOut => "timed_out",
            Missing::Failed => "failed",
        }
    }

    fn to_text(&self) -> String {
        match self {
            Missing::Refused(status) => status.as_u16().to_string(),
            Missing::TimedOut | Missing::Failed => self.as_str().to_owned(),
        }
    }
}
