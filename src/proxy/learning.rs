//! 7. What an answer teaches of its client's home: at once by its head, and by its body while that streams by.

use std::{pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, Method, StatusCode, response};
use tokio::time;

use super::{
    Asking, Proxy,
    call::{Call, Standing, on_behalf_of},
    carry::Moves,
    decide::{self, Decision, Reason},
    introduce::{as_said, told},
};
use crate::{
    affinity::pins::Kind,
    carryover::{
        Device, Session, Token,
        session::{LONGEST_NOTE, Note},
    },
    forward::outbound::Source,
    identity::{
        authorization,
        endpoint::{Endpoint, Noteworthy},
        lesson::{Lesson, Listener},
        verdict::Verdict,
    },
    pod::{Place, Pod},
};

/// Listens to one answer's body.
pub(super) struct Learning {
    listener: Listener,
    pod: Arc<Pod>,
    heard: Lesson,
    /// Whose request it answers, if that is known.
    viewer: Option<Arc<Session>>,
    /// Of a log-in: the BaseUrl, and on whose behalf the pod is asked whose token it has made.
    log_in: Option<(Arc<str>, HeaderMap)>,
    proxy: Arc<Proxy>,
}

/// A question that the client's answer waits for.
pub(super) type Confirmation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The longest time that a log-in waits for the pod's word. A pod's first answers after its start take a second.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);

impl Proxy {
    /// A log-in teaches where its device lives; an accepted token confirms its home, and that of what came with it.
    pub(super) fn learn(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        decision: &Decision,
        verdict: Verdict,
        token: Option<&Token>,
        status: StatusCode,
    ) {
        let identity = &asking.keys.identity;
        let is_log_in = asking.endpoint == Endpoint::LogIn && status.is_success();
        if asking.endpoint == Endpoint::LogOut {
            return;
        }
        if decision.reason != Reason::Playlist
            && status.is_success()
            && let Some(playlist) = identity.playlist.filter(|_| asking.is_live_segment())
        {
            // No other pod has segments of this job.
            self.site.pins.learn(Kind::Playlist, playlist, decision.home());
        }
        if verdict == Verdict::Accepted
            && let Some(own) = &identity.token
        {
            match asking.session() {
                Some(session) => self.learn_home(asking, session, &decision.pod, token.map_or(own, Token::as_str)),
                None => {
                    if self.site.pins.learn(Kind::Token, own, decision.home()) {
                        self.retell(asking, own, &decision.pod);
                    }
                    self.introduce(asking, &decision.pod);
                }
            }
        } else if !is_log_in {
            return;
        }
        // Where the token's own pin decided, its device is known.
        let device = identity.device.as_ref().filter(|_| decision.reason != Reason::Token);
        for (kind, key) in [(Kind::Device, device), (Kind::PlaySession, identity.play_session.as_ref())] {
            if let Some(key) = key {
                self.site.pins.learn(kind, key, decision.home());
            }
        }
        if let Some(stream) = &identity.live_stream {
            self.learn_stream(asking.session(), stream, decision.home());
        }
    }

    /// A live stream is open there: for its viewer, and for whoever asks for it without saying who he is.
    fn learn_stream(&self, viewer: Option<&Arc<Session>>, id: &str, home: Place) {
        self.site.pins.learn(Kind::LiveStream, id, home);
        if let Some(viewer) = viewer {
            self.site.pins.learn(Kind::LiveStream, &decide::stream_key(viewer, id), home);
        }
    }

    /// The session was accepted there. It lives there now, unless only its media runs there and its home lives.
    fn learn_home(&self, asking: &Asking<'_>, session: &Session, pod: &Pod, token: &str) {
        if session.is_faceless() {
            session.note_client(on_behalf_of(asking));
        }
        if asking.lives_elsewhere(session, pod) {
            session.accept(Place::of(pod), token);
        } else if session.settle(Place::of(pod), token, || self.arrival(session, pod, Moves::Always)) {
            self.site.sessions.keep(session);
        }
    }

    /// Tells the new home of a client without a known session what it can do. What the pod does not take is lost.
    fn retell(self: &Arc<Self>, asking: &Asking<'_>, token: &str, pod: &Arc<Pod>) {
        let Some(note) = self.site.sessions.capabilities_for(token, pod) else { return };
        let (proxy, pod, client) = (self.clone(), pod.clone(), on_behalf_of(asking));
        let base_path = asking.pool.pool.base_path.clone();
        let authorization = Some(as_said(note.teller).header(Some(token)));
        tokio::spawn(async move {
            let call =
                Call { method: Method::POST, target: &note.target, client: &client, authorization, body: note.body };
            if let Err(failure) = proxy.call(&pod, &base_path, call).await {
                tracing::debug!(pod.name = &*pod.name, cause = failure.cause.name(), "capabilities were not taken");
            }
        });
    }

