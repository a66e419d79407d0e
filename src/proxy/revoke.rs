//! What is ended on one pod is ended everywhere: a log-out, a device taken away, a changed password, a user disabled or deleted.
//!
//! Pods do not tell each other. One that was restarted since a log-in has read the token's row and would take it for ever;
//! another keeps it in memory after its row is gone. So every session that is meant gets its tombstone at once, and each
//! pod is told before the client hears that it is done; a pod that is down is told when it returns.

use std::{fmt::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time;

use super::{Asking, Proxy, call::Call, call::on_behalf_of, decide::Decision, exchange::Exchange};
use crate::{
    affinity::pins::Kind,
    forward::outbound::Source,
    identity::{
        authorization,
        endpoint::{Endpoint, Ends},
    },
    pod::{Pod, PodId},
};

/// Longest time that the client waits for the other pods.
const LONGEST: Duration = Duration::from_secs(2);

/// How often a pod that fails is told again: 10.11 fails at each token whose row is gone, and that one is dead then.
const REPEATS: usize = 16;

/// What a pod is to be told.
#[derive(Clone)]
pub struct Order {
    method: Method,
    /// Below the BaseUrl.
    target: String,
    authorization: HeaderValue,
    body: Bytes,
    client: HeaderMap,
}

/// What a request has ended, by its answer's status.
pub(super) fn ended_by(asking: &Asking<'_>, status: StatusCode) -> Option<Ends> {
    let is_candidate = asking.endpoint == Endpoint::LogOut || asking.endpoint == Endpoint::Demanding;
    if !is_candidate || (asking.head.method != Method::POST && asking.head.method != Method::DELETE) {
        return None;
    }
    let ends = Ends::of(&asking.head.method, asking.path, asking.head.uri.query().unwrap_or_default())?;
    let is_done = match ends {
        // 10.11 fails when another pod has deleted the row, and has ended the token all the same.
        Ends::Token => status.is_success() || status == StatusCode::INTERNAL_SERVER_ERROR,
        // A pod refuses where it does not know the device itself; others may.
        Ends::Devices(_) => {
            status.is_success()
                || matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::INTERNAL_SERVER_ERROR)
        }
        Ends::OthersOf(_) => status.is_success() || status == StatusCode::INTERNAL_SERVER_ERROR,
        Ends::UserIfDisabled(_) | Ends::User(_) => status.is_success(),
    };
    is_done.then_some(ends)
}

impl Proxy {
    /// Ends it here, and tells every pod. What each answered goes to the access line: 401 means that it did not know the token.
    /// Gives the status for the client, where that of its own pod says less than all of them.
    pub(super) async fn end_everywhere(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        ends: Ends,
        status: StatusCode,
        source: &Source,
        done: &Decision,
        exchange: &mut Exchange,
    ) -> Option<StatusCode> {
        let orders = match &ends {
            Ends::Token => self.end_own_token(asking),
            Ends::Devices(devices) => {
                devices.iter().for_each(|device| drop(self.site.sessions.end_device(device)));
                self.again_by_key(asking, &asking.target(), Bytes::new())
            }
            Ends::OthersOf(user) => {
                let own = asking.session().map(|session| session.user.clone());
                let user = user.clone().or(own)?;
                self.site.sessions.end_user(&user, asking.session());
                // The key is nobody, so that the user has to be named.
                let target = format!("/Users/Password?userId={user}");
                let orders = self.again_by_key(asking, &target, source.kept()?);
                // The key spares nobody: where it has to see a failed change through, the caller's own token ends too. He has
                // shown that he may go on, by another one.
                if let Some(session) = asking.session().filter(|_| !orders.is_empty()) {
                    session.unsettle(if status.is_success() { session.home() } else { None });
                }
                orders
            }
            Ends::UserIfDisabled(user) => {
                let policy = serde_json::from_slice::<serde_json::Value>(&source.kept()?).ok()?;
                if policy["IsDisabled"] != true && policy["isDisabled"] != true {
                    return None;
                }
                self.site.sessions.end_user(user, None);
                // Pods read in the database that he is disabled, and refuse him.
                Vec::new()
            }
            Ends::User(user) => {
                self.site.sessions.end_user(user, None);
                Vec::new()
            }
        };
        // Its own answer stands in the line already; it is asked only for what is more than that.
        let is_enough = match ends {
            Ends::Token => orders.len() <= 1,
            Ends::OthersOf(_) => status.is_success(),
            Ends::Devices(_) | Ends::UserIfDisabled(_) | Ends::User(_) => true,
        };
        let told = self.tell_all(asking, orders, done.pod.id, is_enough).await;
        for (pod, outcome) in &told {
            // Writing into memory cannot fail.
            let gap = if exchange.fan_out.is_empty() { "" } else { " " };
            let _ = write!(exchange.fan_out, "{gap}{}={outcome}", pod.name);
        }
        let did_one = told.iter().any(|(_, outcome)| outcome == "204");
        (did_one && ends != Ends::Token && !matches!(ends, Ends::UserIfDisabled(_))).then_some(StatusCode::NO_CONTENT)
    }

