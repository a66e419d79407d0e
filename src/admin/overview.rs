//! What the dashboard shows, as JSON: the state of things, who is where, and the last hour.

use std::{sync::Arc, time::SystemTime};

use serde::Serialize;
use tokio::time;

use super::{
    AdminState,
    certificates::{self, CertificateRow},
    listed::Listed,
    pages::{Pages, ReplicaPage},
    verdict::{self, Facts, PodFacts, Verdict, millis},
};
use crate::{
    jellyfin::client::sessions::Playing,
    observe::{
        history::{self, History, Sample},
        metrics::MissingRequirement,
        recent::RecentEvent,
    },
    pod::{Pod, PodInstance, State},
    sessions::{Session, UnixMillis},
};

/// The most sessions that the page lists.
const MOST_CLIENTS: usize = 2_000;

/// All of it, for programs (`GET /overview`).
#[derive(Serialize)]
pub(super) struct Whole {
    overview: Overview,
    clients: Clients,
    history: Vec<SampleRow>,
    events: Vec<EventRow>,
}

/// The state of pods, stores and replicas.
#[derive(Serialize)]
pub(super) struct Overview {
    verdict: Verdict,
    version: &'static str,
    pods: Vec<PodRow>,
    /// Requests that wait for a pod now.
    held: usize,
    /// Sessions in memory, absent clients included.
    sessions: usize,
    /// Whether Redis answers; null without one.
    redis: Option<bool>,
    replicas: Vec<ReplicaPage>,
    /// What clients are shown over TLS.
    certificates: Vec<CertificateRow>,
    /// There is an API key, so sessions are known and can move.
    has_key: bool,
    /// An operator can move sessions.
    can_move: bool,
}

#[derive(Serialize)]
struct PodRow {
    pool: String,
    /// As the configuration says: `jellyfin` or `http`.
    kind: &'static str,
    name: String,
    address: String,
    state: &'static str,
    /// How it does while it serves; `well` if it does not.
    condition: &'static str,
    since_ms: u64,
    accepts: bool,
    leads: bool,
    is_removed: bool,
    epoch: u32,
    requests: usize,
    sockets: usize,
    sessions: usize,
    version: Option<String>,
    server_name: Option<String>,
}

/// Who is where.
#[derive(Serialize)]
pub(super) struct Clients {
    rows: Vec<ClientRow>,
    /// How many are left out, since they are too many for a page.
    hidden: usize,
}

/// A session whose client is there.
#[derive(Serialize)]
struct ClientRow {
    pool: String,
    pod: String,
    user_id: String,
    /// The user's name, if a pod has said it.
    user: Option<String>,
    device: String,
    device_id: String,
    client: String,
    since_ms: u64,
    why: &'static str,
    from: Option<String>,
    sockets: usize,
    in_group: bool,
    /// The client has reported a playback and not yet its end.
    is_playing: bool,
    playing: Option<PlayingRow>,
}

#[derive(Serialize)]
struct PlayingRow {
    title: String,
    position_s: u64,
    length_s: u64,
    is_paused: bool,
    method: String,
}

#[derive(Serialize)]
pub(super) struct SampleRow {
    at: u64,
    requests: f64,
    errors: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    sockets: u64,
    moves: u64,
}

#[derive(Serialize)]
pub(super) struct EventRow {
    number: u64,
    at_ms: u64,
    level: &'static str,
    message: String,
    /// Name and value, in the order of the log.
    fields: Vec<(&'static str, String)>,
}

/// Makes the parts of the dashboard.
pub(super) struct Views {
    pub(super) state: Arc<AdminState>,
    pub(super) pages: Arc<Pages>,
    /// What the pods list.
    pub(super) listed: Listed,
    /// The last hour.
    pub(super) history: History,
}

impl Views {
    pub(super) async fn whole(&self) -> Whole {
        self.renew_listed().await;
        Whole { overview: self.overview(), clients: self.clients(), history: self.samples(), events: events_since(0) }
    }

    /// Asks the pods for names and titles again if the last answer is old.
    pub(super) async fn renew_listed(&self) {
        if let Some(lifecycle) = self.state.lifecycle() {
            let shared = self.state.shared();
            self.listed.renew(&lifecycle, shared.pools.iter().map(|shared| &shared.pool)).await;
        }
    }

