//! What the proxy does for a pod besides requests: log-outs, checks and warm-up when an epoch
//! begins, and a drain when the pod leaves the pool.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{task::JoinSet, time};

use super::{Proxy, pod_client::Caller};
use crate::{
    jellyfin::{
        authorization::Device,
        client::{
            quick_connect,
            system::{self, PublicInfo},
        },
    },
    observe::metrics,
    pod::{Epoch, Pod, PodId, Pool},
};

/// Why the proxy cannot migrate sessions to a pod, and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingRequirement {
    /// The pod does not know the API key.
    ApiKey,
    /// Quick Connect is disabled.
    QuickConnect,
    /// The pod did not answer the check.
    NoAnswer,
}

impl MissingRequirement {
    /// One sentence with the remedy.
    pub fn remedy(self) -> &'static str {
        match self {
            MissingRequirement::ApiKey => {
                "it refuses the API key, so no session can be carried to it; make a key in Jellyfin's Dashboard under API Keys and set it as [jellyfin] api_key"
            }
            MissingRequirement::QuickConnect => {
                "Quick Connect is disabled, so no session can be carried to it; enable it in Jellyfin's Dashboard under General"
            }
            MissingRequirement::NoAnswer => {
                "it does not answer, so it is not known whether sessions can be carried to it"
            }
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            MissingRequirement::ApiKey => "api_key",
            MissingRequirement::QuickConnect => "quick_connect",
            MissingRequirement::NoAnswer => "no_answer",
        }
    }
}

/// For a pod that takes every client for local.
pub const ALL_ARE_LOCAL: &str = "it does not believe what it is told of clients (X-Forwarded-For): every client counts as local, and anybody may restart it without a log-in; name jellypin's address in Jellyfin's Dashboard under Networking, Known proxies, and restart the pod";

/// A documentation address (RFC 5737): no local network contains it.
const STRANGER: HeaderValue = HeaderValue::from_static("203.0.113.1");

/// Pause between two looks at the pods.
const LOOK: Duration = Duration::from_millis(250);

impl Proxy {
    /// Serves each pod of a pool when an epoch begins and when the pod leaves, until the shutdown.
    pub async fn watch_pool(self: Arc<Self>, pool: Arc<Pool>) {
        let mut seen: HashMap<PodId, Epoch> = HashMap::new();
        let mut leaving = HashSet::new();
        let mut work = JoinSet::new();
        let mut members = pool.members();
        loop {
            for pod in pool.pods().iter() {
                let status = pod.status();
                if status.is_alive() && seen.insert(pod.id, status.epoch) != Some(status.epoch) {
                    let on_new_instance = self.clone().on_new_instance(pod.clone(), pool.clone());
                    work.spawn(async {
                        on_new_instance.await;
                        None
                    });
                }
                if pod.is_removed() && leaving.insert(pod.id) {
                    let (seen_off, id) = (self.clone().drain_removed(pool.clone(), pod.clone()), pod.id);
                    work.spawn(async move {
                        seen_off.await;
                        Some(id)
                    });
                }
            }
            seen.retain(|id, _| pool.pods().iter().any(|pod| pod.id == *id));
            while let Some(done) = work.try_join_next() {
                if let Ok(Some(id)) = done {
                    leaving.remove(&id);
                }
            }
            tokio::select! {
                () = time::sleep(LOOK) => {}
                // This never fails: the pool holds the sender.
                _ = members.changed() => {}
                () = self.shutdown.stopping() => return,
            }
        }
    }

    /// Applies other replicas' session changes and renews pending log-outs, until the shutdown.
    pub async fn follow_replicas(self: Arc<Self>) {
        tokio::select! {
            () = self.shared.sessions.follow_replicas() => {}
            () = self.shared.sessions.renew_pending_logouts() => {}
            () = self.shutdown.stopping() => {}
        }
    }

