//! What is ended on one pod is ended everywhere: a log-out, a device taken away, a changed password, a user disabled or deleted.
//!
//! Pods do not tell each other. One that was restarted since a log-in has read the token's row and would take it for ever;
//! another keeps it in memory after its row is gone. So every session that is meant gets its tombstone at once, and each
//! pod is told before the client hears that it is done; whoever cannot be told is told of the tokens later.

mod orders;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Asking, Proxy, call::Call, call::on_behalf_of, decide::Decision, exchange::Exchange};
use crate::{
    carryover::{Session, Token, plain_id},
    forward::{head, outbound::Source},
    identity::{
        authorization,
        endpoint::{Endpoint, Ends},
    },
    pod::Pod,
};
use orders::REPEATS;
pub(super) use orders::{Order, Told};

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
        let (pool, client) = (&asking.pool.pool, on_behalf_of(asking));
        let mut ended = Vec::new();
        let orders = match &ends {
            Ends::Token => self.end_tokens(asking.session(), &Token::new(own), pool, &client),
            Ends::Devices(devices) => {
                ended.extend(devices.iter().flat_map(|device| self.site.sessions.end_device(&pool.name, device)));
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
                let is_own = callers.is_some_and(|own| plain_id(&user) == own);
                ended = self.site.sessions.end_user(&pool.name, &user, asking.session());
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
                self.site.sessions.end_user(&pool.name, user, None);
                // Pods read in the database that he is disabled, and refuse him.
                Vec::new()
            }
            Ends::User(user) => {
                self.site.sessions.end_user(&pool.name, user, None);
                Vec::new()
            }
        };
        if orders.is_empty() {
            return has_failed.then_some(StatusCode::NO_CONTENT);
        }
        let log_outs = if ends == Ends::Token { orders.clone() } else { log_outs_of(&ended, &client) };
        // Of one token its pod's own answer says all, and stands in the line already.
        let but = (ends == Ends::Token).then_some(done.pod.id);
        let told = self.tell_all(pool, orders, log_outs, but).await;
        told.iter().for_each(|told| exchange.told(told));
        let did_one = told.iter().any(|told| told.outcome() == "204");
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

    /// The caller's own request again, by one of these tokens or else by the API key: his own is known to his home only.
    fn again_by_key(&self, asking: &Asking<'_>, target: &str, body: Bytes, tokens: &[String]) -> Vec<Order> {
        let Some(key) = &self.site.carryover.api_key else { return Vec::new() };
        let tokens = tokens.iter().map(String::as_str).chain([key.as_str()]);
        let authorizations = tokens.map(authorization::token_only).collect();
        vec![Order::new(asking.head.method.clone(), target.to_owned(), authorizations, body, on_behalf_of(asking))]
    }
}

/// What pods that do not answer are told of these sessions.
fn log_outs_of(ended: &[Arc<Session>], client: &HeaderMap) -> Vec<Order> {
    let tokens = ended.iter().flat_map(|session| session.tokens());
    tokens.map(|minted| Order::log_out(&minted.token, client)).collect()
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
