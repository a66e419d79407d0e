//! How pods are told of an end, and for how long.
//!
//! The living ones hear of the act itself, within the request that brought it. Whoever does not answer then hears of the very tokens
//! that were ended, and of nothing else: by then the user may have signed in again on that device, or have chosen another
//! password, and neither is to be undone.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time;

use crate::{
    forward::Failure,
    jellyfin::authorization,
    pod::{Epoch, Pod, PodId, Pool},
    proxy::{
        Proxy,
        pod_client::{PodRequest, PodResponse},
    },
    sessions::Token,
};

/// Longest time that the client waits for the pods.
const LONGEST: Duration = Duration::from_secs(2);

/// How often a pod that fails is told again: 10.11 fails at each token whose row is gone, and that one is dead then.
pub(super) const REPEATS: usize = 16;

/// The pause before a pod that has not answered is told again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// How often it is told again, which takes a minute. Whoever is away for longer begins another life, most likely.
const AGAIN: u32 = 8;

/// What a pod is to be told.
#[derive(Clone)]
pub(in crate::proxy) struct RevocationCall {
    pub(super) method: Method,
    /// Below the BaseUrl.
    pub(super) target: String,
    /// By whose leave: the first of these that the pod knows.
    pub(super) authorizations: Vec<HeaderValue>,
    pub(super) body: Bytes,
    pub(super) client: HeaderMap,
    /// The token that it logs out.
    ends: Option<Token>,
}

/// What a pod has answered, or why it has not.
pub(in crate::proxy) struct RevocationOutcome {
    pub(in crate::proxy) pod: Arc<Pod>,
    pub(in crate::proxy) answer: Result<Option<PodResponse>, &'static str>,
}

impl RevocationCall {
    pub(super) fn new(
        method: Method,
        target: String,
        authorizations: Vec<HeaderValue>,
        body: Bytes,
        client: HeaderMap,
    ) -> RevocationCall {
        RevocationCall { method, target, authorizations, body, client, ends: None }
    }

    pub(in crate::proxy) fn log_out(token: &Token, client: &HeaderMap) -> RevocationCall {
        let authorizations = vec![authorization::token_only(token.as_str())];
        let target = "/Sessions/Logout".to_owned();
        let order = RevocationCall::new(Method::POST, target, authorizations, Bytes::new(), client.clone());
        RevocationCall { ends: Some(token.clone()), ..order }
    }
}

impl RevocationOutcome {
    /// Whether the pod has said what becomes of it. An error of its own says nothing, but where 10.11 has done it all the same; then
    /// it knows the token no more the next time.
    fn is_definite(&self) -> bool {
        self.answer.as_ref().is_ok_and(|reply| reply.as_ref().is_none_or(|reply| !reply.status.is_server_error()))
    }

    /// For the access line. 401 means that the pod did not know the token.
    pub(in crate::proxy) fn as_str(&self) -> &str {
        match &self.answer {
            Ok(reply) => reply.as_ref().map_or("", |reply| reply.status.as_str()),
            Err(why) => why,
        }
    }
}

impl Proxy {
    /// Tells every pod of the pool but this one, and whoever does not answer in time of these log-outs, as long as it takes.
    ///
    /// # Cancel safety
    /// It goes on when this is dropped.
    pub(in crate::proxy) async fn call_all_pods(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        calls: Vec<RevocationCall>,
        log_outs: Vec<RevocationCall>,
        but: Option<PodId>,
    ) -> Vec<RevocationOutcome> {
        let pods = pool.pods().iter().filter(|pod| Some(pod.id) != but).cloned().collect();
        let telling = self.clone().call_each_pod(pods, pool.base_path.clone(), calls, log_outs);
        // A worker that ends takes its tasks along.
        tokio::spawn(telling).await.unwrap_or_default()
    }

    async fn call_each_pod(
        self: Arc<Self>,
        pods: Vec<Arc<Pod>>,
        base_path: Arc<str>,
        calls: Vec<RevocationCall>,
        log_outs: Vec<RevocationCall>,
    ) -> Vec<RevocationOutcome> {
        let told = join_all(pods.into_iter().map(|pod| self.call_with_deadline(pod, &base_path, &calls))).await;
        let silent: Vec<_> = told.iter().filter(|told| !told.is_definite()).map(|told| told.pod.clone()).collect();
        if !silent.is_empty() && !log_outs.is_empty() {
            tokio::spawn(self.clone().retry_silent_pods(silent, base_path, log_outs));
        }
        told
    }

