//! The pages for programs: readiness, metrics, pods, sessions and replicas.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use http::StatusCode;
use serde::Serialize;

use super::{
    AdminState,
    answer::{Answer, json, text, whole},
    rolled::RollPage,
};
use crate::{
    observe::metrics::{OfPod, PodCondition, PodState},
    pod::{Condition, Pod, Rest, State},
    sessions::{Session, UnixMillis, registry::replicas},
};

/// Writes the pages.
pub(super) struct Pages {
    pub(super) state: Arc<AdminState>,
}

impl Pages {
    pub(super) fn ready(&self) -> Answer {
        if self.state.shutdown.is_stopping() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        }
        let shared = self.state.shared();
        let mut configured = shared.pools.iter().filter(|shared| shared.is_configured);
        // Clients must come, or nothing wakes a pod that sleeps.
        let serves = |pod: &Arc<Pod>| pod.can_answer() || pod.sleep.rest() != Rest::Awake;
        let without = configured.find(|shared| !shared.pool.pods().iter().any(serves));
        match without {
            None => text(StatusCode::OK, "ready\n"),
            Some(shared) => {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("no pod of the pool {} is ready\n", shared.pool.name))
            }
        }
    }

    pub(super) fn metrics_page(&self) -> Answer {
        self.measure();
        match self.state.metrics.page() {
            Ok(page) => whole("application/openmetrics-text; version=1.0.0; charset=utf-8", page),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "The metrics could not be written.\n"),
        }
    }

    pub(super) fn roll_page(&self) -> Answer {
        let rolls = self.state.lifecycle().map(|lifecycle| lifecycle.roller.rolls()).unwrap_or_default();
        json(&rolls.iter().map(|(pool, roll)| RollPage::of(pool, roll)).collect::<Vec<_>>())
    }

    /// Updates the gauges. Pods that are gone leave the page.
    pub(super) fn measure(&self) {
        let metrics = &self.state.metrics;
        metrics.pins.set(self.state.shared().pins.len() as i64);
        metrics.sessions.set(self.state.shared().sessions.known.count() as i64);
        metrics.pod_state.clear();
        metrics.pod_condition.clear();
        metrics.pod_check_seconds.clear();
        metrics.pod_share.clear();
        metrics.pod_limit.clear();
        metrics.pod_waiting.clear();
        metrics.pod_extra_calls_waited.clear();
        metrics.pod_epoch.clear();
        metrics.pod_requests.clear();
        metrics.pod_sockets.clear();
        metrics.writer.clear();
        for writes in self.state.shared().pools.iter().filter_map(|shared| shared.writer.current(&shared.pool)) {
            metrics.writer.get_or_create(&OfPod { pool: writes.pool.clone(), pod: writes.name.clone() }).set(1);
        }
        metrics.leader.clear();
        for leads in self.state.shared().pools.iter().filter_map(|shared| shared.leader.current()) {
            metrics.leader.get_or_create(&OfPod { pool: leads.pool.clone(), pod: leads.name.clone() }).set(1);
        }
        for pod in self.state.shared().all_pools().flat_map(|pool| pool.pods().to_vec()) {
            let of = OfPod { pool: pod.pool.clone(), pod: pod.name.clone() };
            let status = pod.status();
            let shown = pod.shown_state();
            for state in State::ALL.map(State::as_str).into_iter().chain(["asleep", "waking"]) {
                let label = PodState { pool: pod.pool.clone(), pod: pod.name.clone(), state };
                metrics.pod_state.get_or_create(&label).set((shown == state).into());
            }
            for condition in Condition::ALL {
                let label =
                    PodCondition { pool: pod.pool.clone(), pod: pod.name.clone(), condition: condition.as_str() };
                let holds = status.is_alive() && pod.vitals.condition() == condition;
                metrics.pod_condition.get_or_create(&label).set(holds.into());
            }
            metrics.pod_check_seconds.get_or_create(&of).set(pod.vitals.check_time().as_secs_f64());
            metrics.pod_share.get_or_create(&of).set(0.5_f64.powi(pod.vitals.halvings().into()));
            metrics.pod_limit.get_or_create(&of).set(pod.concurrency.limit() as i64);
            metrics.pod_waiting.get_or_create(&of).set(pod.concurrency.waiting() as i64);
            metrics.pod_extra_calls_waited.get_or_create(&of).set(pod.extra_calls.waited() as i64);
            metrics.pod_epoch.get_or_create(&of).set(status.epoch.0.into());
            metrics.pod_requests.get_or_create(&of).set(pod.load.requests() as i64);
            metrics.pod_sockets.get_or_create(&of).set(pod.load.sockets() as i64);
        }
    }

    pub(super) fn pods_page(&self) -> Answer {
        let shared_state = self.state.shared();
        let plain = shared_state.plain.iter().flat_map(|pool| pool.pods().to_vec());
        let plain = plain.map(|pod| PodPage::of(&pod, "http", (false, false), 0));
        let pods: Vec<PodPage> = shared_state
            .pools
            .iter()
            .flat_map(|shared| {
                let leads = shared.leader.current().map(|pod| pod.id);
                let sessions = |pod: &Pod| shared_state.clients_of(pod).len();
                let page = |pod: &Arc<Pod>| {
                    PodPage::of(
                        pod,
                        "jellyfin",
                        (leads == Some(pod.id), shared.pool.is_standby(&pod.name)),
                        sessions(pod),
                    )
                };
                shared.pool.pods().iter().map(page).collect::<Vec<_>>()
            })
            .chain(plain)
            .collect();
        json(&pods)
    }

    pub(super) fn replicas_page(&self) -> Answer {
        json(&self.replicas())
    }

    /// This replica and the others that it knows of.
    pub(super) fn replicas(&self) -> Vec<ReplicaPage> {
        let shared = self.state.shared();
        let sessions = &shared.sessions;
        let own = ReplicaPage {
            name: sessions.name().to_owned(),
            is_this_one: true,
            disagrees: Vec::new(),
            is_readable: !sessions.replicas.is_apart(),
            clock_ahead_ms: Some(sessions.backend.clock.error()),
            tombstones: Some(sessions.ends.count()),
        };
        let other = |other: replicas::Replica| ReplicaPage {
            name: other.name,
            is_this_one: false,
            disagrees: other.disagrees,
            is_readable: other.is_read,
            clock_ahead_ms: None,
            tombstones: None,
        };
        std::iter::once(own).chain(sessions.replicas.others().into_iter().map(other)).collect()
    }

    pub(super) fn sessions_page(&self) -> Answer {
        let (mut page, now) = (Vec::new(), self.state.shared().sessions.backend.clock.now());
        for shared in &self.state.shared().pools {
            let pods = shared.pool.pods();
            for pod in pods.iter() {
                let living =
                    self.state.shared().sessions.known.of_pod(pod).into_iter().filter(|session| !session.is_ended());
                page.extend(living.map(|session| SessionPage::of(pod, &session, &pods, now)));
            }
        }
        json(&page)
    }
}