    async fn on_new_instance(self: Arc<Self>, pod: Arc<Pod>, pool: Arc<Pool>) {
        self.send_pending_logouts(&pod, &pool).await;
        if !self.can_migrate() {
            return;
        }
        let missing_requirement = self.missing_requirement(&pod, &pool).await;
        let gauge = |what: &'static str| {
            let labels = metrics::MissingRequirement { pool: pod.pool.clone(), pod: pod.name.clone(), what };
            self.metrics.missing_requirements.get_or_create(&labels).clone()
        };
        for each in [MissingRequirement::ApiKey, MissingRequirement::QuickConnect, MissingRequirement::NoAnswer] {
            gauge(each.as_str()).set((missing_requirement == Some(each)).into());
        }
        match missing_requirement {
            Some(missing_requirement) => {
                tracing::error!(pod.name = &*pod.name, pod.pool = &*pod.pool, "{}", missing_requirement.remedy())
            }
            None => self.warm_up_mint(&pod, &pool).await,
        }
        if missing_requirement != Some(MissingRequirement::ApiKey) && self.is_taken_for_local(&pod, &pool).await {
            tracing::warn!(pod.name = &*pod.name, pod.pool = &*pod.pool, "{ALL_ARE_LOCAL}");
        }
    }

    /// What is missing for a migration of sessions to this pod.
    pub async fn missing_requirement(&self, pod: &Arc<Pod>, pool: &Pool) -> Option<MissingRequirement> {
        let key = self.shared.migration.api_key.as_ref()?;
        let proxy = Caller::proxy(pool);
        match self.pods.call(pod, &proxy, system::accepts(key.as_str())).await {
            Ok(true) => {}
            Ok(false) => return Some(MissingRequirement::ApiKey),
            Err(_) => return Some(MissingRequirement::NoAnswer),
        }
        match self.pods.call(pod, &proxy, quick_connect::is_enabled()).await {
            Ok(true) => None,
            Ok(false) => Some(MissingRequirement::QuickConnect),
            Err(_) => Some(MissingRequirement::NoAnswer),
        }
    }

    /// Asks a pod for its public info. `None` if it does not answer.
    pub async fn public_info(&self, pod: &Arc<Pod>, pool: &Pool) -> Option<PublicInfo> {
        self.pods.call(pod, &Caller::proxy(pool), system::public_info()).await.ok()
    }

    /// Whether a pod takes a distant client for local, because this proxy is not among its known
    /// proxies. Needs the API key; without one it asks nothing.
    pub async fn is_taken_for_local(&self, pod: &Arc<Pod>, pool: &Pool) -> bool {
        let Some(key) = &self.shared.migration.api_key else { return false };
        let stranger = HeaderMap::from_iter([(HeaderName::from_static("x-forwarded-for"), STRANGER)]);
        let is_local = self.pods.call(pod, &Caller::new(pool, stranger), system::is_local(key.as_str())).await;
        is_local.is_ok_and(|is_local| is_local)
    }

    /// Makes the pod compile what a mint needs, as far as that leaves no trace. A code that no user
    /// authorizes expires after ten minutes. The other two calls name a code and a user that do not
    /// exist. What only a real authorization runs stays cold.
    async fn warm_up_mint(&self, pod: &Arc<Pod>, pool: &Pool) {
        let Some(key) = &self.shared.migration.api_key else { return };
        let device =
            Device { client: "jellypin".into(), name: "jellypin".into(), id: "jellypin".into(), version: "1".into() };
        let proxy = Caller::proxy(pool);
        // Any answer will do, since the code has run.
        let _ = self.pods.call(pod, &proxy, quick_connect::initiate(&device)).await;
        let _ = self.pods.call(pod, &proxy, quick_connect::authorize("none", NOBODY, key.as_str())).await;
        let _ = self.pods.call(pod, &proxy, quick_connect::authenticate("none")).await;
    }
}

/// A user id that no user has.
const NOBODY: &str = "00000000000000000000000000000001";
