//! How the proxy sends a revocation to the pods, and for how long.
//!
//! Living pods get the call itself, within the client's request. A pod that does not answer later
//! gets log-outs of the ended tokens, and nothing else. By then the user may have signed in again
//! on that device, or have set another password. The proxy must not undo either.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::{HeaderValue, StatusCode};
use tokio::time;

use crate::{
    forward::{Cause, Failure},
    jellyfin::client::{ApiCall, ApiResponse, sessions},
    pod::{Epoch, Pod, PodId, Pool},
    proxy::{
        pod_client::{Caller, PodClient},
        shared_state::SharedState,
    },
    sessions::Token,
    shutdown::Shutdown,
};

/// Longest time that the client waits for the pods.
const LONGEST: Duration = Duration::from_secs(2);

/// Repeats for a failing pod. 10.11 fails once per token without a row; that token is then dead.
pub(super) const REPEATS: usize = 16;

/// Pause before the first retry of a silent pod. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Retries, which take a minute. A pod away for longer most likely returns in a new epoch.
const AGAIN: u32 = 8;

/// One call that a pod gets.
#[derive(Clone)]
pub(super) struct RevocationCall {
    call: ApiCall<ApiResponse>,
    /// Credentials to try in this order; the first that the pod knows counts.
    authorizations: Vec<HeaderValue>,
    /// The token that this call logs out.
    ends: Option<Token>,
}

/// A pod's answer, or why there is none.
pub(super) struct RevocationOutcome {
    pub(super) pod: Arc<Pod>,
    pub(super) answer: Result<Option<ApiResponse>, NoAnswer>,
}

/// Why a pod has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    TimedOut,
    /// The pod is away: it gets the log-outs when it is back.
    Later,
    Failure(Cause),
}

impl NoAnswer {
    fn as_str(self) -> &'static str {
        match self {
            NoAnswer::TimedOut => "timed_out",
            NoAnswer::Later => "later",
            NoAnswer::Failure(cause) => cause.as_str(),
        }
    }
}

impl RevocationCall {
    pub(super) fn new(call: ApiCall<ApiResponse>, authorizations: Vec<HeaderValue>) -> RevocationCall {
        RevocationCall { call, authorizations, ends: None }
    }

    pub(super) fn log_out(token: &Token) -> RevocationCall {
        let call = sessions::log_out(token.as_str());
        let authorizations = call.authorization.iter().cloned().collect();
        RevocationCall { ends: Some(token.clone()), ..RevocationCall::new(call, authorizations) }
    }
}

impl RevocationOutcome {
    /// Whether the pod has decided. A server error is no decision. 10.11 may fail although it has
    /// done the work; then it does not know the token at the next call.
    fn is_definite(&self) -> bool {
        self.answer.as_ref().is_ok_and(|reply| reply.as_ref().is_none_or(|reply| !reply.status.is_server_error()))
    }

    /// For the access line. 401 means that the pod did not know the token.
    pub(super) fn as_str(&self) -> &str {
        match &self.answer {
            Ok(reply) => reply.as_ref().map_or("", |reply| reply.status.as_str()),
            Err(why) => why.as_str(),
        }
    }
}

/// Sends revocations to all pods of a pool.
pub(in crate::proxy) struct Broadcast {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    shutdown: Shutdown,
}

impl Broadcast {
    pub(in crate::proxy) fn new(shared: Arc<SharedState>, pods: Arc<PodClient>, shutdown: Shutdown) -> Broadcast {
        Broadcast { shared, pods, shutdown }
    }

    /// Sends `calls` to every pod of the pool but `but`. Pods that do not answer in time get
    /// `log_outs`, with retries.
    ///
    /// # Cancel safety
    /// The calls go on when the caller drops this future.
    pub(super) async fn call_all_pods(
        self: &Arc<Self>,
        pool: &Pool,
        caller: Caller,
        calls: Vec<RevocationCall>,
        log_outs: Vec<RevocationCall>,
        but: Option<PodId>,
    ) -> Vec<RevocationOutcome> {
        let pods = pool.pods().iter().filter(|pod| Some(pod.id) != but).cloned().collect();
        let calling = self.clone().call_each_pod(pods, caller, calls, log_outs);
        // A worker's runtime cancels its tasks when it ends.
        tokio::spawn(calling).await.unwrap_or_default()
    }

