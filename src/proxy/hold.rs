//! Which requests wait while no pod can answer them, and the room that there is for them.
//!
//! A single pod that restarts is away for some ten seconds: nobody listens, then its set-up server says 503 with a page, then
//! nobody listens, then the server itself says 503 with a page until its core is complete. None of that has carried a request
//! out, so that whoever waits can be served as if nothing had been.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use tokio::{sync::SemaphorePermit, time::Instant};

use super::{
    Asking,
    offer::Offered,
    reply::Refusal,
    site::{KIB, Site},
};
use crate::{
    forward::outbound::Source,
    identity::endpoint::{self, Endpoint},
    pod::State,
};

/// How long a pod that is thought to be ready may say that it is starting. Its checks find out sooner; whoever says so for longer
/// means something else.
const UNNOTICED: Duration = Duration::from_secs(3);

/// One request's room among those that are held. Gives itself back when dropped, and so when the client leaves.
pub(super) struct Place<'a> {
    _one: SemaphorePermit<'a>,
    _kib: SemaphorePermit<'a>,
}

impl Site {
    /// Room for a request and for what may be kept of its body, or none.
    pub(super) fn place(&self, source: &Source) -> Option<Place<'_>> {
        let kib = u32::try_from(source.may_keep().div_ceil(KIB)).ok()?;
        Some(Place { _one: self.held.try_acquire().ok()?, _kib: self.held_kib.try_acquire_many(kib).ok()? })
    }
}

impl Offered {
    /// A starting pod's page: the request was not carried out.
    ///
    /// A pod without its database is not starting, and its answers are its own.
    pub(super) fn is_start_up_page(&self) -> bool {
        is_start_up_page(self.answer.status(), self.answer.headers(), self.decision.pod.status().state)
    }
}

fn is_start_up_page(status: StatusCode, headers: &HeaderMap, state: State) -> bool {
    let is_page = || {
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        kind.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"text/html"))
    };
    status == StatusCode::SERVICE_UNAVAILABLE
        && (state == State::Starting || headers.contains_key(header::RETRY_AFTER) || is_page())
}

impl Asking<'_> {
    /// Whether a start-up page is waited out. `began`: when the request was offered first.
    pub(super) fn waits_out(&self, offered: &Offered, began: Instant) -> bool {
        let is_alive = offered.decision.pod.status().is_alive();
        self.can_wait() && (!is_alive || began.elapsed() < UNNOTICED)
    }

    /// Whether a request that got no answer is held. `breaks`: how often it was held after it may have reached a pod.
    pub(super) fn waits_after(&self, refusal: Refusal, breaks: u32) -> bool {
        if !refusal.may_pass() || !self.can_wait() {
            return false;
        }
        // Once more, for the pod that was killed. A request that kills its pod must not do so again and again.
        let may_break = self.endpoint.is_worth_much() || (refusal == Refusal::Broken && breaks <= 1);
        matches!(refusal, Refusal::NoPod | Refusal::Undecided) || (self.can_repeat() && may_break)
    }

    /// Whoever asks for these wants to know how it is now.
    fn can_wait(&self) -> bool {
        !endpoint::is_probe(self.path)
    }
}

/// What is said in the end to a client whose request was held in vain, or for which there was no room.
pub(super) fn in_vain(offered: Result<Offered, Refusal>, endpoint: Endpoint) -> Result<Offered, Refusal> {
    match offered {
        Ok(offered) if offered.is_start_up_page() => {
            Err(if endpoint.is_media() { Refusal::Media } else { Refusal::NoPod })
        }
        offered => offered,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn page(kind: &'static str, retry_after: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("005"));
        }
        headers
    }

    #[test]
    fn a_starting_pod_is_told_from_one_that_is_ill() {
        let (busy, ready, down) = (StatusCode::SERVICE_UNAVAILABLE, State::Ready, State::Down);
        assert!(is_start_up_page(busy, &page("text/html", true), ready), "the set-up server");
        assert!(is_start_up_page(busy, &page("Text/HTML; charset=utf-8", false), down), "the core is not complete");
        assert!(is_start_up_page(busy, &page("text/plain", false), State::Starting));
        assert!(!is_start_up_page(busy, &page("text/plain", false), down), "Unhealthy: no database");
        assert!(!is_start_up_page(busy, &HeaderMap::new(), ready));
        assert!(!is_start_up_page(StatusCode::BAD_GATEWAY, &page("text/html", true), ready));
    }
}
