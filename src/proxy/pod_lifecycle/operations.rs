//! What operators ask of pods and sessions by the admin API: who plays what, and a move of a user.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue};
use tokio::time::{self, Instant};

use super::PodLifecycle;
use crate::{
    jellyfin::client::{
        sessions::{self, ListedSession},
        users::{self, PasswordCheck},
    },
    pod::{Pod, PodInstance, Pool, State},
    proxy::{
        migrate::{MigrationKind, MigrationRequest},
        pod_client::Caller,
        user_homes,
    },
    sessions::{Session, mint_limiter::Priority, session::MigrationOutcome},
};

/// The longest wait for the lists of a pool's pods. A pod that is late is left out.
const LONGEST: Duration = Duration::from_secs(1);

/// The longest wait for what a pod says of a password.
const LONGEST_CHECK: Duration = Duration::from_secs(10);

/// What became of an operator's move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Done,
    /// jellypin has no API key, so no session can move.
    NoKey,
    /// The session lives there already.
    IsThere,
    /// The pod takes no new clients.
    NotReady,
    /// It is in a SyncPlay group, which lives on its pod.
    InGroup,
    /// Other replicas would bring it back to the home that they know.
    OtherReplicas,
    /// It ended, or left its pod meanwhile.
    Gone,
    /// The pod refused it, or did not answer.
    Failed,
}

/// A pod's answer to a name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Administrator {
    /// An administrator, with the id and the name that the pod has.
    Yes { id: String, name: String },
    /// The password is right, and the user is no administrator.
    No,
    /// The pod refuses name or password.
    Refused,
    /// No pod answers.
    Unknown,
}

impl PodLifecycle {
    /// What each living pod of a pool lists of its sessions, by pod. Empty without an API key.
    pub async fn listed_sessions(&self, pool: &Pool) -> Vec<(Arc<Pod>, Vec<ListedSession>)> {
        let Some(key) = self.shared.api_key() else { return Vec::new() };
        let caller = Caller::proxy(pool);
        let living: Vec<_> = pool.pods().iter().filter(|pod| pod.status().is_alive()).cloned().collect();
        let lists = join_all(living.into_iter().map(async |pod| {
            let call = sessions::listed(key.as_str());
            let list = time::timeout(LONGEST, self.pods.call(&pod, &caller, call)).await;
            Some((pod, list.ok()?.ok()?))
        }));
        lists.await.into_iter().flatten().collect()
    }

    /// The names of a pool's users, by id. Empty without an API key.
    pub async fn user_names(&self, pool: &Pool) -> HashMap<String, String> {
        let pods = pool.pods().to_vec();
        let (Some(key), Some(pod)) = (self.shared.api_key(), pods.iter().find(|pod| pod.status().is_alive())) else {
            return HashMap::new();
        };
        let caller = Caller::proxy(pool);
        let names = time::timeout(LONGEST, self.pods.call(pod, &caller, users::names(key.as_str()))).await;
        let names = names.ok().and_then(Result::ok).unwrap_or_default();
        names.into_iter().map(|(name, id)| (crate::sessions::plain_id(&id), name)).collect()
    }

    /// Whether an operator's move of this session to this pod can be tried.
    pub fn can_move(&self, session: &Session, to: &Pod) -> Result<(), Moved> {
        let Some(home) = session.home() else { return Err(Moved::Gone) };
        if self.shared.api_key().is_none() {
            return Err(Moved::NoKey);
        }
        if home == PodInstance::of(to) {
            return Err(Moved::IsThere);
        }
        if to.status().state != State::Ready {
            return Err(Moved::NotReady);
        }
        if session.group.is_at(home) {
            return Err(Moved::InGroup);
        }
        let lives_together = self.shared.user_homes.lives_together(&session.pool, &session.user);
        if lives_together && self.shared.sessions.replicas.has_others() {
            return Err(Moved::OtherReplicas);
        }
        Ok(())
    }

    /// Moves a session to a pod at once, even while it plays. Its user lives there from now on, so
    /// the user's other sessions follow while they are idle.
    pub async fn move_session(&self, pool: &Pool, session: &Arc<Session>, to: &Arc<Pod>) -> Moved {
        if let Err(refused) = self.can_move(session, to) {
            return refused;
        }
        let Some(from) = session.home() else { return Moved::Gone };
        let caller = Caller::new(pool, session.calls.client_headers());
        let kind = MigrationKind::MoveForOperator(from, Instant::now());
        // The home moves first: otherwise the session would be brought back at once.
        user_homes::set(&self.shared, session, PodInstance::of(to));
        let migrated =
            self.migrator.migrate(session, to, MigrationRequest { caller, priority: Priority::Waiting, kind }).await;
        let lives_there = session.home().is_some_and(|home| home.pod == to.id);
        if migrated == MigrationOutcome::Done && lives_there {
            return Moved::Done;
        }
        user_homes::set(&self.shared, session, from);
        if session.is_ended() { Moved::Gone } else { Moved::Failed }
    }

    /// Asks a ready pod whether this is an administrator's name and password. The session that the
    /// question makes there ends at once. `from` is the address by which the pod judges.
    pub async fn administrator(&self, pool: &Pool, name: &str, password: &str, from: IpAddr) -> Administrator {
        let pods = pool.pods().to_vec();
        let Some(pod) = pods.iter().find(|pod| pod.status().state == State::Ready) else {
            return Administrator::Unknown;
        };
        let mut headers = HeaderMap::new();
        if let Ok(from) = HeaderValue::from_str(&from.to_string()) {
            headers.insert("x-forwarded-for", from);
        }
        let caller = Caller::new(pool, headers);
        let call = users::check_password(name, password);
        let checked = time::timeout(LONGEST_CHECK, self.pods.call(pod, &caller, call)).await;
        match checked {
            Ok(Ok(PasswordCheck::Right { id, name, is_administrator, token })) => {
                // The answer to the operator does not depend on it.
                let ended = time::timeout(LONGEST_CHECK, self.pods.call(pod, &caller, sessions::log_out(&token))).await;
                if !matches!(ended, Ok(Ok(answer)) if answer.status.is_success()) {
                    tracing::warn!(pod.name = &*pod.name, "the session of a sign-in's check was not ended on its pod");
                }
                if is_administrator { Administrator::Yes { id, name } } else { Administrator::No }
            }
            Ok(Ok(PasswordCheck::Refused)) => Administrator::Refused,
            Ok(Err(_)) | Err(_) => Administrator::Unknown,
        }
    }
}

impl Moved {
    /// The sentence for the operator.
    pub fn sentence(self) -> &'static str {
        match self {
            Moved::Done => "moved",
            Moved::NoKey => "no session can move without [jellyfin] api_key",
            Moved::IsThere => "the session lives on that pod already",
            Moved::NotReady => "only a ready pod takes sessions",
            Moved::InGroup => {
                "the session is in a SyncPlay group, which lives on its pod; drain the pod to move the group"
            }
            Moved::OtherReplicas => "other replicas would bring the user back; drain the pod at each replica instead",
            Moved::Gone => "the session is not there any more",
            Moved::Failed => "the pod did not take the session, which stays where it was",
        }
    }
}
