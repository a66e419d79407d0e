//! What operators do: drain a pod and take that back, and move a session.
//!
//! Each act is in the log, with who did it.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::{Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::{
    AdminState,
    answer::{Answer, text},
    guard::Operator,
};
use crate::{
    pod::{Pod, Pool},
    proxy::{Moved, PoolState, Undrained, drain_policy::When},
    sessions::Session,
};

/// Carries out what operators ask for.
pub(super) struct Acts {
    pub(super) state: Arc<AdminState>,
}

impl Acts {
    /// `POST /pods/{pool}/{pod}/drain[?when=now|idle]`, `/undrain`, `POST /roll[?pool={pool}]`, and
    /// `POST /sessions/{pool}/{user}/{device}/move?to={pod}`.
    pub(super) async fn act<B>(&self, request: &Request<B>, who: &Operator, from: IpAddr) -> Answer {
        let segments: Vec<_> = request.uri().path().split('/').skip(1).map(decoded).collect();
        let segments: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
        let query = request.uri().query();
        match segments[..] {
            ["pods", pool, pod, action @ ("drain" | "undrain")] => {
                let Some((pool, pod)) = self.pod(pool, pod) else {
                    return text(StatusCode::NOT_FOUND, format!("No pod {pool}/{pod}; /pods shows all.\n"));
                };
                if action == "drain" {
                    self.drain(&pool, &pod, query, who, from)
                } else {
                    self.undrain(&pod, who, from)
                }
            }
            ["sessions", pool, user, device, "move"] => {
                let to = query.and_then(|query| query.strip_prefix("to=")).map(decoded).unwrap_or_default();
                let Some((pool, to)) = self.pod(pool, &to) else {
                    return text(StatusCode::NOT_FOUND, format!("No pod {pool}/{to}; /pods shows all.\n"));
                };
                let Some(session) = self.state.shared().sessions.known.of_device(&pool.name, user, device) else {
                    return text(StatusCode::NOT_FOUND, "No such session; /sessions shows all.\n");
                };
                self.move_session(&pool, &session, &to, who, from).await
            }
            ["roll"] => self.roll(query, who, from).await,
            _ => text(
                StatusCode::NOT_FOUND,
                "There are /pods/{pool}/{pod}/drain and /undrain, /sessions/{pool}/{user}/{device}/move?to={pod}, and /roll.\n",
            ),
        }
    }

    fn pod(&self, pool: &str, pod: &str) -> Option<(Arc<Pool>, Arc<Pod>)> {
        let state = self.state.shared();
        let shared = state.pools.iter().find(|shared| *shared.pool.name == *pool)?;
        let pods = shared.pool.pods();
        Some((shared.pool.clone(), pods.iter().find(|other| *other.name == *pod)?.clone()))
    }

    fn drain(&self, pool: &Arc<Pool>, pod: &Arc<Pod>, query: Option<&str>, who: &Operator, from: IpAddr) -> Answer {
        let when = match query {
            None | Some("when=now") => When::Now,
            Some("when=idle") => When::Idle,
            Some(_) => return text(StatusCode::BAD_REQUEST, "`when` is `now` or `idle`.\n"),
        };
        let Some(lifecycle) = self.state.lifecycle() else { return stopping() };
        let (name, of) = (&*pod.name, &*pod.pool);
        if !lifecycle.drain(pool, pod, when) {
            let state = pod.status().state.as_str();
            return text(StatusCode::CONFLICT, format!("{name} is {state}; only a pod that serves can be drained\n"));
        }
        tracing::info!(pod.name = name, pod.pool = of, when = ?when, by = %who, client.address = %from, "an operator drains a pod");
        text(StatusCode::ACCEPTED, format!("{name} is draining\n"))
    }

    fn undrain(&self, pod: &Arc<Pod>, who: &Operator, from: IpAddr) -> Answer {
        let Some(lifecycle) = self.state.lifecycle() else { return stopping() };
        let (name, of, state) = (&*pod.name, &*pod.pool, pod.status().state.as_str());
        match lifecycle.undrain(pod) {
            Undrained::Ready => {
                tracing::info!(pod.name = name, pod.pool = of, by = %who, client.address = %from, "an operator takes a drain back");
                let now = if state == "draining" { "is ready" } else { "will not drain when it is back" };
                text(StatusCode::ACCEPTED, format!("{name} {now}\n"))
            }
            Undrained::DrainsNot => text(StatusCode::OK, format!("{name} is {state} and does not drain\n")),
            Undrained::Leaves => text(
                StatusCode::CONFLICT,
                format!(
                    "{name} is named no more by DNS or the configuration; it serves everybody when it is named again\n"
                ),
            ),
        }
    }

    /// Without a name the only pool is meant.
    async fn roll(&self, query: Option<&str>, who: &Operator, from: IpAddr) -> Answer {
        let name = query.and_then(|query| query.strip_prefix("pool=")).map(decoded);
        let state = self.state.shared();
        let pools = &state.pools;
        let named = |of: &&PoolState| name.as_deref().map_or(pools.len() == 1, |name| *of.pool.name == *name);
        let Some(of) = pools.iter().find(named) else {
            return text(StatusCode::NOT_FOUND, "No such pool; `pool=` names one, /pods shows all.\n");
        };
        let Some(lifecycle) = self.state.lifecycle() else { return stopping() };
        let pool = &*of.pool.name;
        match lifecycle.roller.start_roll(&of.pool).await {
            Ok(count) => {
                tracing::info!(pod.pool = pool, by = %who, client.address = %from, "an operator restarts all pods");
                let words = format!("{count} pods are restarted one after the other; GET /roll shows how far\n");
                text(StatusCode::ACCEPTED, words)
            }
            Err(refused) => text(StatusCode::CONFLICT, format!("not restarted: {}\n", refused.sentence())),
        }
    }

    async fn move_session(
        &self,
        pool: &Pool,
        session: &Arc<Session>,
        to: &Arc<Pod>,
        who: &Operator,
        from: IpAddr,
    ) -> Answer {
        let Some(lifecycle) = self.state.lifecycle() else { return stopping() };
        let moved = lifecycle.move_session(pool, session, to).await;
        tracing::info!(
            user.id = session.user,
            device.id = session.device.id,
            to = &*to.name,
            outcome = moved.sentence(),
            by = %who,
            client.address = %from,
            "an operator moves a session"
        );
        let status = match moved {
            Moved::Done => return text(StatusCode::OK, format!("moved to {}\n", to.name)),
            Moved::Failed => StatusCode::BAD_GATEWAY,
            _ => StatusCode::CONFLICT,
        };
        text(status, format!("not moved: {}\n", moved.sentence()))
    }
}

fn decoded(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

fn stopping() -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
}
