//! What only the leader can answer: QuickConnect, SyncPlay and single sign-on, for clients that live on other pods.
//!
//! A QuickConnect flow goes to the leader, and stays with the pod that made its code while that lives. Who approves it is known
//! to his own pod only: that pod is asked whether he is who he says, and the API key speaks for him. Who joins a SyncPlay
//! group comes to live on the leader, socket and all, before the call is let go; who only looks moves nowhere.

use std::sync::Arc;

use http::{Response, StatusCode, header};
use tokio::time;

use super::{
    Asking, ClientSession, Proxy, Target,
    call::{Standing, on_behalf_of},
    carry::{Errand, Moves},
    decide::Keys,
    exchange::Exchange,
    face::{Gathered, gather},
    offer::Offered,
    reply::Refusal,
};
use crate::{
    affinity::pins::Kind,
    carryover::{Session, plain_id, session::Carried},
    forward::{answer::AnswerBody, outbound::Source},
    identity::{
        Identity, authorization,
        endpoint::{self, Endpoint, Led},
        lesson::Listener,
    },
    observe::metrics,
    pod::{Place, Pod, State},
};

/// How often a pod is asked for a code that no mint has used.
const CODES: usize = 3;

/// The longest answer that gives a code, in bytes. Real ones have some 300.
const LONGEST_CODE: usize = 16 * 1024;

impl Proxy {
    /// Offers a request to the pods, by way of the leader where that is what it takes.
    pub(super) async fn offer_led(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let led = match asking.endpoint {
            endpoint if endpoint.may_be_led() => Led::of(&asking.head.method, asking.path),
            _ if self.site.is_leaders(asking.path) => Some(Led::SignOn),
            _ => None,
        };
        let Some(led) = led else {
            return self.offer(asking, source, exchange).await;
        };
        // Boxed, for they are seldom used, and every request's future would be the larger for them.
        match led {
            Led::Enabled => Box::pin(self.to_leader(asking, None, source, exchange)).await,
            Led::Initiate => Box::pin(self.initiate(asking, source, exchange)).await,
            Led::Connect => Box::pin(self.to_leader(asking, asking.query("secret"), source, exchange)).await,
            Led::LogIn => {
                // A body that does not come is not waited for without end: its pod ends those that come too slowly.
                let body = time::timeout(self.site.forward.hold, Box::pin(source.read_ahead())).await;
                let secret = body.ok().flatten().and_then(|body| text_in(&body, "Secret"));
                Box::pin(self.to_leader(asking, secret, source, exchange)).await
            }
            Led::Authorize => Box::pin(self.authorize(asking, source, exchange)).await,
            Led::New => {
                // A leader that drains keeps the lead for the groups that it has, and not for new ones.
                if let Some(leader) = asking.pool.leader.current().filter(|pod| pod.status().state == State::Draining) {
                    leader.set_yields(true);
                }
                Box::pin(self.join(asking, source, exchange)).await
            }
            Led::Join => Box::pin(self.join(asking, source, exchange)).await,
            Led::Member => Box::pin(self.to_group(asking, source, exchange)).await,
            Led::Look => Box::pin(self.look(asking, source, exchange)).await,
            Led::Time => Box::pin(self.tell_time(asking, source, exchange)).await,
            Led::SignOn => Box::pin(self.sign_on(asking, asking.query("state"), source, exchange)).await,
            Led::SignOnEnd => {
                let body = time::timeout(self.site.forward.hold, Box::pin(source.read_ahead())).await;
                let state = body.ok().flatten().and_then(|body| text_in(&body, "data"));
                Box::pin(self.sign_on(asking, state, source, exchange)).await
            }
        }
    }

    async fn to_leader(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        key: Option<String>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        self.offer(&asking.toward(Target::Leader(key)), source, exchange).await
    }

    /// Sends a single sign-on to the leader, and on to the pod that made its state while that lives. No cookie is needed: the
    /// browser that comes back from the provider's site has none.
    async fn sign_on(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        state: Option<String>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let leader = asking.pool.leader.current().filter(|leader| leader.status().is_alive());
        // A user who links an account, and an administrator, have to be known there.
        let visitor = asking.session().zip(leader).filter(|(session, leader)| asking.lives_elsewhere(session, leader));
        if let Some((session, leader)) = &visitor
            && asking.endpoint != Endpoint::LogIn
            && session.token_at(Place::of(leader)).is_none()
        {
            let errand = Errand { moves: Moves::Never, ..Errand::of(asking) };
            // Where it cannot be made known there, the other pods are asked.
            let _ = self.carry(session, leader, errand).await;
        }
        let offered = self.to_leader(asking, state, source, exchange).await?;
        if let Some(state) = state_in(&offered.answer) {
            self.site.pins.learn(Kind::QuickConnect, &state, offered.decision.home());
        }
        if let Some((session, leader)) = visitor {
            self.end_visit(asking, session, &leader);
        }
        Ok(offered)
    }