    /// Tells these pods again until each has answered, for a bounded time.
    async fn retry_silent_pods(
        self: Arc<Self>,
        mut silent: Vec<Arc<Pod>>,
        base_path: Arc<str>,
        log_outs: Vec<RevocationCall>,
    ) {
        for nth in 0..AGAIN {
            tokio::select! {
                () = time::sleep(FIRST_PAUSE * 2_u32.pow(nth)) => {}
                () = self.shutdown.stopping() => return,
            }
            let told =
                join_all(silent.into_iter().map(|pod| self.call_with_deadline(pod, &base_path, &log_outs))).await;
            silent = told.into_iter().filter(|told| !told.is_definite()).map(|told| told.pod).collect();
            if silent.is_empty() {
                return;
            }
        }
    }

    async fn call_with_deadline(&self, pod: Arc<Pod>, base_path: &str, calls: &[RevocationCall]) -> RevocationOutcome {
        let answer = if pod.status().is_alive() {
            let told = time::timeout(LONGEST, self.call_until_definite(&pod, base_path, calls)).await;
            told.map_or(Err("timed_out"), |told| told.map_err(|failure| failure.cause.as_str()))
        } else {
            Err("later")
        };
        RevocationOutcome { pod, answer }
    }

    /// Tells one pod. Of several orders the most telling answer counts: one that did it, then one that failed.
    async fn call_until_definite(
        &self,
        pod: &Arc<Pod>,
        base_path: &str,
        calls: &[RevocationCall],
    ) -> Result<Option<PodResponse>, Failure> {
        let rank = |reply: &PodResponse| (reply.status.is_success(), reply.status.as_u16());
        let mut best: Option<PodResponse> = None;
        for order in calls {
            let mut authorizations = order.authorizations.iter().peekable();
            let mut repeats = 0;
            while let Some(authorization) = authorizations.peek() {
                let call = PodRequest {
                    method: order.method.clone(),
                    target: &order.target,
                    client: &order.client,
                    authorization: Some((*authorization).clone()),
                    body: order.body.clone(),
                };
                let reply = self.call_pod(pod, base_path, call).await?;
                let status = reply.status;
                // What 10.11 has failed at is known to it no more: the row was gone.
                let is_done = status.is_success() || (status == StatusCode::UNAUTHORIZED && repeats > 0);
                if let Some(token) = order.ends.as_ref().filter(|_| is_done) {
                    self.shared.sessions.confirm_logout(token.as_str());
                }
                repeats += 1;
                best = best.into_iter().chain([reply]).max_by_key(rank);
                match status {
                    StatusCode::INTERNAL_SERVER_ERROR if repeats < REPEATS => {}
                    StatusCode::UNAUTHORIZED => drop(authorizations.next()),
                    _ => break,
                }
            }
        }
        Ok(best)
    }

    /// Logs out on a pod that begins a life what is still owed.
    pub(in crate::proxy) async fn send_pending_logouts(&self, pod: &Arc<Pod>, pool: &Pool) {
        // A life that this process has seen begin: the pod has read every row since.
        let has_read_all = pod.status().epoch > Epoch(1);
        let owed = self.shared.sessions.pending_logouts(&pool.name).await;
        for token in &owed {
            let log_out = [RevocationCall::log_out(token, &HeaderMap::new())];
            match self.call_until_definite(pod, &pool.base_path, &log_out).await {
                Ok(Some(reply)) if reply.status == StatusCode::UNAUTHORIZED && has_read_all => {
                    self.shared.sessions.confirm_logout(token.as_str());
                }
                Ok(_) => {}
                // It is told when it begins the next one.
                Err(_) => return,
            }
        }
        if !owed.is_empty() {
            tracing::info!(pod.name = &*pod.name, count = owed.len(), "pending log-outs were sent to the pod");
        }
    }
}