/// A pod as the page shows it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
struct PodPage {
    pool: String,
    /// As the configuration says: `jellyfin` or `http`.
    kind: &'static str,
    name: String,
    address: String,
    state: &'static str,
    accepts_connections: bool,
    /// How a pod that serves is doing.
    condition: &'static str,
    /// What its health checks take.
    check_ms: u64,
    /// Its share of new clients, beside 1 for a pod that is well.
    share: f64,
    /// Requests that it is given at once, before their answers begin.
    limit: usize,
    /// Requests that wait for their turn.
    waiting: usize,
    leads: bool,
    /// It gets clients only while no other pod is ready.
    standby: bool,
    /// Sessions whose clients are known and active. Needs an API key, else 0.
    sessions: usize,
    epoch: u32,
    requests: usize,
    sockets: usize,
    /// Why it is not trusted over TLS, in words.
    trouble: Option<String>,
    server_id: Option<String>,
    version: Option<String>,
}

impl PodPage {
    fn of(pod: &Pod, kind: &'static str, (leads, standby): (bool, bool), sessions: usize) -> PodPage {
        let (status, info) = (pod.status(), pod.info.latest());
        PodPage {
            pool: pod.pool.to_string(),
            kind,
            name: pod.name.to_string(),
            address: pod.authority.to_string(),
            state: pod.shown_state(),
            accepts_connections: status.accepts,
            condition: pod.vitals.condition().as_str(),
            check_ms: pod.vitals.check_time().as_millis() as u64,
            share: 0.5_f64.powi(pod.vitals.halvings().into()),
            limit: pod.concurrency.limit(),
            waiting: pod.concurrency.waiting(),
            leads,
            standby,
            sessions,
            epoch: status.epoch.0,
            requests: pod.load.requests(),
            sockets: pod.load.sockets(),
            trouble: pod.transport.trouble().map(|trouble| trouble.to_string()),
            server_id: info.as_ref().map(|info| info.id.clone()),
            version: info.as_ref().map(|info| info.version.clone()),
        }
    }
}

/// A replica as the page shows it.
#[derive(Serialize)]
pub(super) struct ReplicaPage {
    pub(super) name: String,
    pub(super) is_this_one: bool,
    /// The settings in which it differs from this replica.
    pub(super) disagrees: Vec<String>,
    /// This replica can read what it writes. For this one: it can migrate sessions.
    pub(super) is_readable: bool,
    /// How far this machine's clock is ahead of Redis's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tombstones: Option<usize>,
}

/// A session as the page shows it: no token, and nothing derived from one.
#[derive(Serialize)]
struct SessionPage {
    pool: String,
    pod: String,
    user_id: String,
    client: String,
    device: String,
    device_id: String,
    /// When the session came to the pod.
    since: String,
    /// Why it came, out of a closed set.
    why: &'static str,
    /// The pod that it came from, if any.
    from: Option<String>,
    /// The client has reported a playback and not yet its end.
    playing: bool,
    /// Open sockets at this replica.
    sockets: usize,
}

impl SessionPage {
    fn of(pod: &Pod, session: &Session, pods: &[Arc<Pod>], now: UnixMillis) -> SessionPage {
        let moved = session.residence.last_move();
        let from = moved.from.filter(|from| from.pod != pod.id);
        let from = from.and_then(|from| pods.iter().find(|pod| pod.id == from.pod));
        // Another replica's clock may be ahead.
        let since = UNIX_EPOCH + Duration::from_millis(moved.at.min(now));
        SessionPage {
            pool: pod.pool.to_string(),
            pod: pod.name.to_string(),
            user_id: session.user.clone(),
            client: session.device.client.clone(),
            device: session.device.name.clone(),
            device_id: session.device.id.clone(),
            since: humantime::format_rfc3339_seconds(since).to_string(),
            why: moved.why.as_str(),
            from: from.map(|pod| pod.name.to_string()),
            playing: session.calls.is_playing(),
            sockets: session.sockets.places().borrow().len(),
        }
    }
}
