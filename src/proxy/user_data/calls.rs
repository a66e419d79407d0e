//! The calls to pods by which users' data are kept in step, and what is counted of them.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{self, Instant},
};

use super::pod_calls::{Answer, Event, PodCalls, WaitOutcome};
use crate::{
    jellyfin::{
        client::{
            ApiCall,
            user_data::{self, Answer as PodAnswer},
        },
        user_data::{Act, Id, Row, position::PlayedItem},
    },
    observe::metrics::{self, Metrics},
    pod::{Pod, PodInstance, Rest, State},
    proxy::{
        pod_client::{Caller, PodClient},
        shared_state::SharedState,
        user_data_state::ledger::{PodView, TellOutcome, UserKey},
    },
    server_id::users::Standing,
};

/// One worker's calls.
pub(super) struct Calls {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    metrics: Metrics,
}

/// Why a write is not carried to other pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Nobody knows whose data it is.
    User,
    /// The body was too long to be kept.
    Body,
}

/// Longest time for one call.
const LONGEST: Duration = Duration::from_secs(3);

/// Time between two warnings.
const WARNED_EVERY: Duration = Duration::from_secs(60);

impl Calls {
    pub(super) fn new(shared: Arc<SharedState>, pods: Arc<PodClient>, metrics: Metrics) -> Calls {
        Calls { shared, pods, metrics }
    }

    /// Counts a write that other pods are not told.
    pub(super) fn unread(&self, why: Unread) {
        self.drop_write(match why {
            Unread::User => "user",
            Unread::Body => "body",
        });
    }

    async fn call<T>(&self, at: PodInstance, user: UserKey, call: ApiCall<PodAnswer<T>>) -> Answer<T> {
        let Some((pod, key)) = self.pod(at).zip(self.shared.api_key()) else { return Answer::Failed };
        let called = async {
            let caller = Caller::proxy(&self.shared.pools.get(user.pool)?.pool);
            Some(self.pods.call(&pod, &caller, call.with_token(key.as_str())).await)
        };
        match time::timeout(LONGEST, called).await {
            Ok(Some(Ok(PodAnswer::Got(got)))) => Answer::Got(got),
            Ok(Some(Ok(PodAnswer::Missing))) => Answer::Missing,
            Ok(Some(Ok(PodAnswer::Refused(status)))) => {
                if self.may_warn() {
                    let status = status.as_u16();
                    tracing::warn!(pod.name = &*pod.name, status, "a pod refuses what another has written of a user");
                }
                Answer::Failed
            }
            Ok(Some(Err(failure))) => {
                self.shared.report_failure(&pod, failure, true);
                Answer::Failed
            }
            Ok(None) | Err(_) => Answer::Failed,
        }
    }

    /// The pod, if it is still in this life.
    fn pod(&self, at: PodInstance) -> Option<Arc<Pod>> {
        let pods = self.shared.pools.iter().flat_map(|shared| shared.pool.pods().to_vec());
        let is_it = |pod: &Arc<Pod>| PodInstance::of(pod) == at || PodInstance::of_database(pod) == at;
        pods.into_iter().find(is_it)
    }

    fn drop_write(&self, why: &'static str) {
        self.metrics.user_data_dropped.get_or_create(&metrics::Dropped { why }).inc();
        if self.may_warn() {
            tracing::warn!(why, "other pods do not hear of what a user wrote through one");
        }
    }

    fn may_warn(&self) -> bool {
        let mut warned = self.shared.user_data.warned.lock();
        let may = warned.is_none_or(|at| at.elapsed() >= WARNED_EVERY);
        if may {
            *warned = Some(Instant::now());
        }
        may
    }

    fn count(&self, at: PodInstance, outcome: &'static str) {
        let Some(pod) = self.pod(at) else { return };
        let labels = metrics::UserDataTold { pool: pod.pool.clone(), pod: pod.name.clone(), outcome };
        self.metrics.user_data_told.get_or_create(&labels).inc();
        if outcome == "failed" {
            tracing::debug!(pod.name = &*pod.name, "a pod was not told what a user wrote through another");
        }
    }
}

/// The pod as the ledger sees it. `None` if no process of it has rows in memory.
fn view(pod: &Pod) -> Option<PodView> {
    let status = pod.status();
    let is_alive = status.is_alive();
    // Where nothing listens there is none, unless the machine is suspended with it.
    let sleeps = !is_alive && pod.sleep.rest() != Rest::Awake;
    let may_return = status.accepts || status.state != State::Down || sleeps;
    may_return.then(|| PodView { instance: PodInstance::of(pod), is_alive, sleeps })
}

