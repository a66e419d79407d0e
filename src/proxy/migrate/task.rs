//! Carries out one migration: the known tokens, the permit and the lock, the mint, the outcome.

use std::{convert::Infallible, time::Duration};

use tokio::{sync::watch, time};

use super::{
    ending::{Ending, MintRefusal},
    migration::Migration,
    mint::{Mint, MintError},
    state_replay::StateReplay,
};
use crate::{
    jellyfin::client::users::{self, TokenStatus},
    observe::metrics,
    pod::PodInstance,
    proxy::{shared_state::SharedState, user_homes},
    server_id::users::Standing,
    sessions::{
        Owner, Token,
        mint_limiter::{MintPermit, Priority},
        session::MigrationOutcome,
    },
};

/// How often a replica checks whether another one has migrated the session.
const LOOK: Duration = Duration::from_millis(25);

/// Checks before the replica migrates the session itself.
const LOOKS: u32 = 400;

/// Time from one renewal of the lock to the next, a third of its life.
const RENEW: Duration = Duration::from_secs(1);

impl Migration {
    /// Migrates the session, and sends the outcome to all that wait.
    pub(super) async fn run(self, tell: watch::Sender<Option<MigrationOutcome>>) {
        let began = time::Instant::now();
        let from = self.session.home();
        let ending = self.migrate().await;
        if ending.outcome() == MigrationOutcome::Refused {
            self.session.migrations.record_refusal(PodInstance::of(&self.pod));
        }
        self.record_outcome(from, ending, began.elapsed());
        tell.send_replace(Some(ending.outcome()));
    }

    async fn migrate(&self) -> Ending {
        // Must precede the tokens: a home that another replica sets comes with its token there.
        let at_home = self.is_at_home();
        if let Some(ending) = self.missing_user(at_home).await {
            return ending;
        }
        if let Some(ending) = self.try_known_tokens().await {
            return ending;
        }
        if self.session.home().is_some_and(|home| at_home && self.pod.info.is_other_server_than_in(home.epoch)) {
            return Ending::OtherServer;
        }
        if at_home {
            return self.home_refused().await;
        }
        // A mint would end a token that another replica has minted and this one cannot see.
        if self.shared().sessions.replicas.is_apart() {
            return Ending::SessionsUnreadable;
        }
        let Some(api_key) = self.shared().latest_api_key.load_full() else {
            return Ending::NoApiKey;
        };
        let Some(own) = self.session.tokens.own() else { return Ending::NoToken };
        // The permit comes before the lock: other replicas then wait for a mint, and not for the
        // queue before it.
        let Some(_permit) = self.acquire_permit().await else { return Ending::Stopping };
        let mut is_locked = false;
        for _ in 0..LOOKS {
            is_locked = self.shared().sessions.locks.acquire(&own).await;
            if is_locked {
                break;
            }
            time::sleep(LOOK).await;
            self.shared().sessions.comparer.refresh(&self.session).await;
            if let Some(ending) = self.try_known_tokens().await {
                return ending;
            }
        }
        let last = async {
            // A token that another replica has minted is the valid one, so look for it before
            // minting.
            self.shared().sessions.comparer.refresh(&self.session).await;
            match self.try_known_tokens().await {
                Some(ending) => ending,
                // Another replica moved the session here meanwhile, and it ended since.
                None if self.is_at_home() => self.home_refused().await,
                None => self.mint_token(&api_key).await,
            }
        };
        if !is_locked {
            return last.await;
        }
        let ending = tokio::select! {
            ending = last => ending,
            never = self.renew_lock(&own) => match never {},
        };
        self.shared().sessions.locks.release(&own);
        ending
    }

    /// Renews the lock. It expires soon by itself, so that clients of a killed replica do not wait
    /// for long.
    async fn renew_lock(&self, own: &Token) -> Infallible {
        loop {
            time::sleep(RENEW).await;
            self.shared().sessions.locks.renew(own).await;
        }
    }

    /// Waits for a permit to mint on this pod. An idle socket's wait gets a request's priority as
    /// soon as a request joins it. `None` if the proxy stops first, or hands over.
    async fn acquire_permit(&self) -> Option<MintPermit> {
        let mint_limiter = &self.shared().mint_limiter;
        let permit = async {
            tokio::select! {
                biased;
                () = self.urgent.cancelled() => {}
                permit = mint_limiter.acquire(&self.pod, Priority::Idle) => return permit,
            }
            mint_limiter.acquire(&self.pod, Priority::Waiting).await
        };
        tokio::select! {
            biased;
            permit = permit => permit,
            () = self.migrator.shutdown.stopping() => None,
        }
    }

    /// Why the user cannot be on a pod with users of its own. What the home says of a user is final.
    async fn missing_user(&self, at_home: bool) -> Option<Ending> {
        let pool = self.shared().pools.iter().find(|of| of.pool.name == self.session.pool)?;
        let users = pool.shown_server.users.as_ref()?;
        self.migrator.own_users.know(pool, &self.pod).await;
        match users.standing(&self.pod, &self.session.user) {
            Standing::Missing if !at_home => Some(Ending::Mint(MintRefusal::UserNotThere)),
            Standing::Disabled if !at_home => Some(Ending::Mint(MintRefusal::UserDisabled)),
            Standing::Unknown => Some(Ending::UsersUnknown),
            Standing::Here | Standing::Missing | Standing::Disabled => None,
        }
    }

    fn is_at_home(&self) -> bool {
        self.session.home().is_some_and(|home| home.pod == self.pod.id)
    }

