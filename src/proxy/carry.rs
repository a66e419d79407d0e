//! Carry-over: a client whose home is gone becomes known to another pod, within the request that finds out.
//!
//! First the tokens that stand for the session already are tried there, since a restarted pod knows every row of the database;
//! else a session is minted for the same user and device, by three calls that need an API key of the pods. Parallel requests
//! and sockets of one client wait for the one that does it. What a living home refuses is dead, and is never carried.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::{
    Asking, Proxy,
    call::{Call, on_behalf_of},
};
use crate::{
    carryover::{
        Session, Token,
        mints::{Need, Turn},
        session::{Carried, Note, Part, Place},
    },
    forward::{Cause, Failure},
    identity::authorization::{self, Device},
    observe::metrics,
    pod::Pod,
};

/// What a pod says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It knows it; of an API key there is no user.
    Known {
        user: Option<String>,
        is_administrator: bool,
    },
    Unknown,
}

/// What a session is brought to a pod for.
pub(super) struct Errand {
    pub(super) base_path: Arc<str>,
    /// What the pod is told of the client.
    pub(super) client: HeaderMap,
    pub(super) need: Need,
    /// The session is to live there; else it is only to be known there too.
    pub(super) moves: bool,
}

impl Errand {
    /// For a request that waits for it, to live there.
    pub(super) fn of(asking: &Asking<'_>) -> Errand {
        let base_path = asking.pool.pool.base_path.clone();
        Errand { base_path, client: on_behalf_of(asking), need: Need::Waiting, moves: true }
    }
}

/// How often a replica looks whether another one has carried the session.
const LOOK: Duration = Duration::from_millis(25);

/// Looks until it carries the session itself.
const LOOKS: u32 = 400;

/// Time from one renewal of the lock to the next, a third of its life.
const RENEW: Duration = Duration::from_secs(1);

impl Proxy {
    /// By which token the client is known to this pod; where it is not and its home is gone, it is made known. `None`: by its
    /// own, whatever comes of it.
    pub(super) async fn passage(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        pod: &Arc<Pod>,
    ) -> Result<Option<Token>, Failure> {
        let Some(session) = asking.session() else { return Ok(None) };
        // It was ended while this request was on its way: no pod may take its token any more, whatever it remembers.
        let of_nobody = || Ok(Some(Token::new(super::NO_TOKEN)));
        if session.is_dead() {
            return of_nobody();
        }
        let place = Place::of(pod);
        if let Some(token) = session.token_at(place) {
            return Ok(Some(token));
        }
        if !asking.hangs_on_token() || session.is_refused(place) || !self.may_carry(session, asking, pod) {
            return Ok(None);
        }
        let need = if asking.is_upgrade { Need::Idle } else { Need::Waiting };
        match self.carry(session, pod, Errand { need, ..Errand::of(asking) }).await {
            _ if session.is_dead() => of_nobody(),
            Carried::Settled => Ok(session.token_at(place)),
            Carried::Refused | Carried::Dead => Ok(None),
            Carried::Failed => Err(Failure { cause: Cause::Lost, maybe_received: false, over_kept: false }),
        }
    }

    /// Only a session whose home is gone, or has begun a new life, is carried: a living home has the last word.
    fn may_carry(&self, session: &Session, asking: &Asking<'_>, pod: &Pod) -> bool {
        if !pod.status().is_alive() || session.is_dead() {
            return false;
        }
        let Some(home) = session.home() else { return true };
        let pods = asking.pool.pool.pods();
        let at_home = pods.iter().find(|other| other.id == home.pod && other.status().is_alive());
        at_home.is_none_or(|at_home| at_home.id == pod.id)
    }

    /// Makes a session known to a pod, or waits for whoever does. It goes on when this is dropped.
    pub(super) async fn carry(self: &Arc<Self>, session: &Arc<Session>, pod: &Arc<Pod>, errand: Errand) -> Carried {
        let moves = errand.moves;
        let mut outcome = match session.carry(Place::of(pod), errand.need) {
            Part::Follow(outcome) => outcome,
            Part::Lead(lead) => {
                let outcome = lead.tell.subscribe();
                let (proxy, session, pod) = (self.clone(), session.clone(), pod.clone());
                tokio::spawn(Carrying { proxy, session, pod, errand, pressed: lead.pressed }.run(lead.tell));
                outcome
            }
        };
        let carried = match outcome.wait_for(Option::is_some).await {
            Ok(carried) => carried.unwrap_or(Carried::Failed),
            // Whoever did it has ended with its worker.
            Err(_) => Carried::Failed,
        };
        // Whoever it was may have wanted it there only to be known.
        if moves && carried == Carried::Settled {
            self.settle(session, pod);
        }
        carried
    }

