//! A log-out by a token that is known is carried out by the proxy itself, whatever pods can be asked.
//!
//! Clients erase their token whatever the answer is, and never ask again (jellyfin-apiclient: `.then(done, done)`): a log-out that
//! is lost with its pod would leave a token that works for whoever has a copy. So the session ends first, then the pods hear of
//! it, and nobody waits for a pod that is away.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode, header};
use tokio::join;

use super::{RevocationCall, RevocationOutcome};
use crate::{
    affinity::pins::Kind,
    jellyfin::endpoint::{Endpoint, Revocation},
    pod::{PodInstance, Pool},
    proxy::{
        Body, ClientSession, Proxy, RequestContext, pod_client::client_headers, request::record::RequestRecord, revoke,
    },
    sessions::{Session, Token},
};

impl Proxy {
    /// Whether this is a log-out by the token of a session, or by one that a pod of the pool has accepted. Of any other the pods
    /// know more.
    pub(in crate::proxy) fn is_log_out(&self, ctx: &RequestContext<'_>) -> bool {
        let is_of_pool = |home: PodInstance| ctx.pool.pool.pods().iter().any(|pod| pod.id == home.pod);
        ctx.endpoint == Endpoint::LogOut
            && Revocation::of(&ctx.head.method, ctx.path, "") == Some(Revocation::Token)
            && match ctx.client_session {
                ClientSession::Known(_) => ctx.keys.identity.token.is_some(),
                ClientSession::Unknown | ClientSession::Unresolved => self.pinned_home(ctx).is_some_and(is_of_pool),
                ClientSession::Ended => false,
            }
    }

    /// Ends the session of this token, and tells the pods. It goes on when the client leaves.
    pub(in crate::proxy) async fn log_out(
        self: &Arc<Self>,
        ctx: &RequestContext<'_>,
        mut record: Box<RequestRecord>,
    ) -> Response<Body> {
        let home = self.select_pod(ctx, &[]).filter(|decision| decision.pod.status().is_alive());
        if let Some(home) = &home {
            record.begin_attempt(home);
        }
        let own = Token::new(ctx.keys.identity.token.as_deref().unwrap_or_default());
        let mut client = client_headers(ctx);
        // A page of another origin reads the answer only if the pod's head says that it may.
        if let Some(origin) = ctx.head.headers.get(header::ORIGIN) {
            client.insert(header::ORIGIN, origin.clone());
        }
        let leaving = self.clone().end_session(ctx.session().cloned(), own, ctx.pool.pool.clone(), client);
        // A worker that ends takes its tasks along.
        let told = tokio::spawn(self.shutdown.track(leaving)).await.unwrap_or_default();
        let (mut head, ()) = Response::new(()).into_parts();
        for told in told {
            match told.answer {
                Ok(Some(reply)) if home.as_ref().is_some_and(|home| home.pod.id == told.pod.id) => {
                    record.record_answer(reply.status.as_u16());
                    head.headers = reply.headers;
                    revoke::strip(&mut head.headers);
                }
                _ => record.record_revocation(&told),
            }
        }
        head.status = StatusCode::NO_CONTENT;
        record.set_status(head.status.as_u16());
        record.into_answer_with(head, Body::empty())
    }

    async fn end_session(
        self: Arc<Self>,
        session: Option<Arc<Session>>,
        own: Token,
        pool: Arc<Pool>,
        client: HeaderMap,
    ) -> Vec<RevocationOutcome> {
        // Another replica may know of tokens that were minted since.
        if let Some(session) = &session {
            self.shared.sessions.refresh(session).await;
        }
        let log_outs = self.end_tokens(session.as_ref(), &own, &pool, &client);
        let told = self.call_all_pods(&pool, log_outs.clone(), log_outs, None);
        let (told, _) = join!(told, self.shared.sessions.flush());
        told
    }

    /// Ends a token with every other one of its session, and gives what pods are to be told.
    pub(in crate::proxy) fn end_tokens(
        &self,
        session: Option<&Arc<Session>>,
        own: &Token,
        pool: &Pool,
        client: &HeaderMap,
    ) -> Vec<RevocationCall> {
        let tokens = match session {
            Some(session) => {
                self.shared.sessions.end_session(session);
                session.tokens().into_iter().map(|minted| minted.token).collect()
            }
            None => vec![own.clone()],
        };
        self.shared.sessions.end_token(&pool.name, own.as_str());
        for token in &tokens {
            // In this order: who finds no pin finds the refusals.
            self.shared.negative_cache.insert_all(token.as_str(), &pool.pods());
            self.shared.pins.forget(Kind::Token, token.as_str());
        }
        tokens.iter().map(|token| RevocationCall::log_out(token, client)).collect()
    }
}