    /// The home knows none of the session's tokens. It has read their rows or minted them, so they
    /// were deleted since. The session ends, unless another replica has minted a token since, or
    /// moved the session. jellypin never mints it on this pod again.
    async fn home_refused(&self) -> Ending {
        let sessions = &self.shared().sessions;
        sessions.comparer.refresh(&self.session).await;
        // This skips the tokens that the pod has just refused.
        if let Some(ending) = self.try_known_tokens().await {
            return ending;
        }
        if !self.is_at_home() && !self.session.is_ended() {
            return Ending::LivesElsewhere;
        }
        if sessions.comparer.is_uncertain(&self.session) {
            return Ending::StoreUnavailable;
        }
        sessions.ends.end_session(&self.session);
        Ending::HomeForgotIt
    }

    /// Tries the session's known tokens, the latest first. `None` when the pod knows none of them.
    async fn try_known_tokens(&self) -> Option<Ending> {
        for minted in self.session.tokens.all() {
            let token = minted.token.as_str();
            if self.shared().negative_cache.is_refused(token, &self.pod) {
                continue;
            }
            let call = users::who_am_i(token);
            match self.migrator.pods.call(&self.pod, &self.migration_request.caller, call).await {
                Ok(TokenStatus::Known { user, .. }) if user.as_ref().is_none_or(|user| *user == self.session.user) => {
                    self.record_on_pod(token).await;
                    return Some(Ending::Known);
                }
                // The token is another user's, so it is none of this session's.
                Ok(TokenStatus::Known { .. }) => {}
                Ok(TokenStatus::Unknown) => self.shared().negative_cache.insert(token, &self.pod),
                Err(failure) => {
                    self.shared().report_failure(&self.pod, failure, true);
                    return Some(Ending::Failure(failure.cause));
                }
            }
        }
        None
    }

    /// Records that the session is valid on the pod by this token. Replays the state from the
    /// previous pod first, so that the client's own later calls win.
    async fn record_on_pod(&self, token: &str) {
        // What is replayed writes user data, so the pod must have the newest rows before.
        self.migrator.user_data.catch_up(&self.session, &self.pod).await;
        let Migration { migrator, session, pod, migration_request, .. } = self;
        let replay = StateReplay { migrator, session, pod, caller: &migration_request.caller, token };
        replay.run(|| migration_request.kind.moves_home(session)).await;
        let place = PodInstance::of(&self.pod);
        if self.migration_request.kind.moves_home(&self.session) {
            let why = || self.migrator.move_reason(&self.session, &self.pod, self.migration_request.kind);
            self.session.residence.record_home(place, token, why);
            user_homes::record(&self.migrator.shared, &self.session);
        } else {
            self.session.residence.record_valid(place, token);
        }
        // Other replicas must learn the new home, since their sockets follow it.
        self.shared().sessions.keeper.persist(&self.session);
    }

    async fn mint_token(&self, api_key: &Token) -> Ending {
        // The pod may have died, or the session ended, while this waited.
        if !self.pod.status().is_alive() {
            return Ending::PodGone;
        }
        if self.session.is_ended() {
            return Ending::EndedMeanwhile;
        }
        let Migration { migrator, session, pod, migration_request, .. } = self;
        let mint = Mint { migrator, session, pod, caller: &migration_request.caller };
        match mint.run(api_key).await {
            Ok(token) => {
                self.session.tokens.add_minted(token.clone());
                // If the proxy died before it stored the token, the client would be logged out.
                if !self.shared().sessions.keeper.persist_and_flush(&self.session).await {
                    tracing::debug!("a migrated session is not kept beyond this process yet");
                }
                self.record_on_pod(token.as_str()).await;
                if self.session.is_ended() {
                    // The revocation did not know this token.
                    let owner = Owner::User(&self.session.user);
                    self.shared().sessions.ends.end_token(&self.session.pool, owner, token.as_str());
                    mint.discard(&token).await;
                    return Ending::EndedMeanwhile;
                }
                Ending::Minted
            }
            Err(MintError::Failed(failure)) => {
                self.shared().report_failure(&self.pod, failure, true);
                Ending::Failure(failure.cause)
            }
            Err(MintError::Refused(why) | MintError::CodeCollision(why)) => Ending::Mint(why),
        }
    }

    /// Counts and logs which session moved, from where to where, and how.
    fn record_outcome(&self, from: Option<PodInstance>, ending: Ending, took: Duration) {
        let outcome = ending.label();
        let labels = metrics::Migration { pool: self.pod.pool.clone(), to: self.pod.name.clone(), outcome };
        self.migrator.metrics.migrations.get_or_create(&labels).inc();
        self.migrator.metrics.migration_seconds.observe(took.as_secs_f64());
        let pods = self.shared().pools.iter().flat_map(|shared| shared.pool.pods().to_vec());
        let from = pods.into_iter().find(|pod| from.is_some_and(|from| from.pod == pod.id));
        let from = from.as_ref().map_or("", |pod| &*pod.name);
        let (to, duration_ms) = (&*self.pod.name, took.as_millis() as u64);
        let (user, client) = (&*self.session.user, &*self.session.device.client);
        let how = ending.as_str();
        match ending.outcome() {
            MigrationOutcome::Done => {
                tracing::info!(user.id = user, client, from, to, how, duration_ms, "session migrated");
            }
            MigrationOutcome::Ended => tracing::info!(user.id = user, client, from, to, why = how, "session is dead"),
            MigrationOutcome::Refused | MigrationOutcome::Failed => {
                tracing::warn!(user.id = user, client, from, to, why = how, duration_ms, "session not migrated");
            }
        }
    }

    fn shared(&self) -> &SharedState {
        &self.migrator.shared
    }
}