    /// What the pod was told of the client, and another pod would not know.
    pub(super) fn note(self: &Arc<Self>, asking: &Asking<'_>, source: &Source, pod: &Pod, status: StatusCode) {
        if !status.is_success() {
            return;
        }
        let Some(noteworthy) = Noteworthy::of(&asking.head.method, asking.path) else { return };
        let session = asking.session();
        let said = told(authorization::Device::said(&asking.head.headers, asking.pool.legacy()));
        let teller = match session {
            Some(session) => said.filled_up(&session.device),
            None => said,
        };
        let note = |target: &str| {
            let body = source.kept().filter(|body| body.len() <= LONGEST_NOTE)?;
            Some(Note { teller: teller.clone(), target: target.to_owned(), body })
        };
        let capabilities = || {
            let query = asking.head.uri.query().map_or(String::new(), |query| format!("?{query}"));
            note(&format!("{}{query}", asking.path))
        };
        let Some(session) = session else {
            if noteworthy == Noteworthy::Capabilities
                && let (Some(token), Some(note)) = (&asking.keys.identity.token, capabilities())
            {
                self.site.sessions.note_capabilities(token, pod, note);
            }
            return;
        };
        match noteworthy {
            Noteworthy::Capabilities => {
                if let Some(note) = capabilities()
                    && session.note_capabilities(note)
                {
                    self.site.sessions.keep(session);
                }
            }
            Noteworthy::Playing => session.note_playing(&teller, note("/Sessions/Playing/Progress")),
            Noteworthy::Stopped => session.note_playing(&teller, None),
        }
        if noteworthy != Noteworthy::Capabilities {
            self.tell_job(asking, session, source, pod, noteworthy);
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
        let (pod, viewer) = (decision.pod.clone(), asking.session().cloned());
        let log_in =
            (asking.endpoint == Endpoint::LogIn).then(|| (asking.pool.pool.base_path.clone(), on_behalf_of(asking)));
        Some(Box::new(Learning { listener, pod, heard: Lesson::default(), viewer, log_in, proxy: self.clone() }))
    }
}

impl Learning {
    /// Hears a piece before the client gets it, so that the client's next request finds what it taught. The client's piece waits
    /// for what is given back.
    pub(super) fn hear(&mut self, piece: &[u8]) -> Option<Confirmation> {
        let lesson = self.listener.hear(piece);
        self.learn(lesson)
    }

    pub(super) fn end(mut self) {
        let lesson = self.listener.end();
        if let Some(confirmation) = self.learn(lesson) {
            tokio::spawn(confirmation);
        }
    }

    fn learn(&mut self, lesson: Lesson) -> Option<Confirmation> {
        if lesson == Lesson::default() {
            return None;
        }
        let home = Place::of(&self.pod);
        let learn = |kind, key: &str| {
            self.proxy.site.pins.learn(kind, key, home);
        };
        lesson.play_session.iter().for_each(|session| learn(Kind::PlaySession, session));
        lesson.live_streams.iter().for_each(|stream| self.proxy.learn_stream(self.viewer.as_ref(), stream, home));
        lesson.playlist.iter().for_each(|playlist| learn(Kind::Playlist, playlist));
        lesson.quick_connect.iter().for_each(|text| learn(Kind::QuickConnect, text));
        let brings_token = lesson.token.is_some();
        self.heard.absorb(lesson);
        // A log-in is whole when its token comes: that stands behind the user and the device.
        if !brings_token {
            return None;
        }
        let (base_path, client) = self.log_in.take()?;
        let confirmed = confirm(self.proxy.clone(), self.pod.clone(), base_path, client, self.heard.clone());
        Some(Box::pin(async {
            if time::timeout(CONFIRMED_WITHIN, confirmed).await.is_err() {
                tracing::debug!("a pod did not say in time whose token a log-in has made");
            }
        }))
    }
}

/// Keeps the token of a log-in when the pod that gave it says whose it is: a plug-in may answer whatever it likes.
async fn confirm(proxy: Arc<Proxy>, pod: Arc<Pod>, base_path: Arc<str>, client: HeaderMap, log_in: Lesson) {
    let Some(token) = log_in.token else { return };
    let Ok(Standing::Known { user: Some(user), .. }) = proxy.ask_who(&pod, &base_path, &token, &client).await else {
        tracing::warn!(pod.name = &*pod.name, "a log-in's token is not known to the pod that gave it; it is not kept");
        return;
    };
    let home = Place::of(&pod);
    proxy.site.pins.learn(Kind::Token, &token, home);
    if let Some(device) = &log_in.device {
        proxy.site.pins.learn(Kind::Device, device, home);
    }
    let (Some(client), Some(name), Some(id), Some(version)) =
        (log_in.client, log_in.device_name, log_in.device, log_in.version)
    else {
        return;
    };
    if proxy.carries_over() {
        let gone = proxy.site.sessions.begin(&pod, &user, Device { client, name, id, version }, &token);
        // A user has a share of the pins, too.
        gone.iter().for_each(|token| proxy.site.pins.forget(Kind::Token, token.as_str()));
    }
}
