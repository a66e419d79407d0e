//! Upgrades: pinned like requests; the tunnel opens only after the pod's own 101.

use std::sync::Arc;

use http::{Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use tokio::time;

use super::{
    Aborted, Asking, Body, Proxy, bind,
    exchange::{Exchange, Outcome},
    reply::Refusal,
};
use crate::{
    affinity::{cookie::Cookies, pace::Kind},
    facade::Facade,
    forward::{head, outbound::Source},
    pod::Pod,
    websocket::{self, Passing, handshake},
};

impl Proxy {
    /// Asks pods for the socket; an answer other than 101 goes to the client as it is.
    pub(super) async fn open_socket(
        self: &Arc<Self>,
        asking: Asking<'_>,
        opening: OnUpgrade,
        cookies: &Cookies,
        mut exchange: Box<Exchange>,
    ) -> Result<Response<Body>, Aborted> {
        let offered = match self.offer(&asking, &Source::empty(), &mut exchange).await {
            Ok(offered) => offered,
            Err(refusal) => {
                self.answer_late(&asking).await;
                return exchange.refuse(if refusal == Refusal::DeadToken { Refusal::DeadSocketToken } else { refusal });
            }
        };
        let (answer, decision) = (offered.answer, offered.decision);
        let face = Face { facade: asking.pool.facade.clone(), pod: answer.body().pod().clone() };
        if answer.status() == StatusCode::FORBIDDEN {
            self.answer_late(&asking).await;
        }
        self.learn(&asking, &decision, offered.verdict, answer.status());
        let (mut head, body) = answer.into_parts();
        let opened = handshake::is_opened(&head, asking.head.headers.get(header::SEC_WEBSOCKET_KEY));
        head::to_client(&mut head.headers);
        bind(&mut head.headers, cookies, &asking, &decision);
        if !opened {
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return exchange.refuse(Refusal::Broken);
            }
            return Ok(exchange.answer(head, body, None));
        }
        handshake::to_client(&mut head.headers);
        head.version = Version::HTTP_11;
        let pod_side = hyper::upgrade::on(Response::from_parts(bare(&mut head), ()));
        exchange.became_socket();
        tokio::spawn(self.shutdown.track(self.clone().relay(opening, pod_side, face, exchange)));
        Ok(Response::from_parts(head, Body::empty()))
    }

    /// Real clients dial again at once, thousands of times a second: a refusal comes late, and one after the other.
    async fn answer_late(&self, asking: &Asking<'_>) {
        let slot = match asking.keys.identity.token.as_deref() {
            Some(token) => self.site.pace.slot(Kind::Token, token),
            None => self.site.pace.slot(Kind::Address, &asking.origin.to_string()),
        };
        time::sleep_until(slot).await;
    }

    async fn relay(self: Arc<Self>, client: OnUpgrade, pod: OnUpgrade, face: Face, mut exchange: Box<Exchange>) {
        let (Ok(client), Ok(pod)) = (client.await, pod.await) else { return };
        let relayed = websocket::relay(client, pod, &face, &self.site.websocket, &self.shutdown).await;
        self.metrics.socket_messages.inc_by(relayed.from_client.messages + relayed.from_pod.messages);
        exchange.socket_in = relayed.from_client.bytes;
        exchange.bytes_out = relayed.from_pod.bytes;
        exchange.ended(Outcome::Socket(relayed.end.name()));
    }
}

/// Shows the one server in a pod's messages.
struct Face {
    facade: Arc<Facade>,
    pod: Arc<Pod>,
}

impl Passing for Face {
    fn to_client(&self, text: &str) -> Option<String> {
        self.facade.message_to_client(&self.pod, text)
    }

    fn to_pod(&self, text: &str) -> Option<String> {
        self.facade.message_to_pod(&self.pod, text)
    }
}

/// The head that `hyper::upgrade::on` needs, which takes its hook out of the extensions.
fn bare(head: &mut http::response::Parts) -> http::response::Parts {
    let (mut bare, ()) = Response::new(()).into_parts();
    std::mem::swap(&mut bare.extensions, &mut head.extensions);
    bare
}
