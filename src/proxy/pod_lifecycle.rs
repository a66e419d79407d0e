//! What the proxy does for a pod besides requests: log-outs, checks and warm-up when an epoch
//! begins, and a drain when the pod leaves the pool.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio::{task::JoinSet, time};

use super::{Proxy, pod_client::PodRequest};
use crate::{
    jellyfin::authorization::{self, Device},
    observe::metrics,
    pod::{Epoch, Info, Pod, PodId, Pool},
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

/// A pod's public answer about itself.
pub enum InfoProbe {
    Info(Info),
    /// The pod is still starting, or has lost its database.
    Starting,
    /// Another program answers, or Jellyfin does under another path.
    Other(StatusCode),
    Nothing,
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
        let missing_requirement = self.missing_requirement(&pod, &pool.base_path).await;
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
            None => self.warm_up_mint(&pod, &pool.base_path).await,
        }
        if missing_requirement != Some(MissingRequirement::ApiKey)
            && self.is_taken_for_local(&pod, &pool.base_path).await
        {
            tracing::warn!(pod.name = &*pod.name, pod.pool = &*pod.pool, "{ALL_ARE_LOCAL}");
        }
    }

    /// What is missing for a migration of sessions to this pod.
    pub async fn missing_requirement(&self, pod: &Arc<Pod>, base_path: &str) -> Option<MissingRequirement> {
        let key = self.shared.migration.api_key.as_ref()?;
        let nobody = HeaderMap::new();
        let get = |target, authorization| PodRequest {
            method: Method::GET,
            target,
            client: &nobody,
            authorization,
            body: Bytes::new(),
        };
        let with_key = Some(authorization::token_only(key.as_str()));
        let Ok(info) = self.call_pod(pod, base_path, get("/System/Info", with_key)).await else {
            return Some(MissingRequirement::NoAnswer);
        };
        if matches!(info.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Some(MissingRequirement::ApiKey);
        }
        let Ok(enabled) = self.call_pod(pod, base_path, get("/QuickConnect/Enabled", None)).await else {
            return Some(MissingRequirement::NoAnswer);
        };
        match (info.status, enabled.status, enabled.json()) {
            (StatusCode::OK, StatusCode::OK, Some(serde_json::Value::Bool(true))) => None,
            (StatusCode::OK, StatusCode::OK, _) => Some(MissingRequirement::QuickConnect),
            _ => Some(MissingRequirement::NoAnswer),
        }
    }

    /// Asks a pod for its public info.
    pub async fn probe_info(&self, pod: &Arc<Pod>, base_path: &str) -> InfoProbe {
        let client = HeaderMap::new();
        let call = PodRequest {
            method: Method::GET,
            target: "/System/Info/Public",
            client: &client,
            authorization: None,
            body: Bytes::new(),
        };
        let Ok(reply) = self.call_pod(pod, base_path, call).await else { return InfoProbe::Nothing };
        let json = reply.json().unwrap_or_default();
        let field = |name| json[name].as_str().map(str::to_owned);
        match (reply.status, field("Id"), field("Version")) {
            (StatusCode::OK, Some(id), Some(version)) => InfoProbe::Info(Info { id, version }),
            (StatusCode::SERVICE_UNAVAILABLE, ..) => InfoProbe::Starting,
            (status, ..) => InfoProbe::Other(status),
        }
    }

    /// Whether a pod takes a distant client for local, because this proxy is not among its known
    /// proxies. Needs the API key; without one it asks nothing.
    pub async fn is_taken_for_local(&self, pod: &Arc<Pod>, base_path: &str) -> bool {
        let Some(key) = &self.shared.migration.api_key else { return false };
        let call = PodRequest {
            method: Method::GET,
            target: "/System/Endpoint",
            client: &HeaderMap::from_iter([(HeaderName::from_static("x-forwarded-for"), STRANGER)]),
            authorization: Some(authorization::token_only(key.as_str())),
            body: Bytes::new(),
        };
        let reply = self.call_pod(pod, base_path, call).await.ok();
        reply
            .filter(|reply| reply.status == StatusCode::OK)
            .and_then(|reply| reply.json())
            .is_some_and(|json| json["IsInNetwork"] == true)
    }

    /// Makes the pod compile what a mint needs, as far as that leaves no trace. A code that no user
    /// authorizes expires after ten minutes. The other two calls name a code and a user that do not
    /// exist. What only a real authorization runs stays cold.
    async fn warm_up_mint(&self, pod: &Arc<Pod>, base_path: &str) {
        let Some(key) = &self.shared.migration.api_key else { return };
        let device =
            Device { client: "jellypin".into(), name: "jellypin".into(), id: "jellypin".into(), version: "1".into() };
        let nobody = HeaderMap::new();
        let calls = [
            ("/QuickConnect/Initiate".to_owned(), Some(device.header(None)), Bytes::new()),
            (
                format!("/QuickConnect/Authorize?code=none&userId={NOBODY}"),
                Some(authorization::token_only(key.as_str())),
                Bytes::new(),
            ),
            (
                "/Users/AuthenticateWithQuickConnect".to_owned(),
                None,
                Bytes::from(json!({"Secret": "none"}).to_string()),
            ),
        ];
        for (target, authorization, body) in calls {
            let call = PodRequest { method: Method::POST, target: &target, client: &nobody, authorization, body };
            // Any answer will do, since the code has run.
            let _ = self.call_pod(pod, base_path, call).await;
        }
    }
}

/// A user id that no user has.
const NOBODY: &str = "00000000000000000000000000000001";
