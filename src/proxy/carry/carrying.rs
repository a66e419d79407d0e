//! One carry-over: the tokens that are known, the turn and the lock, the mint, and how it came out.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::{Errand, Proxy, Standing, minting::Unminted};
use crate::{
    carryover::{
        Session, Token,
        mints::{Need, Turn},
        session::Carried,
    },
    identity::authorization::Device,
    observe::metrics,
    pod::{Place, Pod},
    proxy::{Site, introduce::as_said},
};

/// How often a replica looks whether another one has carried the session.
const LOOK: Duration = Duration::from_millis(25);

/// Looks until it carries the session itself.
const LOOKS: u32 = 400;

/// Time from one renewal of the lock to the next, a third of its life.
const RENEW: Duration = Duration::from_secs(1);

/// One carry-over, led by this worker.
pub(super) struct Carrying {
    pub(super) proxy: Arc<Proxy>,
    pub(super) session: Arc<Session>,
    pub(super) pod: Arc<Pod>,
    pub(super) errand: Errand,
    /// Ends when a request has come to wait for it.
    pub(super) pressed: CancellationToken,
}

impl Carrying {
    /// Does it, and tells all that wait how it came out.
    pub(super) async fn run(self, tell: watch::Sender<Option<Carried>>) {
        let began = time::Instant::now();
        let from = self.session.home();
        let (carried, how) = self.carry().await;
        if carried == Carried::Refused {
            self.session.refuse(Place::of(&self.pod));
        }
        self.report(from, carried, how, began.elapsed());
        tell.send_replace(Some(carried));
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
        // A mint would end the token that another replica has minted, and this one could not know.
        if self.site().sessions.is_apart() {
            return (Carried::Failed, "another replica's sessions cannot be read");
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
                    self.settle(token).await;
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

    /// The session is valid there by this token. The pod hears first what the one before knew of the client: whatever the client
    /// says itself comes later.
    async fn settle(&self, token: &str) {
        self.retell(token).await;
        let place = Place::of(&self.pod);
        if self.errand.moves.holds(&self.session) {
            let why = || self.proxy.arrival(&self.session, &self.pod, self.errand.moves);
            self.session.settle(place, token, why);
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
                self.settle(token.as_str()).await;
                if self.session.is_dead() {
                    // Whoever ended it did not know this token.
                    self.site().sessions.end_token(&self.session.pool, token.as_str());
                    self.give_up(&token).await;
                    return (Carried::Dead, "ended meanwhile");
                }
                (Carried::Settled, "minted")
            }
            Err(Unminted::Failed(failure)) => {
                self.site().report(&self.pod, failure, true);
                (Carried::Failed, failure.cause.name())
            }
            Err(Unminted::Refused(why) | Unminted::Crossed(why)) => (Carried::Refused, why),
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

    /// The session's device as the server's parser is told of it.
    pub(super) fn device(&self) -> Device {
        as_said(self.session.device.clone())
    }

    fn site(&self) -> &Site {
        &self.proxy.site
    }
}