    /// A session that is known to a pod comes to live there.
    pub(super) fn settle(&self, session: &Session, pod: &Pod) {
        let place = Place::of(pod);
        if session.token_at(place).is_some_and(|token| session.settle(place, token.as_str())) {
            self.site.sessions.keep(session);
        }
    }

    /// Asks a pod who has this token.
    pub(super) async fn ask_who(
        &self,
        pod: &Arc<Pod>,
        base_path: &str,
        token: &str,
        client: &HeaderMap,
    ) -> Result<Standing, Failure> {
        let mut again = true;
        loop {
            let call = Call {
                method: Method::GET,
                target: "/Users/Me",
                client,
                authorization: Some(authorization::token_only(token)),
                body: Bytes::new(),
            };
            let reply = self.call(pod, base_path, call).await?;
            return Ok(match reply.status {
                StatusCode::OK => {
                    let me = reply.json().unwrap_or_default();
                    let user = me["Id"].as_str().map(str::to_owned);
                    Standing::Known { user, is_administrator: me["Policy"]["IsAdministrator"] == true }
                }
                StatusCode::UNAUTHORIZED => Standing::Unknown,
                // An API key, which is nobody; or a user who may not come in at this hour, or from there.
                StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
                    Standing::Known { user: None, is_administrator: false }
                }
                // A row that another pod has deleted: once, and then it is as if nothing had been.
                StatusCode::INTERNAL_SERVER_ERROR if std::mem::take(&mut again) => continue,
                _ => return Err(Failure { cause: Cause::Malformed, maybe_received: true, over_kept: false }),
            });
        }
    }
}

/// One carry-over, led by this worker.
struct Carrying {
    proxy: Arc<Proxy>,
    session: Arc<Session>,
    pod: Arc<Pod>,
    errand: Errand,
    /// Ends when a request has come to wait for it.
    pressed: CancellationToken,
}

impl Carrying {
    async fn run(self, tell: watch::Sender<Option<Carried>>) {
        let began = time::Instant::now();
        let from = self.session.home();
        let (carried, how) = self.carry().await;
        if carried == Carried::Refused {
            self.session.refuse(Place::of(&self.pod));
        }
        self.report(from, carried, how, began.elapsed());
        tell.send_replace(Some(carried));
        if carried == Carried::Settled {
            self.retell().await;
        }
    }

    async fn carry(&self) -> (Carried, &'static str) {
        // Before the tokens are looked at: another replica's home comes with the token by which it lives there.
        let at_home = self.is_at_home();
        if let Some(carried) = self.try_known().await {
            return (carried, "known");
        }
        if at_home {
            return self.refused_at_home().await;
        }
        let Some(api_key) = self.site().carryover.api_key.clone() else { return (Carried::Refused, "no API key") };
        let Some(own) = self.session.own() else { return (Carried::Dead, "no token") };
        // The turn comes first: what another replica waits for is to be the mint, and not the queue before it.
        let Some(_turn) = self.turn().await else { return (Carried::Failed, "stopping") };
        let mut is_mine = false;
        for _ in 0..LOOKS {
            is_mine = self.site().sessions.lock(&own).await;
            if is_mine {
                break;
            }
            time::sleep(LOOK).await;
            self.site().sessions.refresh(&self.session).await;
            if let Some(carried) = self.try_known().await {
                return (carried, "known");
            }
        }
        let last = async {
            // What another replica has minted is the one that lives, whether it was heard of just now or by a word before.
            self.site().sessions.refresh(&self.session).await;
            match self.try_known().await {
                Some(carried) => (carried, "known"),
                // Another replica has brought it here meanwhile, and it was ended since.
                None if self.is_at_home() => self.refused_at_home().await,
                None => self.mint_now(&api_key).await,
            }
        };
        if !is_mine {
            return last.await;
        }
        let carried = tokio::select! {
            carried = last => carried,
            never = self.keep_locked(&own) => match never {},
        };
        self.site().sessions.unlock(&own);
        carried
    }

    /// The lock lasts a short time by itself, so that the clients of a replica that is killed in the middle need not wait for long.
    async fn keep_locked(&self, own: &Token) -> Infallible {
        loop {
            time::sleep(RENEW).await;
            self.site().sessions.relock(own).await;
        }
    }

