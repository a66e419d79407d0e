//! Upgrades: pinned like requests; the tunnel opens only after the pod's own 101.

use std::sync::Arc;

use http::{Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;

use super::{
    Aborted, Asking, Body, Proxy, bind,
    exchange::{Exchange, Outcome},
    reply::Refusal,
};
use crate::{
    affinity::cookie::Cookies,
    forward::{answer::AnswerBody, head, outbound::Source, retry},
    websocket::{self, handshake},
};

impl Proxy {
    /// Asks pods for the socket until one answers; an answer other than 101 goes to the client as it is.
    pub(super) async fn open_socket(
        self: &Arc<Self>,
        asking: Asking<'_>,
        opening: OnUpgrade,
        cookies: &Cookies,
        mut exchange: Box<Exchange>,
    ) -> Result<Response<Body>, Aborted> {
        let mut tried = Vec::new();
        let mut last = Refusal::NoPod;
        let (answer, decision) = loop {
            let Some(decision) = self.decide(&asking, &tried) else { return exchange.refuse(last) };
            exchange.decided(&decision);
            let mut request = self.outbound(&asking, &Source::empty());
            handshake::to_pod(request.headers_mut());
            match self.forward.upgrade(&decision.pod, request).await {
                Ok(answer) => break (answer, decision),
                Err(failure) => {
                    self.site.report(&decision.pod, failure, true);
                    last = Refusal::of(failure, asking.endpoint);
                    if retry::next(failure, &asking.head.method, true) == retry::Next::GiveUp {
                        return exchange.refuse(last);
                    }
                    exchange.moved(&decision.pod, failure);
                    tried.push(decision.pod.id);
                }
            }
        };
        exchange.answered(answer.status().as_u16());
        self.learn(&asking, &decision, answer.status());
        let (mut head, body) = answer.into_parts();
        let opened = handshake::is_opened(&head, asking.head.headers.get(header::SEC_WEBSOCKET_KEY));
        head::to_client(&mut head.headers);
        bind(&mut head.headers, cookies, &asking, &decision);
        if !opened {
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return exchange.refuse(Refusal::Broken);
            }
            return Ok(exchange.answer(Response::from_parts(head, AnswerBody::unkept(body, decision.pod))));
        }
        handshake::to_client(&mut head.headers);
        head.version = Version::HTTP_11;
        let pod_side = hyper::upgrade::on(Response::from_parts(bare(&mut head), ()));
        exchange.became_socket();
        tokio::spawn(self.shutdown.track(self.clone().relay(opening, pod_side, exchange)));
        Ok(Response::from_parts(head, Body::empty()))
    }

    async fn relay(self: Arc<Self>, client: OnUpgrade, pod: OnUpgrade, mut exchange: Box<Exchange>) {
        let (Ok(client), Ok(pod)) = (client.await, pod.await) else { return };
        let relayed = websocket::relay(client, pod, &self.site.websocket, &self.shutdown).await;
        self.metrics.socket_messages.inc_by(relayed.from_client.messages + relayed.from_pod.messages);
        exchange.socket_in = relayed.from_client.bytes;
        exchange.bytes_out = relayed.from_pod.bytes;
        exchange.ended(Outcome::Socket(relayed.end.name()));
    }
}

/// The head that `hyper::upgrade::on` needs, which takes its hook out of the extensions.
fn bare(head: &mut http::response::Parts) -> http::response::Parts {
    let (mut bare, ()) = Response::new(()).into_parts();
    std::mem::swap(&mut bare.extensions, &mut head.extensions);
    bare
}
