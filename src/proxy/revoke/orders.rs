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

use super::super::{
    Proxy,
    call::{Call, Reply},
};
use crate::{
    carryover::Token,
    forward::Failure,
    identity::authorization,
    pod::{Epoch, Pod, PodId, Pool},
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
pub(in crate::proxy) struct Order {
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
pub(in crate::proxy) struct Told {
    pub(in crate::proxy) pod: Arc<Pod>,
    pub(in crate::proxy) answer: Result<Option<Reply>, &'static str>,
}

impl Order {
    pub(super) fn new(
        method: Method,
        target: String,
        authorizations: Vec<HeaderValue>,
        body: Bytes,
        client: HeaderMap,
    ) -> Order {
        Order { method, target, authorizations, body, client, ends: None }
    }

    pub(in crate::proxy) fn log_out(token: &Token, client: &HeaderMap) -> Order {
        let authorizations = vec![authorization::token_only(token.as_str())];
        let target = "/Sessions/Logout".to_owned();
        let order = Order::new(Method::POST, target, authorizations, Bytes::new(), client.clone());
        Order { ends: Some(token.clone()), ..order }
    }
}

impl Told {
    /// Whether the pod has said what becomes of it. An error of its own says nothing, but where 10.11 has done it all the same; then
    /// it knows the token no more the next time.
    fn is_settled(&self) -> bool {
        self.answer.as_ref().is_ok_and(|reply| reply.as_ref().is_none_or(|reply| !reply.status.is_server_error()))
    }

    /// For the access line. 401 means that the pod did not know the token.
    pub(in crate::proxy) fn outcome(&self) -> &str {
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
    pub(in crate::proxy) async fn tell_all(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        orders: Vec<Order>,
        log_outs: Vec<Order>,
        but: Option<PodId>,
    ) -> Vec<Told> {
        let pods = pool.pods().iter().filter(|pod| Some(pod.id) != but).cloned().collect();
        let telling = self.clone().tell_each(pods, pool.base_path.clone(), orders, log_outs);
        // A worker that ends takes its tasks along.
        tokio::spawn(telling).await.unwrap_or_default()
    }

    async fn tell_each(
        self: Arc<Self>,
        pods: Vec<Arc<Pod>>,
        base_path: Arc<str>,
        orders: Vec<Order>,
        log_outs: Vec<Order>,
    ) -> Vec<Told> {
        let told = join_all(pods.into_iter().map(|pod| self.tell_in_time(pod, &base_path, &orders))).await;
        let silent: Vec<_> = told.iter().filter(|told| !told.is_settled()).map(|told| told.pod.clone()).collect();
        if !silent.is_empty() && !log_outs.is_empty() {
            tokio::spawn(self.clone().insist(silent, base_path, log_outs));
        }
        told
    }

    /// Tells these pods again until each has answered, for a bounded time.
    async fn insist(self: Arc<Self>, mut silent: Vec<Arc<Pod>>, base_path: Arc<str>, log_outs: Vec<Order>) {
        for nth in 0..AGAIN {
            tokio::select! {
                () = time::sleep(FIRST_PAUSE * 2_u32.pow(nth)) => {}
                () = self.shutdown.stopping() => return,
            }
            let told = join_all(silent.into_iter().map(|pod| self.tell_in_time(pod, &base_path, &log_outs))).await;
            silent = told.into_iter().filter(|told| !told.is_settled()).map(|told| told.pod).collect();
            if silent.is_empty() {
                return;
            }
        }
    }

    async fn tell_in_time(&self, pod: Arc<Pod>, base_path: &str, orders: &[Order]) -> Told {
        let answer = if pod.status().is_alive() {
            let told = time::timeout(LONGEST, self.tell(&pod, base_path, orders)).await;
            told.map_or(Err("timed_out"), |told| told.map_err(|failure| failure.cause.name()))
        } else {
            Err("later")
        };
        Told { pod, answer }
    }

    /// Tells one pod. Of several orders the most telling answer counts: one that did it, then one that failed.
    async fn tell(&self, pod: &Arc<Pod>, base_path: &str, orders: &[Order]) -> Result<Option<Reply>, Failure> {
        let rank = |reply: &Reply| (reply.status.is_success(), reply.status.as_u16());
        let mut best: Option<Reply> = None;
        for order in orders {
            let mut authorizations = order.authorizations.iter().peekable();
            let mut repeats = 0;
            while let Some(authorization) = authorizations.peek() {
                let call = Call {
                    method: order.method.clone(),
                    target: &order.target,
                    client: &order.client,
                    authorization: Some((*authorization).clone()),
                    body: order.body.clone(),
                };
                let reply = self.call(pod, base_path, call).await?;
                let status = reply.status;
                // What 10.11 has failed at is known to it no more: the row was gone.
                let is_done = status.is_success() || (status == StatusCode::UNAUTHORIZED && repeats > 0);
                if let Some(token) = order.ends.as_ref().filter(|_| is_done) {
                    self.site.sessions.is_logged_out(token.as_str());
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
    pub(in crate::proxy) async fn settle(&self, pod: &Arc<Pod>, pool: &Pool) {
        // A life that this process has seen begin: the pod has read every row since.
        let has_read_all = pod.status().epoch > Epoch(1);
        let owed = self.site.sessions.owed(&pool.name).await;
        for token in &owed {
            let log_out = [Order::log_out(token, &HeaderMap::new())];
            match self.tell(pod, &pool.base_path, &log_out).await {
                Ok(Some(reply)) if reply.status == StatusCode::UNAUTHORIZED && has_read_all => {
                    self.site.sessions.is_logged_out(token.as_str());
                }
                Ok(_) => {}
                // It is told when it begins the next one.
                Err(_) => return,
            }
        }
        if !owed.is_empty() {
            tracing::info!(pod.name = &*pod.name, count = owed.len(), "pod was told what was ended meanwhile");
        }
    }
}