    /// A log-out ends every token of the session: those of other pods too.
    fn end_own_token(&self, asking: &Asking<'_>) -> Vec<Order> {
        let Some(own) = asking.keys.identity.token.as_deref() else { return Vec::new() };
        let tokens = match asking.session() {
            Some(session) => {
                self.site.sessions.end(session);
                session.tokens().into_iter().map(|minted| minted.token.as_str().to_owned()).collect()
            }
            None => vec![own.to_owned()],
        };
        if self.carries_over() {
            self.site.sessions.end_token(own);
        }
        let pods = asking.pool.pool.pods();
        let client = on_behalf_of(asking);
        let order = |token: String| {
            self.site.pins.forget(Kind::Token, &token);
            pods.iter().for_each(|pod| self.site.refusals.remember(&token, pod));
            Order {
                method: Method::POST,
                target: "/Sessions/Logout".to_owned(),
                authorization: authorization::token_only(&token),
                body: Bytes::new(),
                client: client.clone(),
            }
        };
        tokens.into_iter().map(order).collect()
    }

    /// The caller's own request again, by the API key: the caller's token is known to its home only.
    fn again_by_key(&self, asking: &Asking<'_>, target: &str, body: Bytes) -> Vec<Order> {
        let Some(key) = &self.site.carryover.api_key else { return Vec::new() };
        vec![Order {
            method: asking.head.method.clone(),
            target: target.to_owned(),
            authorization: authorization::token_only(key.as_str()),
            body,
            client: on_behalf_of(asking),
        }]
    }

    /// Tells every pod; the one that has done it already only where that is not enough. Those that are down are told later.
    async fn tell_all(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        orders: Vec<Order>,
        done: PodId,
        is_enough: bool,
    ) -> Vec<(Arc<Pod>, String)> {
        if orders.is_empty() {
            return Vec::new();
        }
        let (living, down): (Vec<_>, Vec<_>) =
            asking.pool.pool.pods().to_vec().into_iter().partition(|pod| pod.status().is_alive());
        for pod in &down {
            self.site.later(pod, &orders);
        }
        let base_path = &*asking.pool.pool.base_path;
        let asked = living.into_iter().filter(|pod| pod.id != done || !is_enough);
        let told = asked.map(|pod| {
            let orders = &orders;
            async move {
                let outcome = time::timeout(LONGEST, self.tell(&pod, base_path, orders)).await;
                let outcome = outcome.unwrap_or_else(|_| {
                    self.site.later(&pod, orders);
                    "timed_out".to_owned()
                });
                (pod, outcome)
            }
        });
        let told = join_all(told).await;
        told.into_iter().chain(down.into_iter().map(|pod| (pod, "later".to_owned()))).collect()
    }

    /// Tells one pod. Of several orders the most telling answer counts: one that did it, then one that failed.
    pub(super) async fn tell(&self, pod: &Arc<Pod>, base_path: &str, orders: &[Order]) -> String {
        let mut best: Option<StatusCode> = None;
        for order in orders {
            for _ in 0..REPEATS {
                let call = Call {
                    method: order.method.clone(),
                    target: &order.target,
                    client: &order.client,
                    authorization: Some(order.authorization.clone()),
                    body: order.body.clone(),
                };
                match self.call(pod, base_path, call).await {
                    Ok(reply) => {
                        let rank = |status: StatusCode| (status.is_success(), status.as_u16());
                        best = best.into_iter().chain([reply.status]).max_by_key(|status| rank(*status));
                        if reply.status != StatusCode::INTERNAL_SERVER_ERROR {
                            break;
                        }
                    }
                    Err(failure) => {
                        self.site.later(pod, orders);
                        return failure.cause.name().to_owned();
                    }
                }
            }
        }
        best.map_or(String::new(), |status| status.as_u16().to_string())
    }
}

impl Asking<'_> {
    /// Path and query below the BaseUrl.
    fn target(&self) -> String {
        let query = self.head.uri.query().map_or(String::new(), |query| format!("?{query}"));
        format!("{}{query}", self.path)
    }
}