    /// Whether this pod has made the code, secret or state of the request: what it says of it is true.
    pub(super) fn has_made(&self, asking: &Asking<'_>, pod: &Pod) -> bool {
        let Target::Leader(Some(key)) = &asking.target else { return false };
        self.site.pins.home(Kind::QuickConnect, key, |_, _| true) == Some(Place::of(pod))
    }

    /// Begins a QuickConnect flow. A code that a mint has used a moment ago is not shown to anybody: who was given it could be signed
    /// in as the mint's user.
    async fn initiate(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        for _ in 0..CODES {
            let mut offered = self.to_leader(asking, None, source, exchange).await?;
            let (head, mut body) = offered.answer.into_parts();
            let listener = Listener::of(asking.endpoint, &asking.head.method, asking.path, &head);
            let Some(mut listener) = listener else {
                offered.answer = Response::from_parts(head, body);
                return Ok(offered);
            };
            let early = match gather(&mut body, LONGEST_CODE).await {
                Ok(Gathered::Whole(whole)) => whole,
                Ok(Gathered::Longer(_)) | Err(_) => return Err(Refusal::Broken),
            };
            let mut lesson = listener.hear(&early);
            lesson.absorb(listener.end());
            let pod = &offered.decision.pod;
            if lesson.quick_connect.iter().any(|code| self.site.mint_codes.is_taken(pod.id, code)) {
                continue;
            }
            for text in &lesson.quick_connect {
                self.site.pins.learn(Kind::QuickConnect, text, Place::of(pod));
            }
            offered.answer = Response::from_parts(head, body.with_early(early));
            return Ok(offered);
        }
        Err(Refusal::NoPod)
    }

    /// Approves a code on the pod that made it, for the user that the caller's own pod knows him to be.
    async fn authorize(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let code = asking.query("code");
        let target = Target::Leader(code.clone());
        // What no code is made of is not repeated to another pod: the client's own answers it.
        let Some(code) = code.filter(|code| is_plain(code)) else {
            return self.offer(asking, source, exchange).await;
        };
        let Some(session) = asking.session() else {
            // An API key, or a client that is not known: its token may be known there all the same.
            return self.authorize_as_it_is(asking, target, source, exchange).await;
        };
        let named = asking.query("userId");
        let Some(approver) = self.approver(asking, session).await else {
            // What his own pod says of him is his to hear.
            return self.offer(asking, source, exchange).await;
        };
        let is_own = named.as_ref().is_none_or(|named| plain_id(named) == plain_id(&approver.user));
        if !is_own && !approver.is_administrator {
            // His own pod refuses him before it looks for the code.
            return self.offer(asking, source, exchange).await;
        }
        let Some(api_key) = &self.site.carryover.api_key else { return self.offer(asking, source, exchange).await };
        let user = named.unwrap_or(approver.user);
        let head = asking.head_for(&format!("/QuickConnect/Authorize?code={}&userId={}", code, plain_id(&user)));
        let Some(mut head) = head else { return Err(Refusal::Malformed("the code is no code")) };
        head.headers.insert(header::AUTHORIZATION, authorization::token_only(api_key.as_str()));
        let by_key = Asking {
            head: &head,
            keys: Keys { identity: Identity::default(), ..asking.keys.clone() },
            client_session: ClientSession::Unknown,
            target,
            ..asking.toward(Target::Home)
        };
        self.offer(&by_key, &Source::empty(), exchange).await
    }

    /// Without a session to speak for: the pod that made the code may know the token, having started after the log-in. If it
    /// does not, the client must not hear of it as of its own end.
    async fn authorize_as_it_is(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        target: Target,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let offered = self.offer(&asking.toward(target), source, exchange).await?;
        let is_unknown = offered.answer.status() == StatusCode::UNAUTHORIZED
            && offered.answer.headers().get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
        if !is_unknown {
            return Ok(offered);
        }
        if asking.keys.identity.token.is_some() && !self.carries_over() {
            self.lacks_key(asking, "quick_connect");
        }
        self.offer(asking, source, exchange).await
    }

    /// Who the caller is, by the word of the pod that he lives on.
    async fn approver(self: &Arc<Self>, asking: &Asking<'_>, session: &Session) -> Option<Approver> {
        let pods = asking.pool.pool.pods();
        let home = session.home()?;
        let pod = pods.iter().find(|pod| pod.id == home.pod && pod.status().is_alive())?;
        let token = session.token_at(Place::of(pod))?;
        let base_path = &asking.pool.pool.base_path;
        match self.ask_who(pod, base_path, token.as_str(), &on_behalf_of(asking)).await {
            Ok(Standing::Known { user: Some(user), is_administrator }) => Some(Approver { user, is_administrator }),
            _ => None,
        }
    }

    /// Lets a client come to live on the leader, and only then become a member of a group there.
    async fn join(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        if let Some(leader) = asking.pool.leader.to_live_on(&asking.pool.pool).await {
            match asking.session() {
                Some(session) => self.bring(asking, session, &leader).await,
                None => self.bring_next_time(asking, &leader),
            }
        }
        self.to_group(asking, source, exchange).await
    }

