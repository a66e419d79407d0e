//! Carry-over: a client whose home is gone becomes known to another pod, within the request that finds out.
//!
//! First the tokens that stand for the session already are tried there, since a restarted pod knows every row of the database;
//! else a session is minted for the same user and device, by three calls that need an API key of the pods. Parallel requests
//! and sockets of one client wait for the one that does it. What a living home refuses is dead, and is never carried.

mod carrying;
mod minting;
mod retelling;

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;

use super::{
    Asking, Proxy,
    call::{Standing, on_behalf_of},
};
use crate::{
    carryover::{
        Session, Token,
        mints::Need,
        session::{Arrival, Carried, Part},
    },
    forward::{Cause, Failure},
    pod::{Place, Pod},
};
use carrying::Carrying;

/// What a session is brought to a pod for.
pub(super) struct Errand {
    pub(super) base_path: Arc<str>,
    /// What the pod is told of the client.
    pub(super) client: HeaderMap,
    pub(super) need: Need,
    pub(super) moves: Moves,
}

/// Whether a session comes to live on the pod that it is brought to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moves {
    Always,
    /// Only if it lives on this pod then, and no request has brought it there for a group since this moment.
    From(Place, Instant),
    /// It is only to be known there too.
    Never,
}

impl Moves {
    fn holds(self, session: &Session) -> bool {
        match self {
            Moves::Always => true,
            Moves::From(from, since) => {
                session.home().is_some_and(|home| home.pod == from.pod) && !session.was_brought(from, since)
            }
            Moves::Never => false,
        }
    }
}

impl Errand {
    /// For a request that waits for it, to live there.
    pub(super) fn of(asking: &Asking<'_>) -> Errand {
        let base_path = asking.pool.pool.base_path.clone();
        Errand { base_path, client: on_behalf_of(asking), need: Need::Waiting, moves: Moves::Always }
    }
}

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
        if !asking.hangs_on_token() || session.is_refused(place) || !asking.may_carry(session, pod) {
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
        if carried == Carried::Settled
            && moves.holds(session)
            && let Some(token) = session.token_at(Place::of(pod))
            && session.settle(Place::of(pod), token.as_str(), || self.arrival(session, pod, moves))
        {
            self.site.sessions.keep(session);
        }
        carried
    }

    /// Why a session comes to live on this pod.
    pub(super) fn arrival(&self, session: &Session, pod: &Pod, moves: Moves) -> Arrival {
        let is_alive = |home| self.site.pools.iter().any(|site| site.pool.is_alive(home));
        match (session.home(), moves) {
            (None, _) => Arrival::First,
            (Some(home), _) if home.pod == pod.id => Arrival::Restart,
            (_, Moves::From(..)) => Arrival::Drain,
            (Some(home), _) if is_alive(home) => Arrival::Group,
            _ => Arrival::HomeGone,
        }
    }
}

impl Asking<'_> {
    /// Only a session whose home is gone, or has begun a new life, is carried: a living home has the last word.
    fn may_carry(&self, session: &Session, pod: &Pod) -> bool {
        pod.status().is_alive() && !session.is_dead() && !self.lives_elsewhere(session, pod)
    }

    /// Whether the session's home is alive, and is not this pod.
    pub(super) fn lives_elsewhere(&self, session: &Session, pod: &Pod) -> bool {
        let is_alive = |id| self.pool.pool.pods().iter().any(|other| other.id == id && other.status().is_alive());
        session.home().is_some_and(|home| home.pod != pod.id && is_alive(home.pod))
    }
}
