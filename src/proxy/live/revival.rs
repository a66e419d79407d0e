//! A job is begun anew where its viewer lives now.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::{LONGEST, LONGEST_PAUSE, outline, playlist_of, streams::Stream};
use crate::{
    affinity::pins::Kind,
    carryover::Token,
    identity::{authorization, endpoint, playlist::Name},
    pod::{Place, Pod},
    proxy::{
        Proxy,
        again::Again,
        call::{Call, on_behalf_of},
        face,
        offer::Offered,
    },
};

/// The longest pause before a pod is asked once more to open a live stream that it has not opened.
const OPEN_AGAIN: Duration = Duration::from_secs(2);

/// A job that is begun anew.
pub(super) struct Revival {
    pub(super) proxy: Arc<Proxy>,
    pub(super) stream: Arc<Stream>,
    pub(super) from: Place,
}

impl Revival {
    pub(super) async fn run(self, tell: watch::Sender<Option<bool>>) {
        let began = Instant::now();
        let revived = self.revive().await;
        tell.send_replace(Some(revived.is_ok()));
        let pods = self.pods();
        let name = |place: Place| pods.iter().find(|pod| pod.id == place.pod).map(|pod| pod.name.clone());
        let (from, duration_ms) = (name(self.from).unwrap_or_default(), began.elapsed().as_millis() as u64);
        match revived {
            Ok(to) => {
                let to = name(to).unwrap_or_default();
                tracing::info!(from = &*from, to = &*to, duration_ms, "live stream goes on");
            }
            Err(why) => tracing::warn!(from = &*from, why, duration_ms, "live stream does not go on"),
        }
    }

    async fn revive(&self) -> Result<Place, &'static str> {
        let end = Instant::now() + self.proxy.site.forward.hold;
        let again = Again::by(&self.proxy, self.stream.question.clone()).at_home();
        let (mut was_opened, mut pause) = (false, LONGEST_PAUSE);
        loop {
            match time::timeout_at(end, again.ask()).await {
                Err(_) => return Err("no pod answered in time"),
                Ok(Err(refusal)) if !refusal.is_transient() => return Err(refusal.name()),
                Ok(Err(_)) => {}
                Ok(Ok(asked)) => {
                    let status = asked.offered.answer.status();
                    if status == StatusCode::OK {
                        if let Some((text, place)) = playlist_of(asked.offered).await {
                            self.begun(&text, place);
                            return Ok(place);
                        }
                    } else if status == StatusCode::NOT_FOUND && !was_opened {
                        was_opened = self.open(asked.offered).await?;
                        if was_opened {
                            continue;
                        }
                        // Each try may keep a tuner busy.
                        pause = (pause * 2).min(OPEN_AGAIN);
                    } else if status == StatusCode::NOT_FOUND {
                        pause = LONGEST_PAUSE;
                    } else if status.is_client_error() {
                        return Err("the pod refuses the client");
                    }
                }
            }
            if self.proxy.shutdown.is_stopping() || Instant::now() + pause >= end {
                return Err("it did not begin in time");
            }
            time::sleep(pause).await;
        }
    }

    fn begun(&self, text: &Bytes, place: Place) {
        let outline = outline(text);
        let name = outline.as_ref().and_then(|outline| outline.name);
        self.proxy.site.streams.settle(&self.stream, place, name);
        if let Some(outline) = outline {
            self.stream.note_made(place, &outline);
        }
        if let Some(digits) = name.map(Name::digits) {
            self.proxy.site.pins.learn(Kind::Playlist, &digits, place);
        }
    }

    /// Opens the live stream on a pod that has it not open. Says whether the pod has done it.
    async fn open(&self, mut offered: Offered) -> Result<bool, &'static str> {
        let _ = face::gather(offered.answer.body_mut(), LONGEST).await;
        let Some((target, client, token, base_path)) = self.opening(&offered) else {
            return Err("the pod does not know the item");
        };
        let authorization = Some(authorization::token_only(token.as_str()));
        let body = Bytes::from_static(b"{}");
        let call = Call { method: Method::POST, target: &target, client: &client, authorization, body };
        match self.proxy.call(&offered.decision.pod, &base_path, call).await {
            Ok(reply) if reply.status.is_success() => return Ok(true),
            Ok(reply) => tracing::debug!(status = reply.status.as_u16(), "a live stream was not opened"),
            // A tuner may take longer than the call: the next request for the playlist tells.
            Err(failure) => tracing::debug!(cause = failure.cause.name(), "a live stream was not opened"),
        }
        Ok(false)
    }

    fn opening(&self, offered: &Offered) -> Option<(String, HeaderMap, Token, Arc<str>)> {
        let question = &self.stream.question;
        let pool = &self.proxy.site.pools[question.pool()];
        question.as_asked(&self.proxy, |asking| {
            let target = endpoint::opening_of(asking.path, asking.head.uri.query().unwrap_or_default())?;
            let own = asking.keys.identity.token.as_deref()?;
            let token = offered.token.clone().unwrap_or_else(|| Token::new(own));
            Some((target, on_behalf_of(asking), token, pool.pool.base_path.clone()))
        })
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        self.proxy.site.pools[self.stream.question.pool()].pool.pods().to_vec()
    }
}