    pub(super) fn overview(&self) -> Overview {
        let (mut pods, mut facts) = (Vec::new(), Facts::default());
        let now = self.state.shared().sessions.backend.clock.now();
        for shared in &self.state.shared().pools {
            let members = shared.pool.pods().to_vec();
            if members.is_empty() && shared.is_configured {
                facts.empty_pools.push(shared.pool.name.to_string());
            }
            let leads = shared.leader.current().map(|pod| pod.id);
            let clients: Vec<_> = members.iter().map(|pod| self.state.shared().clients_of(pod)).collect();
            for (pod, own) in members.iter().zip(&clients) {
                let since = millis(pod.life.since());
                let left = |session: &&Arc<Session>| has_left(session, pod, since, now);
                facts.pods.push(PodFacts {
                    is_plain: false,
                    sessions: own.len(),
                    moved: clients.iter().flatten().filter(left).count(),
                    lacks: self.lacks(pod),
                    ..PodFacts::plain(pod)
                });
                pods.push(PodRow::of(pod, "jellyfin", leads == Some(pod.id), own.len()));
            }
        }
        for pool in &self.state.shared().plain {
            let members = pool.pods().to_vec();
            if members.is_empty() {
                facts.empty_pools.push(pool.name.to_string());
            }
            facts.pods.extend(members.iter().map(|pod| PodFacts::plain(pod)));
            pods.extend(members.iter().map(|pod| PodRow::of(pod, "http", false, 0)));
        }
        let replicas = self.pages.replicas();
        facts.redis = self.state.shared().pins.persistence.redis().map(|_| self.state.metrics.redis_up.get() == 1);
        facts.is_apart = self.state.shared().sessions.replicas.is_apart();
        facts.held = self.state.shared().held();
        facts.is_stopping = self.state.shutdown.is_stopping();
        facts.is_refused = self.state.metrics.reload_success.get() == 0;
        let disagreeing = replicas.iter().filter(|replica| !replica.disagrees.is_empty());
        facts.disagreeing = disagreeing.map(|replica| (replica.name.clone(), replica.disagrees.clone())).collect();
        let certificates = certificates::rows(&self.state.certificates(), millis(SystemTime::now()) / 1000);
        facts.ending = certificates.iter().filter(|row| row.ends_soon).map(CertificateRow::end).collect();
        let has_key = self.state.shared().migration.api_key.is_some();
        let is_alone =
            !self.state.shared().sessions.replicas.has_others() || !self.state.shared().user_homes.are_kept();
        Overview {
            verdict: verdict::of(&facts),
            version: env!("CARGO_PKG_VERSION"),
            held: facts.held,
            sessions: self.state.shared().sessions.known.count(),
            redis: facts.redis,
            replicas,
            certificates,
            has_key,
            can_move: has_key
                && is_alone
                && facts.pods.iter().filter(|pod| !pod.is_plain && pod.state == State::Ready).count() > 1,
            pods,
        }
    }

    /// What sessions need to migrate to the pod, and it did not have when it was last asked.
    fn lacks(&self, pod: &Pod) -> Vec<&'static str> {
        let is_missing = |what| {
            let of = MissingRequirement { pool: pod.pool.clone(), pod: pod.name.clone(), what };
            self.state.metrics.missing_requirements.get(&of).is_some_and(|gauge| gauge.get() == 1)
        };
        [("api_key", "refuses the API key"), ("quick_connect", "has Quick Connect disabled")]
            .into_iter()
            .filter_map(|(what, words)| is_missing(what).then_some(words))
            .collect()
    }

    pub(super) fn clients(&self) -> Clients {
        let (mut rows, mut hidden) = (Vec::new(), 0);
        let now = self.state.shared().sessions.backend.clock.now();
        for shared in &self.state.shared().pools {
            let pods = shared.pool.pods().to_vec();
            for pod in &pods {
                for session in self.state.shared().clients_of(pod) {
                    if session.is_ended() {
                        continue;
                    }
                    if rows.len() < MOST_CLIENTS {
                        rows.push(self.client(pod, &session, &pods, now));
                    } else {
                        hidden += 1;
                    }
                }
            }
        }
        // The table of sessions has no order of its own, and an unchanged page is not sent again.
        rows.sort_by(|one, other| one.key().cmp(&other.key()));
        Clients { rows, hidden }
    }

