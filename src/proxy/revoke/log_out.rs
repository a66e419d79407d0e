//! The proxy itself carries out a log-out by a known token, whether or not a pod answers.
//!
//! Clients erase their token whatever the answer is, and never retry (jellyfin-apiclient:
//! `.then(done, done)`). A log-out lost with its pod would leave a working token for anyone with a
//! copy. So the proxy ends the session, then calls the pods; no client waits for an absent pod.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{Response, StatusCode, header};
use tokio::{join, time};

use super::{
    Revoker,
    broadcast::{RevocationCall, RevocationOutcome},
};
use crate::{
    affinity::pins::Kind,
    jellyfin::{
        client::users,
        endpoint::{Endpoint, Revocation},
        session_list::Viewer,
    },
    pod::{Pod, PodInstance, Pool},
    proxy::{
        pod_client::Caller,
        request::{
            context::{ClientSession, RequestContext},
            record::RequestRecord,
        },
        response::{
            answer::{answer, strip},
            body::Body,
        },
    },
    sessions::{Owner, Session, Token},
};

/// How long a log-out waits to hear whether its token is an API key.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

impl Revoker {
    /// Whether this is a log-out by a session's token, or by one that a pod of the pool has
    /// accepted. The pods handle any other token, since they know more about it.
    pub(in crate::proxy) fn is_log_out(&self, ctx: &RequestContext<'_>) -> bool {
        let is_of_pool = |home: PodInstance| ctx.pool.pool.pods().iter().any(|pod| pod.id == home.pod);
        ctx.endpoint == Endpoint::LogOut
            && Revocation::of(&ctx.head.method, ctx.path, "") == Some(Revocation::Token)
            && match ctx.client_session {
                ClientSession::Known(_) => ctx.keys.identity.token.is_some(),
                ClientSession::Unknown | ClientSession::Unresolved => {
                    self.selector.pinned_home(ctx).is_some_and(is_of_pool)
                }
                ClientSession::Ended => false,
            }
    }

    /// Whether the token of a log-out is an API key, which no log-out ends (`SessionManager.Logout`
    /// looks for devices only). Nobody's session is known by a key, so only its home can tell.
    pub(in crate::proxy) async fn is_by_key(&self, ctx: &RequestContext<'_>) -> bool {
        let pod = self.selector.select(ctx, &[]).map(|decision| decision.pod).filter(|pod| pod.status().is_alive());
        match (pod, &ctx.keys.identity.token) {
            (Some(pod), Some(token)) if ctx.session().is_none() => self.is_api_key(ctx, &pod, token).await,
            _ => false,
        }
    }

    /// Whether a pod says that this token is an API key.
    pub(super) async fn is_api_key(&self, ctx: &RequestContext<'_>, pod: &Arc<Pod>, token: &str) -> bool {
        let caller = Caller::of(ctx);
        let asked = self.pods.call(pod, &caller, users::viewer(token));
        matches!(time::timeout(LONGEST_LOOK, asked).await, Ok(Ok(Viewer::Key)))
    }

    /// Ends the token's session, here and on the pods. This goes on when the client leaves.
    pub(in crate::proxy) async fn log_out(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        mut record: Box<RequestRecord>,
    ) -> Response<Body> {
        let home = self.selector.select(ctx, &[]).filter(|decision| decision.pod.status().is_alive());
        if let Some(home) = &home {
            record.begin_attempt(home);
        }
        let own = Token::new(ctx.keys.identity.token.as_deref().unwrap_or_default());
        let mut caller = Caller::of(ctx);
        // A page of another origin can read the answer only if the pod's head allows it.
        if let Some(origin) = ctx.head.headers.get(header::ORIGIN) {
            caller.headers_mut().insert(header::ORIGIN, origin.clone());
        }
        let leaving =
            self.clone().end_session(ctx.session().cloned(), (own, ctx.origin), ctx.pool.pool.clone(), caller);
        // A worker's runtime cancels its tasks when it ends.
        let outcomes = tokio::spawn(self.shutdown.track(leaving)).await.unwrap_or_default();
        let (mut head, ()) = Response::new(()).into_parts();
        for outcome in outcomes {
            match outcome.answer {
                Ok(Some(reply)) if home.as_ref().is_some_and(|home| home.pod.id == outcome.pod.id) => {
                    record.record_answer(reply.status.as_u16());
                    head.headers = reply.headers;
                    strip(&mut head.headers);
                }
                _ => record.record_fan_out(&outcome.pod, outcome.as_str()),
            }
        }
        head.status = StatusCode::NO_CONTENT;
        record.set_status(head.status.as_u16());
        answer(record, head, Body::empty())
    }

    async fn end_session(
        self: Arc<Self>,
        session: Option<Arc<Session>>,
        (own, from): (Token, IpAddr),
        pool: Arc<Pool>,
        caller: Caller,
    ) -> Vec<RevocationOutcome> {
        // Another replica may know tokens that were minted since.
        if let Some(session) = &session {
            self.shared.sessions.comparer.refresh(session).await;
        }
        let log_outs = self.end_tokens(session.as_ref(), &own, from, &pool);
        let outcomes = self.broadcast.call_all_pods(&pool, caller, log_outs.clone(), log_outs, None);
        let (outcomes, _) = join!(outcomes, self.shared.sessions.keeper.flush());
        outcomes
    }

    /// Ends the token that came from this address, and all others of its session. Returns the calls
    /// for the pods.
    pub(super) fn end_tokens(
        &self,
        session: Option<&Arc<Session>>,
        own: &Token,
        from: IpAddr,
        pool: &Pool,
    ) -> Vec<RevocationCall> {
        let tokens = match session {
            Some(session) => {
                self.shared.sessions.ends.end_session(session);
                session.tokens.all().into_iter().map(|minted| minted.token).collect()
            }
            None => vec![own.clone()],
        };
        self.shared.sessions.ends.end_token(&pool.name, Owner::Address(from), own.as_str());
        for token in &tokens {
            // Keep this order: a request that finds no pin must find the refusals.
            self.shared.negative_cache.insert_all(token.as_str(), &pool.pods());
            self.shared.pins.forget(Kind::Token, token.as_str());
        }
        tokens.iter().map(RevocationCall::log_out).collect()
    }
}