    /// A place among those who mint there; an idle socket's becomes a request's as soon as one waits for it.
    async fn turn(&self) -> Option<Turn> {
        let mints = &self.site().mints;
        tokio::select! {
            biased;
            () = self.pressed.cancelled() => {}
            turn = mints.turn(self.pod.id, Need::Idle) => return turn,
        }
        mints.turn(self.pod.id, Need::Waiting).await
    }

    fn is_at_home(&self) -> bool {
        self.session.home().is_some_and(|home| home.pod == self.pod.id)
    }

    /// Its home knows none of its tokens. It has read their rows or minted them, so that they were deleted: that is the end of the
    /// session, unless another replica has minted one since, or moved the session. It is never minted there again.
    async fn refused_at_home(&self) -> (Carried, &'static str) {
        let sessions = &self.site().sessions;
        sessions.refresh(&self.session).await;
        // What it has refused it is not asked again.
        if let Some(carried) = self.try_known().await {
            return (carried, "known");
        }
        if !self.is_at_home() && !self.session.is_dead() {
            return (Carried::Failed, "it lives elsewhere by now");
        }
        if sessions.is_uncertain(&self.session) {
            return (Carried::Failed, "Redis does not say whether it was ended");
        }
        sessions.end(&self.session);
        (Carried::Dead, "its home knows it no more")
    }

    /// Tries the tokens that stand for the session already, the latest first. `None` when the pod knows none of them.
    async fn try_known(&self) -> Option<Carried> {
        for minted in self.session.tokens() {
            let token = minted.token.as_str();
            if self.site().refusals.is_refused(token, &self.pod) {
                continue;
            }
            match self.proxy.ask_who(&self.pod, &self.errand.base_path, token, &self.errand.client).await {
                Ok(Standing::Known { user, .. }) if user.as_ref().is_none_or(|user| *user == self.session.user) => {
                    self.settle(token);
                    return Some(Carried::Settled);
                }
                // Another user's: nothing of this session.
                Ok(Standing::Known { .. }) => {}
                Ok(Standing::Unknown) => self.site().refusals.remember(token, &self.pod),
                Err(failure) => {
                    self.site().report(&self.pod, failure, true);
                    return Some(Carried::Failed);
                }
            }
        }
        None
    }

    fn settle(&self, token: &str) {
        let place = Place::of(&self.pod);
        if self.errand.moves {
            self.session.settle(place, token);
        } else {
            self.session.accept(place, token);
        }
        // Where it lives now is for the other replicas to know, whose sockets follow.
        self.site().sessions.keep(&self.session);
    }

    async fn mint_now(&self, api_key: &Token) -> (Carried, &'static str) {
        // The pod may have died, or the session ended, while this waited.
        if !self.pod.status().is_alive() {
            return (Carried::Failed, "the pod is gone");
        }
        if self.session.is_dead() {
            return (Carried::Dead, "ended meanwhile");
        }
        match self.mint(api_key).await {
            Ok(token) => {
                self.session.add(token.clone());
                // What is not safe yet would log the client out if the proxy died now.
                if !self.site().sessions.keep_safe(&self.session).await {
                    tracing::debug!("a carried session is not kept beyond this process yet");
                }
                self.settle(token.as_str());
                if self.session.is_dead() {
                    // Whoever ended it did not know this token.
                    self.site().sessions.end_token(token.as_str());
                    let authorization = Some(authorization::token_only(token.as_str()));
                    // Nobody has the token: a pod that does not hear of it keeps a row, and nothing else.
                    let _ = self.post("/Sessions/Logout", authorization, Bytes::new()).await;
                    return (Carried::Dead, "ended meanwhile");
                }
                (Carried::Settled, "minted")
            }
            Err(Unminted::Failed(failure)) => {
                self.site().report(&self.pod, failure, true);
                (Carried::Failed, failure.cause.name())
            }
            Err(Unminted::Refused(why)) => (Carried::Refused, why),
        }
    }

