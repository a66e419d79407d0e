//! The live playlists that clients play: the request that began each, the pod that runs its job,
//! and what the client has seen. All workers share them; their number is bounded.

mod openings;
mod room;

use std::{
    borrow::Cow,
    hash::Hasher,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use crate::{
    jellyfin::{
        Identity,
        playlist::{Name, PlaylistHistory, PlaylistSummary},
    },
    pod::PodInstance,
    proxy::request::saved::SavedRequest,
    sessions::Session,
};
pub(in crate::proxy) use openings::OpeningRole;
use openings::Openings;

pub(in crate::proxy) const KIB: usize = 1024;

/// The most streams known at once.
const MOST: usize = 10_000;

/// Seconds within which a player requests something. A paused one may send nothing; its stream
/// restarts with its next request.
const IN_USE: u32 = 30;

/// The longest playlist whose text is kept, in bytes, and room for all of them, in KiB.
const LONGEST_TEXT: usize = 256 * 1024;
const ROOM_KIB: usize = 64 * 1024;

/// Job names kept per stream. A segment of an older job belongs to no known stream.
const MOST_NAMES: usize = 16;

/// The streams, by the request for their playlist and by the names of their segments. Shared by all
/// workers.
pub struct Streams {
    by_request: DashMap<u128, Arc<Stream>, ahash::RandomState>,
    /// Every name that a stream has had.
    by_name: DashMap<Name, Arc<Stream>, ahash::RandomState>,
    /// Live streams that are being opened.
    pub(in crate::proxy) openings: Openings,
    /// The requests of each client's streams.
    by_client: DashMap<u128, Vec<u128>, ahash::RandomState>,
    secret: (u64, u64),
    room: Arc<Semaphore>,
    began: Instant,
    swept: AtomicU32,
}

/// One playlist that a client plays.
pub(crate) struct Stream {
    pub(in crate::proxy) saved_request: SavedRequest,
    /// The session that plays it, once that is known.
    viewer: OnceLock<Arc<Session>>,
    play_session: Option<String>,
    /// The live stream's id, if this is a channel.
    live_stream: Option<String>,
    /// The last use, in seconds since the store began.
    used: AtomicU32,
    /// Locked for a read or a change, never across an await.
    state: Mutex<State>,
}

struct State {
    place: PodInstance,
    /// The names of its jobs; the last is the present job's.
    names: Vec<Name>,
    /// Segments of the present job that the client has seen.
    seen: u64,
    /// Segments that the present job is known to have made at its place.
    made: u64,
    /// The present job's playlist as the client has seen it, if it is kept.
    text: Option<Kept>,
    /// The job has restarted and has not yet reached the client's position again.
    is_behind: bool,
    past: Option<Arc<PlaylistHistory>>,
    revival: Option<watch::Receiver<Option<bool>>>,
}

struct Kept {
    text: Bytes,
    _room: OwnedSemaphorePermit,
}

/// What a client gets for a pod's playlist.
pub(in crate::proxy) enum PlaylistView {
    /// The pod's own text.
    Unchanged,
    Replaced(Bytes),
    /// Nothing yet: the text would be shorter than what the client has seen, which is not kept.
    NotYet,
    /// Nothing: the stream left this job while the playlist was under way.
    Abandoned,
}

/// Whether a caller restarts the job, or waits for the one that does.
pub(in crate::proxy) enum RestartRole {
    Lead(watch::Sender<Option<bool>>, watch::Receiver<Option<bool>>),
    Follow(watch::Receiver<Option<bool>>),
    /// Another caller has done it.
    Done,
}

impl Streams {
    /// `secret` keys the hashes of requests.
    pub fn new(secret: (u64, u64)) -> Streams {
        Streams {
            by_request: DashMap::default(),
            by_name: DashMap::default(),
            openings: Openings::default(),
            by_client: DashMap::default(),
            secret,
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            began: Instant::now(),
            swept: AtomicU32::new(0),
        }
    }

    pub(in crate::proxy) fn of_name(&self, name: Name) -> Option<Arc<Stream>> {
        Some(self.touch(self.by_name.get(&name)?.value()))
    }

    pub(in crate::proxy) fn of_request(&self, request: u128) -> Option<Arc<Stream>> {
        Some(self.touch(self.by_request.get(&request)?.value()))
    }

    fn touch(&self, stream: &Arc<Stream>) -> Arc<Stream> {
        stream.used.store(self.now(), Ordering::Relaxed);
        stream.clone()
    }

    /// The hash of whose playlist a request is for, and which. Only requests of one player for one
    /// playlist share it.
    pub(in crate::proxy) fn key(&self, parts: [&[u8]; 4]) -> u128 {
        let mut hasher = SipHasher24::new_with_keys(self.secret.0, self.secret.1);
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish128().as_u128()
    }

    /// Adds a stream whose first playlist names a job at this place. `identity` is that of the
    /// request for it.
    pub(in crate::proxy) fn insert(
        &self,
        request: u128,
        saved_request: SavedRequest,
        identity: &Identity<'_>,
        place: PodInstance,
        name: Name,
    ) -> Arc<Stream> {
        self.sweep();
        self.make_room(request, (identity, saved_request.origin));
        let state = State {
            place,
            names: vec![name],
            seen: 0,
            made: 0,
            text: None,
            is_behind: false,
            past: None,
            revival: None,
        };
        let owned = |id: &Option<Cow<'_, str>>| id.as_deref().map(str::to_owned);
        let stream = Arc::new(Stream {
            saved_request,
            viewer: OnceLock::new(),
            play_session: owned(&identity.play_session),
            live_stream: owned(&identity.live_stream),
            used: AtomicU32::new(self.now()),
            state: Mutex::new(state),
        });
        self.by_request.insert(request, stream.clone());
        self.by_name.insert(name, stream.clone());
        stream
    }

    /// The channels that a client plays from this place.
    pub(in crate::proxy) fn channels(&self, viewer: &Arc<Session>, place: PodInstance) -> Vec<Arc<Stream>> {
        let since = self.now().saturating_sub(IN_USE);
        let is_meant = |stream: &Stream| {
            stream.is_of(viewer) && stream.live_stream.is_some() && stream.used.load(Ordering::Relaxed) >= since
        };
        let streams = self.by_request.iter().filter(|entry| is_meant(entry) && entry.place() == place);
        streams.map(|entry| entry.value().clone()).collect()
    }

    /// Forgets what a client has ended: one play session, or else one live stream, or else all that
    /// it plays.
    pub(in crate::proxy) fn forget(
        &self,
        viewer: &Arc<Session>,
        play_session: Option<&str>,
        live_stream: Option<&str>,
    ) {
        let is_same = |id: &Option<String>, meant: &str| id.as_deref().is_some_and(|id| id.eq_ignore_ascii_case(meant));
        let is_meant = |stream: &Stream| match (play_session, live_stream) {
            (Some(meant), _) => is_same(&stream.play_session, meant),
            (None, Some(meant)) => is_same(&stream.live_stream, meant),
            (None, None) => true,
        };
        let goes_on = |stream: &Stream| !stream.is_of(viewer) || !is_meant(stream);
        self.by_request.retain(|_, stream| goes_on(stream));
        self.by_name.retain(|_, stream| goes_on(stream));
    }

    /// Records that the stream's job runs at this place, under this name.
    pub(in crate::proxy) fn record_job(&self, stream: &Arc<Stream>, place: PodInstance, name: Option<Name>) {
        if let Some(new) = stream.record_job(place, name) {
            self.by_name.insert(new, stream.clone());
        }
    }

    /// Returns what the client gets for this playlist of a pod. Remembers that the client has seen
    /// it.
    pub(in crate::proxy) fn show(
        &self,
        stream: &Arc<Stream>,
        place: PodInstance,
        text: &Bytes,
        outline: &PlaylistSummary,
    ) -> PlaylistView {
        if stream.has_left(place, outline.name) {
            return PlaylistView::Abandoned;
        }
        self.record_job(stream, place, outline.name);
        stream.record_written(place, outline);
        let kib = text.len().div_ceil(KIB) as u32;
        let mut state = stream.state.lock();
        let is_behind = state.is_behind && outline.segments < state.seen;
        if is_behind && state.text.is_none() {
            return PlaylistView::NotYet;
        }
        if !is_behind {
            state.is_behind = false;
            state.seen = outline.segments;
            // The old text must give its room back first.
            state.text = None;
            if text.len() <= LONGEST_TEXT
                && let Ok(room) = self.room.clone().try_acquire_many_owned(kib)
            {
                state.text = Some(Kept { text: text.clone(), _room: room });
            }
        }
        let present = if is_behind { state.text.as_ref().map(|kept| kept.text.clone()) } else { None };
        let past = state.past.clone();
        drop(state);
        match (past, present) {
            (None, None) => PlaylistView::Unchanged,
            (None, Some(present)) => PlaylistView::Replaced(present),
            (Some(past), present) => {
                let present = present.as_ref().unwrap_or(text);
                // The text was valid UTF-8 when its outline was read.
                PlaylistView::Replaced(past.followed_by(&String::from_utf8_lossy(present)).into())
            }
        }
    }

    fn now(&self) -> u32 {
        self.began.elapsed().as_secs().try_into().unwrap_or(u32::MAX)
    }
}

impl Stream {
    pub(in crate::proxy) fn place(&self) -> PodInstance {
        self.state.lock().place
    }

    /// Records the session that plays the stream.
    pub(in crate::proxy) fn set_viewer(&self, viewer: &Arc<Session>) {
        self.viewer.get_or_init(|| viewer.clone());
    }

    fn is_of(&self, viewer: &Arc<Session>) -> bool {
        self.viewer.get().is_some_and(|own| Arc::ptr_eq(own, viewer))
    }

    /// Where its viewer lives, if that is known.
    pub(in crate::proxy) fn home(&self) -> Option<PodInstance> {
        self.viewer.get()?.home()
    }

    /// Whether this place and name belong to a job that the stream has left.
    fn has_left(&self, place: PodInstance, name: Option<Name>) -> bool {
        let state = self.state.lock();
        state.place != place
            && name.is_some_and(|name| state.names.contains(&name) && state.names.last() != Some(&name))
    }

    /// Whether this is the present job's name, and not an earlier one's.
    pub(in crate::proxy) fn is_named(&self, name: Name) -> bool {
        self.state.lock().names.last() == Some(&name)
    }

    /// Whether the restarted job still has to make segments that the client has seen.
    pub(in crate::proxy) fn is_behind(&self) -> bool {
        self.state.lock().is_behind
    }

    /// Whether jellypin knows that the whole segment exists.
    pub(in crate::proxy) fn has_written(&self, number: u64) -> bool {
        number < self.state.lock().made
    }

    /// Records how many segments a playlist of this place lists.
    pub(in crate::proxy) fn record_written(&self, place: PodInstance, outline: &PlaylistSummary) {
        let mut state = self.state.lock();
        if state.place == place && outline.name.is_none_or(|name| state.names.last() == Some(&name)) {
            state.made = outline.segments;
        }
    }

    /// Joins the one attempt to restart the job of a place that is gone. The first caller leads,
    /// the others follow.
    pub(in crate::proxy) fn join_restart(&self, gone: PodInstance) -> RestartRole {
        let mut state = self.state.lock();
        if state.place != gone {
            return RestartRole::Done;
        }
        // A sender that is gone without a result has ended with its worker.
        let is_under_way =
            |outcome: &watch::Receiver<Option<bool>>| outcome.borrow().is_none() && outcome.has_changed().is_ok();
        if let Some(outcome) = state.revival.as_ref().filter(|outcome| is_under_way(outcome)) {
            return RestartRole::Follow(outcome.clone());
        }
        let (tell, outcome) = watch::channel(None);
        state.revival = Some(outcome.clone());
        RestartRole::Lead(tell, outcome)
    }

    /// Returns the name if it is new.
    fn record_job(&self, place: PodInstance, name: Option<Name>) -> Option<Name> {
        let mut state = self.state.lock();
        let is_moved = state.place != place;
        let new = name.filter(|name| state.names.last() != Some(name));
        state.place = place;
        if is_moved || new.is_some() {
            state.made = 0;
        }
        if let Some(new) = new {
            // The stream also follows a home that begins another job by itself.
            let text = state.text.take();
            let text = text.as_ref().and_then(|kept| std::str::from_utf8(&kept.text).ok());
            let past = state.past.as_deref().cloned().unwrap_or_default().and(text, state.seen);
            state.past = Some(Arc::new(past)).filter(|past| past.segments() > 0);
            state.seen = 0;
            state.is_behind = false;
            state.names.retain(|name| *name != new);
            if state.names.len() >= MOST_NAMES {
                state.names.remove(0);
            }
            state.names.push(new);
        } else if is_moved {
            state.is_behind = state.seen > 0;
        }
        new
    }
}