/// A pod with a database of its own, as the ledger sees it: its rows outlive the process. `None` if
/// that database has no such user.
fn view_of_database(pod: &Pod, standing: Standing) -> Option<PodView> {
    let is_alive = pod.status().is_alive() && standing != Standing::Unknown;
    let view = PodView { instance: PodInstance::of_database(pod), is_alive, sleeps: !is_alive };
    (standing != Standing::Missing).then_some(view)
}

impl PodCalls for Calls {
    fn pods(&self, user: UserKey) -> Vec<PodView> {
        let Some(shared) = self.shared.pools.get(user.pool) else { return Vec::new() };
        let pods = shared.pool.pods();
        match &shared.shown_server.users {
            Some(users) => {
                let id = user.id.to_string();
                pods.iter().filter_map(|pod| view_of_database(pod, users.standing(pod, &id))).collect()
            }
            None => pods.iter().filter_map(|pod| view(pod)).collect(),
        }
    }

    // Nobody closes the semaphores, so there is always a permit.
    type Permit = Option<OwnedSemaphorePermit>;

    async fn permit(&self, at: PodInstance) -> Self::Permit {
        self.shared.user_data.permits(at.pod).acquire_owned().await.ok()
    }

    async fn read(&self, at: PodInstance, user: UserKey, item: Id) -> Answer<Row> {
        self.call(at, user, user_data::row(user.id, item)).await
    }

    async fn write_row(&self, at: PodInstance, user: UserKey, item: Id, row: &Row) -> Answer<Row> {
        self.call(at, user, user_data::write(user.id, item, row)).await
    }

    async fn act(&self, at: PodInstance, user: UserKey, item: Id, act: &Act) -> Answer<()> {
        match user_data::act(user.id, item, act) {
            Some(call) => self.call(at, user, call).await,
            None => Answer::Missing,
        }
    }

    async fn played_item(&self, at: PodInstance, user: UserKey, item: Id) -> Answer<PlayedItem> {
        let item = self.call(at, user, user_data::played_item(user.id, item));
        match tokio::join!(item, self.call(at, user, user_data::resume_limits())) {
            (Answer::Got(item), Answer::Got(limits)) => Answer::Got(PlayedItem { limits, ..item }),
            (Answer::Got(_), _) => Answer::Failed,
            (unknown, _) => unknown,
        }
    }

    async fn other_versions(&self, at: PodInstance, user: UserKey, item: Id) -> Answer<Vec<Id>> {
        if self.pod(at).is_some_and(|pod| pod.info.may_be_legacy()) {
            return Answer::Got(Vec::new());
        }
        match self.call(at, user, user_data::versions(user.id, item)).await {
            Answer::Got(versions) => Answer::Got(versions.into_iter().filter(|version| *version != item).collect()),
            none => none,
        }
    }

    fn children(
        &self,
        at: PodInstance,
        user: UserKey,
        folder: Id,
        from: usize,
    ) -> impl Future<Output = Answer<Vec<(Id, Row)>>> + Send {
        self.call(at, user, user_data::children(user.id, folder, from))
    }

    fn observe(&self, event: Event) {
        match event {
            Event::Told(pod, TellOutcome::Done) => self.count(pod, "told"),
            Event::Told(pod, TellOutcome::Failed) => self.count(pod, "failed"),
            Event::Gone(pod) => self.count(pod, "gone"),
            Event::Redone(pod) => self.count(pod, "redone"),
            Event::Waited(_, outcome) => {
                let outcome = match outcome {
                    WaitOutcome::Told => "told",
                    WaitOutcome::TimedOut => "timed_out",
                };
                self.metrics.user_data_waits.get_or_create(&metrics::Waited { outcome }).inc();
            }
            Event::Pairs(change) => {
                self.metrics.user_data_pairs.inc_by(change);
            }
            Event::Dropped => self.drop_write("full"),
            Event::TooManyChildren => self.drop_write("children"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        health,
        pod::{PodConfig, Status},
    };

    #[test]
    fn a_pod_that_sleeps_may_have_rows_in_memory_and_one_that_is_down_has_none() {
        let pod =
            Pod::new(&"pool".into(), &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() });
        let ready = || pod.life.change(|status| Status { state: State::Ready, accepts: true, ..status });
        let seen = || view(&pod).map(|view| (view.is_alive, view.sleeps));
        ready();
        assert_eq!(seen(), Some((true, false)));
        health::refused(&pod);
        assert_eq!(seen(), None, "its process is gone");
        ready();
        pod.sleep.set_wakeable(true);
        health::falls_asleep(&pod, "nobody has used it");
        assert_eq!(seen(), Some((false, true)));
        pod.sleep.set_rest(Rest::Waking);
        assert_eq!(seen(), Some((false, true)));
        ready();
        assert_eq!(seen(), Some((true, false)), "it is told at once");
    }
}
