//! A request that was answered already, by which the proxy can ask for it once more.
//!
//! An answer may outlive the pod that gave it: a film in the middle of its bytes, a WebSocket that is open. Then the proxy asks
//! another pod for the same thing, for the same client, by the same rules as the first time: identify, decide, forward, judge.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, Request, request};

use super::{Asking, Proxy, Target, exchange::Exchange, offer::Offered, reply::Refusal};
use crate::{
    carryover::{Device, Found, Session},
    forward::{head::Client, outbound::Source},
};

/// A request of which a copy is kept, by one worker.
pub(super) struct Again {
    proxy: Arc<Proxy>,
    question: Question,
    target: Target,
}

/// What is kept of a request. It has no body: who wants to ask again for something with a body must not have sent it.
#[derive(Clone)]
pub(super) struct Question {
    pool: usize,
    head: request::Parts,
    client: Client,
    origin: IpAddr,
    is_upgrade: bool,
}

/// A pod's answer to a request that was made again.
pub(super) struct Answered {
    pub(super) offered: Offered,
    /// Counts at the pod for as long as it is kept, which should be as long as the answer lasts. It leaves no access line.
    pub(super) exchange: Box<Exchange>,
}

impl Again {
    /// Keeps a copy of what is needed to ask again.
    pub(super) fn of(proxy: &Arc<Proxy>, asking: &Asking<'_>) -> Again {
        Again::by(proxy, Question::of(asking))
    }

    /// Asks in the place of the worker that was asked first.
    pub(super) fn by(proxy: &Arc<Proxy>, question: Question) -> Again {
        Again { proxy: proxy.clone(), question, target: Target::Home }
    }

    /// Asks the client's home, wherever its media runs.
    pub(super) fn at_home(self) -> Again {
        Again { target: Target::NewHome, ..self }
    }

    pub(super) fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The session of its token, as far as this process knows it.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        let known = self.question.as_asked(&self.proxy, |asking| {
            let token = asking.keys.identity.token.as_deref()?;
            match self.proxy.site.sessions.find(token) {
                Found::Living(session) if session.pool == asking.pool.pool.name => Some(session),
                Found::Living(_) | Found::Dead | Found::Unknown | Found::Untold => None,
            }
        });
        known.filter(|session| !session.is_dead())
    }

    /// What the client has said of itself with it, filled up by the session's log-in.
    pub(super) fn teller(&self, session: &Session) -> Device {
        self.question.as_asked(&self.proxy, |asking| asking.teller(session))
    }

    /// The fields that the next asking sends: the client's own, until they are changed.
    pub(super) fn headers(&mut self) -> &mut HeaderMap {
        self.question.headers()
    }

    /// Offers the request to the pods, as if the client had made it just now, and learns from the answer. What such a request
    /// waits for (`[timeouts] hold`, the first byte) is waited for here too.
    ///
    /// # Errors
    /// What would have been said to the client.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request at the pod.
    pub(super) async fn ask(&self) -> Result<Answered, Refusal> {
        let Question { pool, head, client, origin, is_upgrade } = &self.question;
        let mut exchange = Exchange::unwritten(self.proxy.clone(), *origin);
        let cookies = self.proxy.site.pools[*pool].cookies.load_full();
        let mut asking = self.proxy.identify(*pool, &cookies, head, client, *origin, *is_upgrade);
        asking.target = self.target.clone();
        self.proxy.recall(&mut asking).await;
        let offered = self.proxy.offer(&asking, &Source::empty(), &mut exchange).await?;
        self.proxy.learn(&asking, &offered.decision, offered.verdict, offered.token.as_ref(), offered.answer.status());
        Ok(Answered { offered, exchange })
    }
}

impl Question {
    pub(super) fn of(asking: &Asking<'_>) -> Question {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = asking.head.method.clone();
        head.uri = asking.head.uri.clone();
        head.version = asking.head.version;
        head.headers = asking.head.headers.clone();
        Question {
            pool: asking.pool_index,
            head,
            client: asking.client.clone(),
            origin: asking.origin,
            is_upgrade: asking.is_upgrade,
        }
    }

    /// The fields that it is asked with.
    pub(super) fn headers(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// Looks at it as at a request that has just come.
    pub(super) fn as_asked<T>(&self, proxy: &Proxy, look: impl FnOnce(&Asking<'_>) -> T) -> T {
        let cookies = proxy.site.pools[self.pool].cookies.load_full();
        look(&proxy.identify(self.pool, &cookies, &self.head, &self.client, self.origin, self.is_upgrade))
    }

    /// The pool's number among those of the site.
    pub(super) fn pool(&self) -> usize {
        self.pool
    }
}
