//! What jellypin asks of a pod before sessions may migrate to it.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    jellyfin::{
        authorization::Device,
        client::{
            quick_connect,
            system::{self, PublicInfo},
            users,
        },
    },
    pod::{Pod, Pool, State},
    proxy::{
        pod_client::{Caller, PodClient},
        shared_state::SharedState,
    },
    sessions::Token,
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
                "it refuses the API key, so no session can migrate to it; make a key in Jellyfin's Dashboard under API Keys and set it as [jellyfin] api_key"
            }
            MissingRequirement::QuickConnect => {
                "Quick Connect is disabled, so no session can migrate to it; enable it in Jellyfin's Dashboard under General"
            }
            MissingRequirement::NoAnswer => "it does not answer, so it is not known whether sessions can migrate to it",
        }
    }

    pub(in crate::proxy) fn as_str(self) -> &'static str {
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

/// Asks pods what they are, and what they lack.
pub struct PodChecks {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
}

impl PodChecks {
    pub(super) fn new(shared: Arc<SharedState>, pods: Arc<PodClient>) -> PodChecks {
        PodChecks { shared, pods }
    }

    pub(super) fn key(&self) -> Option<&Token> {
        self.shared.api_key()
    }

    pub(super) fn pods(&self) -> &PodClient {
        &self.pods
    }

    /// What is missing for a migration of sessions to this pod.
    pub async fn missing_requirement(&self, pod: &Arc<Pod>, pool: &Pool) -> Option<MissingRequirement> {
        let key = self.shared.api_key()?;
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

    /// Whether the pod's own health check is good. `None` if it does not answer.
    pub async fn is_healthy(&self, pod: &Arc<Pod>, pool: &Pool) -> Option<bool> {
        self.pods.call(pod, &Caller::proxy(pool), system::is_healthy()).await.ok()
    }

    /// Whether a pod takes a distant client for local, because this proxy is not among its known
    /// proxies. Needs the API key; without one it asks nothing.
    pub async fn is_taken_for_local(&self, pod: &Arc<Pod>, pool: &Pool) -> bool {
        let Some(key) = self.shared.api_key() else { return false };
        let stranger = HeaderMap::from_iter([(HeaderName::from_static("x-forwarded-for"), STRANGER)]);
        let is_local = self.pods.call(pod, &Caller::new(pool, stranger), system::is_local(key.as_str())).await;
        is_local.is_ok_and(|is_local| is_local)
    }

    /// What the pod's clock says. `None` if it does not tell.
    pub async fn clock(&self, pod: &Arc<Pod>, pool: &Pool) -> Option<SystemTime> {
        self.pods.call(pod, &Caller::proxy(pool), system::clock()).await.ok()
    }

    /// Whether this is still a user who may administer the server. `None` if no pod says so.
    pub async fn is_administrator(&self, pool: &Pool, key: &Token, user: &str) -> Option<bool> {
        let pods = pool.pods().to_vec();
        let pod = pods.iter().find(|pod| pod.status().state == State::Ready)?;
        let user = self.pods.call(pod, &Caller::proxy(pool), users::one(user, key.as_str())).await.ok()?;
        Some(user.is_some_and(|user| user.is_administrator && !user.is_disabled))
    }

    /// Whether two addresses lead to one process: it alone knows a Quick Connect code that it has
    /// given out. Nobody approves the code, so it expires.
    pub async fn are_one(&self, one: &Arc<Pod>, other: &Arc<Pod>, pool: &Pool) -> bool {
        let proxy = Caller::proxy(pool);
        let Ok(Ok(Some(begun))) = self.pods.call(one, &proxy, quick_connect::initiate(&itself())).await else {
            return false;
        };
        self.pods.call(other, &proxy, quick_connect::knows(&begun.secret)).await.unwrap_or_default()
    }

    /// Makes the pod compile what a mint needs, as far as that leaves no trace. A code that no user
    /// authorizes expires after ten minutes. The other two calls name a code and a user that do not
    /// exist. What only a real authorization runs stays cold.
    pub(super) async fn warm_up_mint(&self, pod: &Arc<Pod>, pool: &Pool) {
        let Some(key) = self.shared.api_key() else { return };
        let proxy = Caller::proxy(pool);
        // Any answer will do, since the code has run.
        let _ = self.pods.call(pod, &proxy, quick_connect::initiate(&itself())).await;
        let _ = self.pods.call(pod, &proxy, quick_connect::authorize("none", NOBODY, key.as_str())).await;
        let _ = self.pods.call(pod, &proxy, quick_connect::authenticate("none")).await;
    }
}

/// jellypin, as a device of Jellyfin's.
fn itself() -> Device {
    Device { client: "jellypin".into(), name: "jellypin".into(), id: "jellypin".into(), version: "1".into() }
}

/// A user id that no user has.
const NOBODY: &str = "00000000000000000000000000000001";
