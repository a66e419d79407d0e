//! A request that was answered already, by which the proxy can ask for it once more.
//!
//! An answer may outlive the pod that gave it: a film in the middle of its bytes, a WebSocket that is open. Then the proxy asks
//! another pod for the same thing, for the same client, by the same rules as the first time: identify, decide, forward, judge.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, Request, request};

use super::{Asking, Proxy, exchange::Exchange, offer::Offered, reply::Refusal};
use crate::forward::{head::Client, outbound::Source};

/// What is kept of a request. It has no body: who wants to ask again for something with a body must not have sent it.
pub(super) struct Again {
    proxy: Arc<Proxy>,
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
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = asking.head.method.clone();
        head.uri = asking.head.uri.clone();
        head.version = asking.head.version;
        head.headers = asking.head.headers.clone();
        Again {
            proxy: proxy.clone(),
            pool: asking.pool_index,
            head,
            client: asking.client.clone(),
            origin: asking.origin,
            is_upgrade: asking.is_upgrade,
        }
    }

    pub(super) fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The fields that the next asking sends: the client's own, until they are changed.
    pub(super) fn headers(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
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
        let mut exchange = Exchange::unwritten(self.proxy.clone(), self.origin);
        let cookies = self.proxy.site.pools[self.pool].cookies.load_full();
        let mut asking =
            self.proxy.identify(self.pool, &cookies, &self.head, &self.client, self.origin, self.is_upgrade);
        self.proxy.recall(&mut asking).await;
        let offered = self.proxy.offer(&asking, &Source::empty(), &mut exchange).await?;
        self.proxy.learn(&asking, &offered.decision, offered.verdict, offered.token.as_ref(), offered.answer.status());
        Ok(Answered { offered, exchange })
    }
}