    /// The three calls. The first must not bear the API key, or the session would bear the key's name.
    async fn mint(&self, api_key: &Token) -> Result<Token, Unminted> {
        let device = device_of(&self.session);
        let begun = self.post("/QuickConnect/Initiate", Some(device.header(None)), Bytes::new()).await?;
        let begun = begun.map_err(|status| Unminted::Refused(initiate_refused(status)))?;
        let (Some(code), Some(secret)) = (text(&begun, "Code"), text(&begun, "Secret")) else {
            return Err(Unminted::Refused("Initiate gave no code"));
        };
        let target = format!("/QuickConnect/Authorize?code={code}&userId={}", self.session.user);
        let authorized = self.post(&target, Some(authorization::token_only(api_key.as_str())), Bytes::new()).await?;
        authorized.map_err(|status| Unminted::Refused(authorize_refused(status)))?;
        let body = Bytes::from(json!({"Secret": secret}).to_string());
        let minted = self.post("/Users/AuthenticateWithQuickConnect", None, body).await?;
        let minted = minted.map_err(|_| Unminted::Refused("the log-in was refused"))?;
        text(&minted, "AccessToken").map(Token::new).ok_or(Unminted::Refused("the log-in gave no token"))
    }

    async fn post(
        &self,
        target: &str,
        authorization: Option<HeaderValue>,
        body: Bytes,
    ) -> Result<Result<serde_json::Value, StatusCode>, Unminted> {
        let call = Call { method: Method::POST, target, client: &self.errand.client, authorization, body };
        let reply = self.proxy.call(&self.pod, &self.errand.base_path, call).await.map_err(Unminted::Failed)?;
        Ok(if reply.status.is_success() { Ok(reply.json().unwrap_or_default()) } else { Err(reply.status) })
    }

    /// Tells the pod what the one before knew of the client. What it does not take is lost, and nothing else.
    async fn retell(&self) {
        let notes = self.session.notes();
        let Some(token) = self.session.token_at(Place::of(&self.pod)) else { return };
        let device = device_of(&self.session);
        for Note { target, body } in [notes.capabilities, notes.playing].into_iter().flatten() {
            let authorization = Some(device.header(Some(token.as_str())));
            let call = Call { method: Method::POST, target: &target, client: &self.errand.client, authorization, body };
            if let Err(failure) = self.proxy.call(&self.pod, &self.errand.base_path, call).await {
                tracing::debug!(pod.name = &*self.pod.name, cause = failure.cause.name(), "a note was not taken");
            }
        }
    }

    /// Says who moved where, and why.
    fn report(&self, from: Option<Place>, carried: Carried, how: &'static str, took: Duration) {
        let outcome = match carried {
            Carried::Settled => how,
            Carried::Refused => "refused",
            Carried::Dead => "dead",
            Carried::Failed => "failed",
        };
        let labels = metrics::CarryOver { pool: self.pod.pool.clone(), to: self.pod.name.clone(), outcome };
        self.proxy.metrics.carry_overs.get_or_create(&labels).inc();
        self.proxy.metrics.carry_over_seconds.observe(took.as_secs_f64());
        let pods = self.site().pools.iter().flat_map(|site| site.pool.pods().to_vec());
        let from = pods.into_iter().find(|pod| from.is_some_and(|from| from.pod == pod.id));
        let from = from.as_ref().map_or("", |pod| &*pod.name);
        let (to, duration_ms) = (&*self.pod.name, took.as_millis() as u64);
        let (user, client) = (&*self.session.user, &*self.session.device.client);
        match carried {
            Carried::Settled => {
                tracing::info!(user.id = user, client, from, to, how, duration_ms, "session carried over");
            }
            Carried::Dead => tracing::info!(user.id = user, client, from, to, why = how, "session is dead"),
            Carried::Refused | Carried::Failed => {
                tracing::warn!(user.id = user, client, from, to, why = how, duration_ms, "session not carried over");
            }
        }
    }

    fn site(&self) -> &super::Site {
        &self.proxy.site
    }
}

/// Why there is no token.
enum Unminted {
    Failed(Failure),
    Refused(&'static str),
}

fn initiate_refused(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "Quick Connect is disabled in Jellyfin",
        _ => "Initiate was refused",
    }
}

fn authorize_refused(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "the API key is not valid",
        StatusCode::FORBIDDEN => "the user may not sign in there",
        StatusCode::NOT_FOUND => "the user is gone",
        _ => "Authorize was refused",
    }
}

/// The session's device as the server's parser is told of it.
fn device_of(session: &Session) -> Device {
    let device = session.device.clone();
    Device { client: device.client, name: device.name, id: device.id, version: device.version }
}

/// A field's text, in PascalCase or camelCase.
fn text(json: &serde_json::Value, name: &str) -> Option<String> {
    let camel = name[..1].to_ascii_lowercase() + &name[1..];
    json.get(name).or_else(|| json.get(&camel))?.as_str().map(str::to_owned)
}
