//! What is ended on one pod is ended everywhere: a log-out, a device taken away, a changed password, a user disabled or deleted.
//!
//! Pods do not tell each other. One that was restarted since a log-in has read the token's row and would take it for ever;
//! another keeps it in memory after its row is gone. So every session that is meant gets its tombstone at once, and each
//! pod is told before the client hears that it is done; a pod that is down is told when it returns.

use std::{fmt::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time;

use super::{Asking, Proxy, call::Call, call::on_behalf_of, decide::Decision, exchange::Exchange};
use crate::{
    affinity::pins::Kind,
    carryover::Token,
    forward::{head, outbound::Source},
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
    /// By whose leave: the first of these that the pod knows.
    authorizations: Vec<HeaderValue>,
    body: Bytes,
    client: HeaderMap,
}

/// What a request may have ended, by its answer's status.
pub(super) fn ended_by(asking: &Asking<'_>, status: StatusCode) -> Option<Ends> {
    let is_candidate = asking.endpoint == Endpoint::LogOut || asking.endpoint == Endpoint::Demanding;
    if !is_candidate || (asking.head.method != Method::POST && asking.head.method != Method::DELETE) {
        return None;
    }
    let ends = Ends::of(&asking.head.method, asking.path, asking.head.uri.query().unwrap_or_default())?;
    (status == StatusCode::INTERNAL_SERVER_ERROR || is_done(&ends, status)).then_some(ends)
}

/// Whether the caller had the right to end it, and it was ended as far as this pod knows of it. A pod judges the right first.
fn is_done(ends: &Ends, status: StatusCode) -> bool {
    match ends {
        // 10.11 fails when another pod has deleted the row, and has ended the token all the same.
        Ends::Token => status.is_success() || status == StatusCode::INTERNAL_SERVER_ERROR,
        // A pod refuses where it does not know the device itself; others may.
        Ends::Devices(_) => status.is_success() || matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND),
        // Whoever is not there any more was deleted before.
        Ends::User(_) => status.is_success() || status == StatusCode::NOT_FOUND,
        Ends::OthersOf(_) | Ends::UserIfDisabled(_) => status.is_success(),
    }
}

