//! One migration: the known tokens, the permit and the lock, the mint, and the outcome.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::{MigrationRequest, Proxy, mint::MintError};
use crate::{
    jellyfin::client::users::{self, TokenStatus},
    observe::metrics,
    pod::{Pod, PodInstance},
    proxy::SharedState,
    sessions::{
        Owner, Session, Token,
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

/// One migration, run by this worker.
pub(super) struct Migration {
    pub(super) proxy: Arc<Proxy>,
    pub(super) session: Arc<Session>,
    pub(super) pod: Arc<Pod>,
    pub(super) migration_request: MigrationRequest,
    /// Cancelled as soon as a request waits for this migration.
    pub(super) urgent: CancellationToken,
}

impl Migration {
    /// Migrates the session, and sends the outcome to all that wait.
    pub(super) async fn run(self, tell: watch::Sender<Option<MigrationOutcome>>) {
        let began = time::Instant::now();
        let from = self.session.home();
        let (migrated, how) = self.migrate().await;
        if migrated == MigrationOutcome::Refused {
            self.session.record_refusal(PodInstance::of(&self.pod));
        }
        self.record_outcome(from, migrated, how, began.elapsed());
        tell.send_replace(Some(migrated));
    }

    async fn migrate(&self) -> (MigrationOutcome, &'static str) {
        // Must precede the tokens: a home that another replica sets comes with its token there.
        let at_home = self.is_at_home();
        if let Some(migrated) = self.try_known_tokens().await {
            return (migrated, "known");
        }
        if at_home {
            return self.home_refused().await;
        }
        // A mint would end a token that another replica has minted and this one cannot see.
        if self.shared().sessions.is_apart() {
            return (MigrationOutcome::Failed, "another replica's sessions cannot be read");
        }
        let Some(api_key) = self.shared().migration.api_key.clone() else {
            return (MigrationOutcome::Refused, "no API key");
        };
        let Some(own) = self.session.client_token() else { return (MigrationOutcome::Ended, "no token") };
        // The permit comes before the lock: other replicas then wait for a mint, and not for the
        // queue before it.
        let Some(_turn) = self.acquire_permit().await else { return (MigrationOutcome::Failed, "stopping") };
        let mut is_mine = false;
        for _ in 0..LOOKS {
            is_mine = self.shared().sessions.lock(&own).await;
            if is_mine {
                break;
            }
            time::sleep(LOOK).await;
            self.shared().sessions.refresh(&self.session).await;
            if let Some(migrated) = self.try_known_tokens().await {
                return (migrated, "known");
            }
        }
        let last = async {
            // A token that another replica has minted is the valid one, so look for it before
            // minting.
            self.shared().sessions.refresh(&self.session).await;
            match self.try_known_tokens().await {
                Some(migrated) => (migrated, "known"),
                // Another replica moved the session here meanwhile, and it ended since.
                None if self.is_at_home() => self.home_refused().await,
                None => self.mint_token(&api_key).await,
            }
        };
        if !is_mine {
            return last.await;
        }
        let migrated = tokio::select! {
            migrated = last => migrated,
            never = self.renew_lock(&own) => match never {},
        };
        self.shared().sessions.unlock(&own);
        migrated
    }

    /// Renews the lock. It expires soon by itself, so that clients of a killed replica do not wait
    /// for long.
    async fn renew_lock(&self, own: &Token) -> Infallible {
        loop {
            time::sleep(RENEW).await;
            self.shared().sessions.renew_lock(own).await;
        }
    }

    /// Waits for a permit to mint on this pod. An idle socket's wait gets a request's priority as
    /// soon as a request joins it.
    async fn acquire_permit(&self) -> Option<MintPermit> {
        let mint_limiter = &self.shared().mint_limiter;
        tokio::select! {
            biased;
            () = self.urgent.cancelled() => {}
            turn = mint_limiter.acquire(self.pod.id, Priority::Idle) => return turn,
        }
        mint_limiter.acquire(self.pod.id, Priority::Waiting).await
    }

    fn is_at_home(&self) -> bool {
        self.session.home().is_some_and(|home| home.pod == self.pod.id)
    }

    /// The home knows none of the session's tokens. It has read their rows or minted them, so they
    /// were deleted since. The session ends, unless another replica has minted a token since, or
    /// moved the session. jellypin never mints it on this pod again.
    async fn home_refused(&self) -> (MigrationOutcome, &'static str) {
        let sessions = &self.shared().sessions;
        sessions.refresh(&self.session).await;
        // This skips the tokens that the pod has just refused.
        if let Some(migrated) = self.try_known_tokens().await {
            return (migrated, "known");
        }
        if !self.is_at_home() && !self.session.is_ended() {
            return (MigrationOutcome::Failed, "it lives elsewhere by now");
        }
        if sessions.is_uncertain(&self.session) {
            return (MigrationOutcome::Failed, "Redis does not say whether it was ended");
        }
        sessions.end_session(&self.session);
        (MigrationOutcome::Ended, "its home knows it no more")
    }

    /// Tries the session's known tokens, the latest first. `None` when the pod knows none of them.
    async fn try_known_tokens(&self) -> Option<MigrationOutcome> {
        for minted in self.session.tokens() {
            let token = minted.token.as_str();
            if self.shared().negative_cache.is_refused(token, &self.pod) {
                continue;
            }
            let call = users::who_am_i(token);
            match self.proxy.pods.call(&self.pod, &self.migration_request.caller, call).await {
                Ok(TokenStatus::Known { user, .. }) if user.as_ref().is_none_or(|user| *user == self.session.user) => {
                    self.record_on_pod(token).await;
                    return Some(MigrationOutcome::Done);
                }
                // The token is another user's, so it is none of this session's.
                Ok(TokenStatus::Known { .. }) => {}
                Ok(TokenStatus::Unknown) => self.shared().negative_cache.insert(token, &self.pod),
                Err(failure) => {
                    self.shared().report_failure(&self.pod, failure, true);
                    return Some(MigrationOutcome::Failed);
                }
            }
        }
        None
    }

    /// Records that the session is valid on the pod by this token. Replays the state from the
    /// previous pod first, so that the client's own later calls win.
    async fn record_on_pod(&self, token: &str) {
        self.replay_state(token).await;
        let place = PodInstance::of(&self.pod);
        if self.migration_request.kind.moves_home(&self.session) {
            let why = || self.proxy.move_reason(&self.session, &self.pod, self.migration_request.kind);
            self.session.record_home(place, token, why);
        } else {
            self.session.record_valid(place, token);
        }
        // Other replicas must learn the new home, since their sockets follow it.
        self.shared().sessions.persist(&self.session);
    }

    async fn mint_token(&self, api_key: &Token) -> (MigrationOutcome, &'static str) {
        // The pod may have died, or the session ended, while this waited.
        if !self.pod.status().is_alive() {
            return (MigrationOutcome::Failed, "the pod is gone");
        }
        if self.session.is_ended() {
            return (MigrationOutcome::Ended, "ended meanwhile");
        }
        match self.mint(api_key).await {
            Ok(token) => {
                self.session.add_minted(token.clone());
                // If the proxy died before it stored the token, the client would be logged out.
                if !self.shared().sessions.persist_and_flush(&self.session).await {
                    tracing::debug!("a carried session is not kept beyond this process yet");
                }
                self.record_on_pod(token.as_str()).await;
                if self.session.is_ended() {
                    // The revocation did not know this token.
                    let owner = Owner::User(&self.session.user);
                    self.shared().sessions.end_token(&self.session.pool, owner, token.as_str());
                    self.discard_token(&token).await;
                    return (MigrationOutcome::Ended, "ended meanwhile");
                }
                (MigrationOutcome::Done, "minted")
            }
            Err(MintError::Failed(failure)) => {
                self.shared().report_failure(&self.pod, failure, true);
                (MigrationOutcome::Failed, failure.cause.as_str())
            }
            Err(MintError::Refused(why) | MintError::CodeCollision(why)) => (MigrationOutcome::Refused, why),
        }
    }

    /// Counts and logs which session moved, from where to where, and how.
    fn record_outcome(&self, from: Option<PodInstance>, migrated: MigrationOutcome, how: &'static str, took: Duration) {
        let outcome = match migrated {
            MigrationOutcome::Done => how,
            MigrationOutcome::Refused => "refused",
            MigrationOutcome::Ended => "dead",
            MigrationOutcome::Failed => "failed",
        };
        let labels = metrics::Migration { pool: self.pod.pool.clone(), to: self.pod.name.clone(), outcome };
        self.proxy.metrics.migrations.get_or_create(&labels).inc();
        self.proxy.metrics.migration_seconds.observe(took.as_secs_f64());
        let pods = self.shared().pools.iter().flat_map(|shared| shared.pool.pods().to_vec());
        let from = pods.into_iter().find(|pod| from.is_some_and(|from| from.pod == pod.id));
        let from = from.as_ref().map_or("", |pod| &*pod.name);
        let (to, duration_ms) = (&*self.pod.name, took.as_millis() as u64);
        let (user, client) = (&*self.session.user, &*self.session.device.client);
        match migrated {
            MigrationOutcome::Done => {
                tracing::info!(user.id = user, client, from, to, how, duration_ms, "session carried over");
            }
            MigrationOutcome::Ended => tracing::info!(user.id = user, client, from, to, why = how, "session is dead"),
            MigrationOutcome::Refused | MigrationOutcome::Failed => {
                tracing::warn!(user.id = user, client, from, to, why = how, duration_ms, "session not carried over");
            }
        }
    }

    fn shared(&self) -> &SharedState {
        &self.proxy.shared
    }
}
