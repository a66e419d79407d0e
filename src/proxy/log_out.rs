//! A log-out by a token that is known is carried out by the proxy itself, whatever pods can be asked.
//!
//! Clients erase their token whatever the answer is, and never ask again (jellyfin-apiclient: `.then(done, done)`): a log-out that
//! is lost with its pod would leave a token that works for whoever has a copy. So the session ends first, then the pods hear of
//! it, and nobody waits for a pod that is away.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode, header};
use tokio::join;

use super::{
    Asking, Body, ClientSession, Proxy,
    call::on_behalf_of,
    exchange::Exchange,
    revoke::{self, Order, Told},
};
use crate::{
    affinity::pins::Kind,
    carryover::{Session, Token},
    identity::endpoint::{Endpoint, Ends},
    pod::{Place, Pool},
};

impl Proxy {
    /// Whether this is a log-out by the token of a session, or by one that a pod of the pool has accepted. Of any other the pods
    /// know more.
    pub(super) fn is_log_out(&self, asking: &Asking<'_>) -> bool {
        let is_of_pool = |home: Place| asking.pool.pool.pods().iter().any(|pod| pod.id == home.pod);
        asking.endpoint == Endpoint::LogOut
            && Ends::of(&asking.head.method, asking.path, "") == Some(Ends::Token)
            && match asking.client_session {
                ClientSession::Known(_) => asking.keys.identity.token.is_some(),
                ClientSession::Unknown | ClientSession::Untold => self.home(asking).is_some_and(is_of_pool),
                ClientSession::Ended => false,
            }
    }

    /// Ends the session of this token, and tells the pods. It goes on when the client leaves.
    pub(super) async fn log_out(self: &Arc<Self>, asking: &Asking<'_>, mut exchange: Box<Exchange>) -> Response<Body> {
        let home = self.decide(asking, &[]).filter(|decision| decision.pod.status().is_alive());
        if let Some(home) = &home {
            exchange.decided(home);
        }
        let own = Token::new(asking.keys.identity.token.as_deref().unwrap_or_default());
        let mut client = on_behalf_of(asking);
        // A page of another origin reads the answer only if the pod's head says that it may.
        if let Some(origin) = asking.head.headers.get(header::ORIGIN) {
            client.insert(header::ORIGIN, origin.clone());
        }
        let leaving = self.clone().leave(asking.session().cloned(), own, asking.pool.pool.clone(), client);
        // A worker that ends takes its tasks along.
        let told = tokio::spawn(self.shutdown.track(leaving)).await.unwrap_or_default();
        let (mut head, ()) = Response::new(()).into_parts();
        for told in told {
            match told.answer {
                Ok(Some(reply)) if home.as_ref().is_some_and(|home| home.pod.id == told.pod.id) => {
                    exchange.answered(reply.status.as_u16());
                    head.headers = reply.headers;
                    revoke::strip(&mut head.headers);
                }
                _ => exchange.told(&told),
            }
        }
        head.status = StatusCode::NO_CONTENT;
        exchange.set_status(head.status.as_u16());
        exchange.answer_with(head, Body::empty())
    }

    async fn leave(
        self: Arc<Self>,
        session: Option<Arc<Session>>,
        own: Token,
        pool: Arc<Pool>,
        client: HeaderMap,
    ) -> Vec<Told> {
        // Another replica may know of tokens that were minted since.
        if let Some(session) = &session {
            self.site.sessions.refresh(session).await;
        }
        let log_outs = self.end_tokens(session.as_ref(), &own, &pool, &client);
        let told = self.tell_all(&pool, log_outs.clone(), log_outs, None);
        let (told, _) = join!(told, self.site.sessions.is_safe());
        told
    }

    /// Ends a token with every other one of its session, and gives what pods are to be told.
    pub(super) fn end_tokens(
        &self,
        session: Option<&Arc<Session>>,
        own: &Token,
        pool: &Pool,
        client: &HeaderMap,
    ) -> Vec<Order> {
        let tokens = match session {
            Some(session) => {
                self.site.sessions.end(session);
                session.tokens().into_iter().map(|minted| minted.token).collect()
            }
            None => vec![own.clone()],
        };
        self.site.sessions.end_token(&pool.name, own.as_str());
        for token in &tokens {
            // In this order: who finds no pin finds the refusals.
            self.site.refusals.remember_all(token.as_str(), &pool.pods());
            self.site.pins.forget(Kind::Token, token.as_str());
        }
        tokens.iter().map(|token| Order::log_out(token, client)).collect()
    }
}
