//! Libraries: each other pod gets what it lacks of what changed, and scans later.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time;

use super::{carrier::Carrier, outcome::Outcome, peers::Peers};
use crate::{
    jellyfin::{
        client::libraries,
        libraries::{Library, Step, steps},
    },
    pod::Pod,
    proxy::pod_client::Caller,
    sessions::plain_id,
};

/// The libraries of the caller's pod before and after the request.
pub(super) struct ChangedLibraries {
    pub(super) before: Vec<Library>,
    pub(super) after: Vec<Library>,
}

/// Pauses between two looks whether a scan has ended: small libraries take a second. All looks take a
/// day.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LAST_LOOK: Duration = Duration::from_secs(15);
const LOOKS: u32 = 5_760;

impl Carrier<'_> {
    pub(super) async fn libraries(&self, pod: &Arc<Pod>) -> Option<Vec<Library>> {
        self.call(pod, libraries::list(self.key)).await.ok()
    }

    /// Whether an item is a library. `None` if the pod does not say.
    pub(super) async fn is_library(&self, pod: &Arc<Pod>, item: &str) -> Option<bool> {
        let item = plain_id(item);
        let is_it = |library: &Library| library.id.as_deref().is_some_and(|id| plain_id(id) == item);
        Some(self.libraries(pod).await?.iter().any(is_it))
    }

    pub(super) async fn follow_libraries(&self, pod: &Arc<Pod>, changed: &ChangedLibraries) -> Outcome {
        let there = match self.call(pod, libraries::list(self.key)).await {
            Ok(there) => there,
            Err(failure) => return Outcome::of(Err(failure)),
        };
        self.carry_out(pod, &steps(&changed.before, &changed.after, &there)).await
    }

    /// Carries out the steps up to the first that fails.
    pub(super) async fn carry_out(&self, pod: &Arc<Pod>, steps: &[Step<'_>]) -> Outcome {
        let mut outcome = Outcome::InStep;
        for step in steps {
            let this = Outcome::of(self.call(pod, libraries::carry_out(step, self.key)).await);
            // A pod that has not scanned since does not know the library yet, and will see it then.
            if matches!((step, this), (Step::Touch { .. }, Outcome::Refused(StatusCode::NOT_FOUND))) {
                continue;
            }
            outcome = this;
            if !matches!(outcome, Outcome::Done(_)) {
                break;
            }
        }
        outcome
    }
}

impl Peers {
    /// Lets the other pods scan, one after the other, once the caller's pod has ended its scan. By
    /// then the items are in the database. Two scans at once would both add them.
    pub(super) async fn scan_later(self: Arc<Self>, pool_index: usize, from: Arc<Pod>, pods: Vec<Arc<Pod>>) {
        let memory = self.memory(pool_index);
        if !memory.request_scan() {
            return;
        }
        let pool = &self.shared.pools[pool_index].pool;
        let caller = Caller::proxy(pool);
        let Some(carrier) = self.carrier(&caller) else { return };
        for pod in std::iter::once(&from).chain(&pods) {
            if pod.id != from.id {
                memory.begin_scan();
                if let Err(failure) = carrier.call(pod, libraries::scan(carrier.key)).await {
                    tracing::warn!(
                        pod.name = &*pod.name,
                        why = failure.cause.as_str(),
                        "a pod could not be told to scan its libraries"
                    );
                    continue;
                }
            }
            let mut pause = FIRST_LOOK;
            for _ in 0..LOOKS {
                tokio::select! {
                    () = time::sleep(pause) => {}
                    () = self.shutdown.stopping() => return,
                }
                pause = LAST_LOOK.min(pause * 2);
                let is_scanning = carrier.call(pod, libraries::is_scanning(carrier.key)).await;
                if !matches!(is_scanning, Ok(true)) || !pod.status().is_alive() {
                    break;
                }
            }
        }
    }
}
