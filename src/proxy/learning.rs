//! 7. What an answer teaches of its client's home: at once by its head, and by its body while that streams by.

use std::sync::Arc;

use http::{StatusCode, response};

use super::{
    Asking, Proxy,
    decide::{Decision, Reason},
};
use crate::{
    affinity::pins::{Home, Kind},
    identity::{
        endpoint::Endpoint,
        lesson::{Lesson, Listener},
        verdict::Verdict,
    },
};

/// Listens to one answer's body.
pub(super) struct Learning {
    listener: Listener,
    home: Home,
    proxy: Arc<Proxy>,
}

impl Proxy {
    /// A log-in teaches where its device lives; an accepted token confirms its home, and that of what came with it.
    pub(super) fn learn(&self, asking: &Asking<'_>, decision: &Decision, verdict: Verdict, status: StatusCode) {
        let identity = &asking.keys.identity;
        let is_log_in = asking.endpoint == Endpoint::LogIn && status.is_success();
        if asking.endpoint == Endpoint::LogOut {
            return;
        }
        if verdict == Verdict::Accepted
            && let Some(token) = &identity.token
        {
            self.site.pins.learn(Kind::Token, token, decision.home());
        } else if !is_log_in {
            return;
        }
        // Where the token's own pin decided, its device is known.
        let device = identity.device.as_ref().filter(|_| decision.reason != Reason::Token);
        let keys = [
            (Kind::Device, device),
            (Kind::PlaySession, identity.play_session.as_ref()),
            (Kind::LiveStream, identity.live_stream.as_ref()),
        ];
        for (kind, key) in keys {
            if let Some(key) = key {
                self.site.pins.learn(kind, key, decision.home());
            }
        }
    }

    /// Whoever has to listen to the answer's body.
    pub(super) fn listen(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        decision: &Decision,
        answer: &response::Parts,
    ) -> Option<Box<Learning>> {
        let listener = Listener::of(asking.endpoint, &asking.head.method, asking.path, answer)?;
        Some(Box::new(Learning { listener, home: decision.home(), proxy: self.clone() }))
    }
}

impl Learning {
    /// Hears a piece before the client gets it, so that the client's next request finds what it taught.
    pub(super) fn hear(&mut self, piece: &[u8]) {
        let lesson = self.listener.hear(piece);
        self.learn(&lesson);
    }

    pub(super) fn end(mut self) {
        let lesson = self.listener.end();
        self.learn(&lesson);
    }

    fn learn(&self, lesson: &Lesson) {
        let learn = |kind, key: &str| {
            self.proxy.site.pins.learn(kind, key, self.home);
        };
        lesson.token.iter().for_each(|token| learn(Kind::Token, token));
        lesson.device.iter().for_each(|device| learn(Kind::Device, device));
        lesson.play_session.iter().for_each(|session| learn(Kind::PlaySession, session));
        lesson.live_streams.iter().for_each(|stream| learn(Kind::LiveStream, stream));
        lesson.playlist.iter().for_each(|playlist| learn(Kind::Playlist, playlist));
    }
}