    /// A call that its pod carries out tells that the pod may have groups.
    async fn to_group(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let offered = self.offer(asking, source, exchange).await?;
        if offered.answer.status().is_success() {
            self.site.sessions.note_groups(&offered.decision.pod);
        }
        Ok(offered)
    }

    async fn bring(self: &Arc<Self>, asking: &Asking<'_>, session: &Arc<Session>, leader: &Arc<Pod>) {
        session.brought(Place::of(leader));
        let is_home = session.home().is_some_and(|home| home.pod == leader.id);
        if !is_home && self.carry(session, leader, Errand::of(asking)).await != Carried::Settled {
            tracing::warn!(
                user.id = &*session.user,
                to = &*leader.name,
                "a client cannot come to live on the leader; its group stays on its own pod"
            );
        }
    }

    /// Before a pod that is well makes a client a member of a group: what it says of that, it says once, by the socket that it has.
    pub(super) async fn await_sockets(&self, asking: &Asking<'_>, session: &Session, pod: &Pod) {
        let is_join = matches!(Led::of(&asking.head.method, asking.path), Some(Led::New | Led::Join));
        if is_join && pod.status().is_alive() && !self.site.sessions.gather(session, pod).await {
            tracing::warn!(to = &*pod.name, "a client's socket is not at its pod in time; its group may not hear it");
        }
    }

    /// Without an API key nobody can be moved: the device goes to the leader at its next log-in.
    fn bring_next_time(&self, asking: &Asking<'_>, leader: &Pod) {
        let home = self.decide(asking, &[]).map(|decision| decision.pod.id);
        if home == Some(leader.id) || self.carries_over() {
            return;
        }
        if let Some(device) = asking.keys.identity.device.as_deref() {
            let home = Place::of(leader);
            self.site.pins.learn(Kind::Device, device, home);
        }
        self.lacks_key(asking, "sync_play");
    }

    /// Shows the leader's groups as this user may see them; moves nobody, and asks the leader only while it may have any.
    async fn look(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let (Some(session), Some(leader)) = (asking.session(), asking.pool.leader.current()) else {
            return self.offer(asking, source, exchange).await;
        };
        let is_home = session.home().is_none_or(|home| home.pod == leader.id);
        if is_home || !leader.status().is_alive() || !self.site.sessions.may_have_groups(&leader).await {
            return self.offer(asking, source, exchange).await;
        }
        if session.token_at(Place::of(&leader)).is_none()
            && self.carry(session, &leader, Errand { moves: Moves::Never, ..Errand::of(asking) }).await
                != Carried::Settled
        {
            return self.offer(asking, source, exchange).await;
        }
        let offered = self.offer(&asking.toward(Target::Leader(None)), source, exchange).await;
        self.end_visit(asking, session, &leader);
        offered
    }

    /// Tells the time by the clock that stamps the commands of groups: the leader's, for whoever may still join one; but that of
    /// the client's home where that may have groups, for it may have led before.
    async fn tell_time(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        source: &Source,
        exchange: &mut Exchange,
    ) -> Result<Offered, Refusal> {
        let (home, leader) = (self.decide(asking, &[]).map(|decision| decision.pod), asking.pool.leader.current());
        let Some(home) = home.filter(|home| leader.is_some_and(|leader| leader.id != home.id)) else {
            return self.offer(asking, source, exchange).await;
        };
        if self.site.sessions.may_have_groups(&home).await {
            return self.offer(asking, source, exchange).await;
        }
        self.to_leader(asking, None, source, exchange).await
    }

    /// Says once what cannot be had without an API key.
    fn lacks_key(&self, asking: &Asking<'_>, what: &'static str) {
        let labels = metrics::Lack { pool: asking.pool.pool.name.clone(), pod: "".into(), what };
        let gauge = self.metrics.carry_over_lacks.get_or_create(&labels).clone();
        if gauge.set(1) == 0 {
            let feature = if what == "sync_play" { "SyncPlay" } else { "Quick Connect" };
            tracing::warn!(
                "{feature} between clients of different pods needs an API key of Jellyfin; set [jellyfin] api_key"
            );
        }
    }
}

struct Approver {
    user: String,
    is_administrator: bool,
}

/// A text in a body of JSON, its key in any case: the secret of a QuickConnect, the state of a single sign-on.
fn text_in(body: &[u8], name: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = json.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1;
    text.as_str().map(str::to_owned)
}

/// The state that a redirect to the provider carries.
fn state_in(answer: &Response<AnswerBody>) -> Option<String> {
    if !answer.status().is_redirection() {
        return None;
    }
    let (_, query) = answer.headers().get(header::LOCATION)?.to_str().ok()?.split_once('?')?;
    endpoint::in_query(query, "state")
}

/// Only what a code is made of: nothing else gets into another's query.
fn is_plain(code: &str) -> bool {
    code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_the_server_reads_them() {
        assert_eq!(text_in(br#"{"secret":"ABC"}"#, "Secret").as_deref(), Some("ABC"));
        assert_eq!(text_in(b"no JSON", "Secret"), None);
        assert!(is_plain("123456") && !is_plain("12&userId=x 3"));
    }
}