    fn client(&self, pod: &Pod, session: &Session, pods: &[Arc<Pod>], now: UnixMillis) -> ClientRow {
        let moved = session.residence.last_move();
        let from = moved.from.filter(|from| from.pod != pod.id);
        let from = from.and_then(|from| pods.iter().find(|pod| pod.id == from.pod));
        let (user, playing) = self.listed.of(session, pod.id);
        ClientRow {
            pool: pod.pool.to_string(),
            pod: pod.name.to_string(),
            user_id: session.user.clone(),
            user,
            device: session.device.name.clone(),
            device_id: session.device.id.clone(),
            client: session.device.client.clone(),
            since_ms: moved.at.min(now),
            why: moved.why.as_str(),
            from: from.map(|pod| pod.name.to_string()),
            sockets: session.sockets.places().borrow().len(),
            in_group: session.group.is_at(PodInstance::of(pod)),
            is_playing: session.calls.is_playing(),
            playing: playing.map(PlayingRow::of),
        }
    }

    /// Takes a sample of the metrics every ten seconds, until the runtime ends.
    pub(super) async fn take_samples(self: Arc<Self>) {
        let mut ticks = time::interval(history::EVERY);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.pages.measure();
            if let Ok(page) = self.state.metrics.page() {
                self.history.record(&page, SystemTime::now());
            }
        }
    }

    pub(super) fn samples(&self) -> Vec<SampleRow> {
        self.history.samples().into_iter().map(SampleRow::of).collect()
    }
}

/// The events after this number, the oldest first.
pub(super) fn events_since(number: u64) -> Vec<EventRow> {
    crate::observe::recent::recent().since(number).iter().map(|event| EventRow::of(event)).collect()
}

/// Whether a session lived on the pod when the pod's state changed, and has moved since.
fn has_left(session: &Session, pod: &Pod, since: u64, now: UnixMillis) -> bool {
    let moved = session.residence.last_move();
    let lives_here = session.home().is_some_and(|home| home.pod == pod.id);
    moved.from.is_some_and(|from| from.pod == pod.id) && !lives_here && moved.at.min(now) >= since
}

impl PodRow {
    fn of(pod: &Pod, kind: &'static str, leads: bool, sessions: usize) -> PodRow {
        let (status, info) = (pod.status(), pod.info.latest());
        PodRow {
            pool: pod.pool.to_string(),
            kind,
            name: pod.name.to_string(),
            address: pod.authority.to_string(),
            state: pod.shown_state(),
            condition: verdict::condition(pod).as_str(),
            since_ms: millis(pod.life.since()),
            accepts: status.accepts,
            leads,
            is_removed: pod.drain.is_removed(),
            epoch: status.epoch.0,
            requests: pod.load.requests(),
            sockets: pod.load.sockets(),
            sessions,
            version: info.as_ref().map(|info| info.version.clone()),
            server_name: info.as_ref().map(|info| info.name.clone()),
        }
    }
}

impl ClientRow {
    fn key(&self) -> (&str, &str, &str, &str) {
        (self.user.as_deref().unwrap_or(&self.user_id), &self.device, &self.device_id, &self.pool)
    }
}

impl PlayingRow {
    fn of(playing: Playing) -> PlayingRow {
        let Playing { title, position_s, length_s, is_paused, method } = playing;
        PlayingRow { title, position_s, length_s, is_paused, method }
    }
}

impl SampleRow {
    fn of(sample: Sample) -> SampleRow {
        let Sample { at, requests, errors, p50_ms, p99_ms, sockets, moves } = sample;
        SampleRow { at, requests, errors, p50_ms, p99_ms, sockets, moves }
    }
}

impl EventRow {
    fn of(event: &RecentEvent) -> EventRow {
        EventRow {
            number: event.number,
            at_ms: millis(event.at),
            level: event.level,
            message: event.message.clone(),
            fields: event.fields.clone(),
        }
    }
}