    async fn call_each_pod(
        self: Arc<Self>,
        pods: Vec<Arc<Pod>>,
        caller: Caller,
        calls: Vec<RevocationCall>,
        log_outs: Vec<RevocationCall>,
    ) -> Vec<RevocationOutcome> {
        let outcomes = join_all(pods.into_iter().map(|pod| self.call_with_deadline(pod, &caller, &calls))).await;
        let silent: Vec<_> =
            outcomes.iter().filter(|outcome| !outcome.is_definite()).map(|outcome| outcome.pod.clone()).collect();
        if !silent.is_empty() && !log_outs.is_empty() {
            tokio::spawn(self.clone().retry_silent_pods(silent, caller, log_outs));
        }
        outcomes
    }

    /// Sends the log-outs again until each pod has answered, for a bounded time.
    async fn retry_silent_pods(
        self: Arc<Self>,
        mut silent: Vec<Arc<Pod>>,
        caller: Caller,
        log_outs: Vec<RevocationCall>,
    ) {
        for nth in 0..AGAIN {
            tokio::select! {
                () = time::sleep(FIRST_PAUSE * 2_u32.pow(nth)) => {}
                () = self.shutdown.stopping() => return,
            }
            let outcomes =
                join_all(silent.into_iter().map(|pod| self.call_with_deadline(pod, &caller, &log_outs))).await;
            silent = outcomes.into_iter().filter(|outcome| !outcome.is_definite()).map(|outcome| outcome.pod).collect();
            if silent.is_empty() {
                return;
            }
        }
    }

    async fn call_with_deadline(&self, pod: Arc<Pod>, caller: &Caller, calls: &[RevocationCall]) -> RevocationOutcome {
        let answer = if pod.status().is_alive() {
            let called = time::timeout(LONGEST, self.call_until_definite(&pod, caller, calls)).await;
            called.map_or(Err(NoAnswer::TimedOut), |called| called.map_err(|failure| NoAnswer::Failure(failure.cause)))
        } else {
            Err(NoAnswer::Later)
        };
        RevocationOutcome { pod, answer }
    }

    /// Sends all calls to one pod. Returns a success first, else the highest status.
    async fn call_until_definite(
        &self,
        pod: &Arc<Pod>,
        caller: &Caller,
        calls: &[RevocationCall],
    ) -> Result<Option<ApiResponse>, Failure> {
        let rank = |reply: &ApiResponse| (reply.status.is_success(), reply.status.as_u16());
        let mut best: Option<ApiResponse> = None;
        for revocation in calls {
            let mut authorizations = revocation.authorizations.iter().peekable();
            let mut repeats = 0;
            while let Some(authorization) = authorizations.peek() {
                let call = revocation.call.clone().with_authorization((*authorization).clone());
                let reply = self.pods.call(pod, caller, call).await?;
                let status = reply.status;
                // 10.11 forgets a token that it failed at, since the row was gone.
                let is_done = status.is_success() || (status == StatusCode::UNAUTHORIZED && repeats > 0);
                if let Some(token) = revocation.ends.as_ref().filter(|_| is_done) {
                    self.shared.sessions.pending_logouts.confirm(token.as_str());
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

    /// Sends the pending log-outs to a pod at the start of an epoch.
    pub(in crate::proxy) async fn send_pending_logouts(&self, pod: &Arc<Pod>, pool: &Pool) {
        // After epoch 1, this process saw the pod start, so the pod has read every row since.
        let has_read_all = pod.status().epoch > Epoch(1);
        let pending = self.shared.sessions.pending_logouts.of_pool(&pool.name).await;
        for token in &pending {
            let log_out = [RevocationCall::log_out(token)];
            match self.call_until_definite(pod, &Caller::proxy(pool), &log_out).await {
                Ok(Some(reply)) if reply.status == StatusCode::UNAUTHORIZED && has_read_all => {
                    self.shared.sessions.pending_logouts.confirm(token.as_str());
                }
                Ok(_) => {}
                // The pod gets them at the start of its next epoch.
                Err(_) => return,
            }
        }
        if !pending.is_empty() {
            tracing::info!(pod.name = &*pod.name, count = pending.len(), "pending log-outs were sent to the pod");
        }
    }
}