impl Proxy {
    /// Ends it here, and tells every pod. What each answered goes to the access line: 401 means that it did not know the token.
    /// Gives the status for the client, where that of its own pod says less than all of them.
    pub(super) async fn end_everywhere(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        ends: Ends,
        answered: (StatusCode, Option<&Token>),
        source: &Source,
        done: &Decision,
        exchange: &mut Exchange,
    ) -> Option<StatusCode> {
        let (status, token) = answered;
        let own = asking.keys.identity.token.as_deref()?;
        let used = token.map_or(own, Token::as_str);
        let has_failed = status == StatusCode::INTERNAL_SERVER_ERROR && ends != Ends::Token;
        if has_failed && !self.see_through(asking, &ends, source, &done.pod, used).await {
            return None;
        }
        // Another replica may know of tokens that were minted since.
        if let Some(session) = asking.session() {
            self.site.sessions.refresh(session).await;
        }
        let orders = match &ends {
            Ends::Token => self.end_own_token(asking),
            Ends::Devices(devices) => {
                devices.iter().for_each(|device| drop(self.site.sessions.end_device(device)));
                // One by one: of several devices a pod that does not know them all ends none.
                let target = |device: &String| {
                    let device = utf8_percent_encode(device, NON_ALPHANUMERIC);
                    format!("/Devices?id={device}")
                };
                devices
                    .iter()
                    .flat_map(|device| self.again_by_key(asking, &target(device), Bytes::new(), &[]))
                    .collect()
            }
            Ends::OthersOf(user) => {
                let callers = asking.session().map(|session| session.user.clone());
                let user = user.clone().or_else(|| callers.clone())?;
                let is_own = callers.is_some_and(|own| user.replace('-', "").eq_ignore_ascii_case(&own));
                self.site.sessions.end_user(&user, asking.session());
                // The key is nobody, so that the user has to be named.
                let target = format!("/Users/Password?userId={user}");
                // The caller's own tokens first, that which his home has spared before all: a pod spares the one that it is told by.
                let mut callers_own = Vec::new();
                if let Some(session) = asking.session().filter(|_| is_own) {
                    callers_own.push(used.to_owned());
                    callers_own.extend(session.tokens().into_iter().map(|minted| minted.token.as_str().to_owned()));
                    session.unsettle(session.home());
                }
                self.again_by_key(asking, &target, with_new_password(source.kept()?), &callers_own)
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
        let is_enough = ends != Ends::Token || orders.len() <= 1;
        let told = self.tell_all(asking, orders, done.pod.id, is_enough).await;
        for (pod, outcome) in &told {
            // Writing into memory cannot fail.
            let gap = if exchange.fan_out.is_empty() { "" } else { " " };
            let _ = write!(exchange.fan_out, "{gap}{}={outcome}", pod.name);
        }
        let did_one = told.iter().any(|(_, outcome)| outcome == "204");
        let is_more = has_failed || (did_one && matches!(ends, Ends::Devices(_)) && !status.is_success());
        is_more.then_some(StatusCode::NO_CONTENT)
    }

    /// After a failure: asks the same pod again, by the caller's own leave, until it says whether it has done it.
    ///
    /// A 500 says nothing of the caller's right: 10.11 gives it when it has done what was asked and met a row that another pod had
    /// deleted, and every pod gives it to a caller whose own row is gone, before it looks at his rights. To go by it would lend
    /// him the API key.
    async fn see_through(
        &self,
        asking: &Asking<'_>,
        ends: &Ends,
        source: &Source,
        pod: &Arc<Pod>,
        token: &str,
    ) -> bool {
        let Some(body) = source.kept() else { return false };
        // Where the change was made, the new password is the present one.
        let body = if matches!(ends, Ends::OthersOf(_)) { with_new_password(body) } else { body };
        let client = on_behalf_of(asking);
        for _ in 0..REPEATS {
            let call = Call {
                method: asking.head.method.clone(),
                target: &asking.target(),
                client: &client,
                authorization: Some(authorization::token_only(token)),
                body: body.clone(),
            };
            match self.call(pod, &asking.pool.pool.base_path, call).await {
                Ok(reply) if reply.status == StatusCode::INTERNAL_SERVER_ERROR => {}
                Ok(reply) => return is_done(ends, reply.status),
                Err(_) => return false,
            }
        }
        false
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
            // In this order: who finds no pin finds the refusals.
            pods.iter().for_each(|pod| self.site.refusals.remember(&token, pod));
            self.site.pins.forget(Kind::Token, &token);
            Order {
                method: Method::POST,
                target: "/Sessions/Logout".to_owned(),
                authorizations: vec![authorization::token_only(&token)],
                body: Bytes::new(),
                client: client.clone(),
            }
        };
        tokens.into_iter().map(order).collect()
    }

    /// The caller's own request again, by one of these tokens or else by the API key: his own is known to his home only.
    fn again_by_key(&self, asking: &Asking<'_>, target: &str, body: Bytes, tokens: &[String]) -> Vec<Order> {
        let Some(key) = &self.site.carryover.api_key else { return Vec::new() };
        let tokens = tokens.iter().map(String::as_str).chain([key.as_str()]);
        vec![Order {
            method: asking.head.method.clone(),
            target: target.to_owned(),
            authorizations: tokens.map(authorization::token_only).collect(),
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
                match self.call(pod, base_path, call).await {
                    Ok(reply) => {
                        repeats += 1;
                        let rank = |status: StatusCode| (status.is_success(), status.as_u16());
                        best = best.into_iter().chain([reply.status]).max_by_key(|status| rank(*status));
                        match reply.status {
                            StatusCode::INTERNAL_SERVER_ERROR if repeats < REPEATS => {}
                            StatusCode::UNAUTHORIZED => drop(authorizations.next()),
                            _ => break,
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

/// The head of an answer whose body does not fit it any more.
pub(super) fn strip(headers: &mut HeaderMap) {
    head::to_client(headers);
    for name in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

/// The wish for a password as one who knows the new one already utters it.
fn with_new_password(body: Bytes) -> Bytes {
    let Ok(mut wish) = serde_json::from_slice::<serde_json::Value>(&body) else { return body };
    let Some(fields) = wish.as_object_mut() else { return body };
    let of = |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
    let Some(new) = of("NewPw") else { return body };
    fields.retain(|key, _| !key.eq_ignore_ascii_case("CurrentPw"));
    fields.insert("CurrentPw".to_owned(), new);
    Bytes::from(wish.to_string())
}

impl Asking<'_> {
    /// Path and query below the BaseUrl.
    fn target(&self) -> String {
        let query = self.head.uri.query().map_or(String::new(), |query| format!("?{query}"));
        format!("{}{query}", self.path)
    }
}
