//! Jellyfin's `SessionManager`: one session for each pair of client and device, in this process only.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::devices::Client;
use crate::generation::Generation;
use crate::identifiers::{random_guid, session_id};
use crate::pod::Settings;

/// All sessions, in the order they came to be.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    index: Vec<Session>,
    next_socket: u64,
    /// Counts changes, so that a socket that listens to the list knows when to send it again.
    changes: watch::Sender<u64>,
}

/// The empty id.
pub(crate) const NOBODY: &str = "00000000000000000000000000000000";

/// The first moment of .NET.
const NEVER: &str = "0001-01-01T00:00:00.0000000Z";

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) user_id: String,
    pub(crate) user_name: String,
    pub(crate) client_headers: Client,
    pub(crate) remote: String,
    pub(crate) capabilities: Option<Value>,
    pub(crate) last_activity: String,
    /// When its client was heard of last.
    pub(crate) heard: Instant,
    last_check_in: Option<String>,
    /// Users who watch with the session's own, by id and name.
    pub(crate) additional: Vec<(String, String)>,
    /// What its client shows.
    pub(crate) viewing: Option<Value>,
    pub(crate) playing: Option<Playing>,
    pub(crate) sockets: Vec<Socket>,
}

/// What a session plays.
#[derive(Clone, Debug)]
pub(crate) struct Playing {
    pub(crate) item_id: String,
    /// `NowPlayingItem`, as the item was when the player reported.
    pub(crate) item: Option<Value>,
    pub(crate) report: Value,
    pub(crate) position: i64,
    pub(crate) at: Instant,
    pub(crate) paused: bool,
}

/// The pod's end of an open WebSocket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) number: u64,
    outbox: mpsc::UnboundedSender<Outgoing>,
    last_activity: Instant,
    /// Silent for too long: the pod no longer reads it, and its next message breaks it off.
    lost: bool,
}

/// What a socket's task is told to send.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    Message {
        kind: &'static str,
        data: Option<Value>,
    },
    /// `ServerShuttingDown`, then close 1000 "System Shutdown".
    ShutDown,
    /// The session has ended: close 1000.
    Close,
}

impl Playing {
    /// The position now, in ticks of 100 ns; it runs on between two reports, by whole seconds, while nothing is paused.
    pub(crate) fn position_now(&self) -> i64 {
        let seconds = if self.paused { 0 } else { self.at.elapsed().as_secs() };
        self.position.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(10_000_000))
    }
}

impl Sessions {
    /// `LogSessionActivity`: the session of this client, made if there is none; the last user to come has it.
    pub(crate) fn touch(
        &mut self,
        user: (&str, &str),
        client: &Client,
        remote: &str,
        known: Option<Value>,
    ) -> &mut Session {
        let id = session_id(&client.client, &client.device_id);
        let at = match self.index.iter().position(|session| session.id == id) {
            Some(at) => at,
            None => {
                self.note_change();
                self.index.push(Session {
                    id,
                    user_id: String::new(),
                    user_name: String::new(),
                    client_headers: client.clone(),
                    remote: String::new(),
                    capabilities: known,
                    last_activity: String::new(),
                    heard: Instant::now(),
                    last_check_in: None,
                    additional: Vec::new(),
                    viewing: None,
                    playing: None,
                    sockets: Vec::new(),
                });
                self.index.len() - 1
            }
        };
        let session = &mut self.index[at];
        user.0.clone_into(&mut session.user_id);
        user.1.clone_into(&mut session.user_name);
        session.client_headers = client.clone();
        remote.clone_into(&mut session.remote);
        if user.0.is_empty() {
            session.additional.clear();
        }
        session.last_activity = clock::now();
        session.heard = Instant::now();
        session
    }

    /// By an id as it is written, in small letters.
    pub(crate) fn get(&self, id: &str) -> Option<&Session> {
        self.index.iter().find(|session| session.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Session> {
        self.index.iter_mut().find(|session| session.id == id)
    }

    /// All sessions, the last active first.
    pub(crate) fn all(&self) -> Vec<&Session> {
        let mut sessions: Vec<&Session> = self.index.iter().collect();
        sessions.sort_by(|one, other| other.last_activity.cmp(&one.last_activity));
        sessions
    }

    /// The sessions that the message `Sessions` shows (`SessionInfoWebSocketListener`): a user's own or, for `None`, all.
    pub(crate) fn told_to(&self, user_id: Option<&str>) -> Vec<&Session> {
        let mut sessions = self.all();
        sessions.retain(|session| user_id.is_none_or(|user_id| session.is_of(user_id)));
        sessions
    }

    pub(crate) fn open_sockets(&self) -> usize {
        self.index.iter().flat_map(|session| &session.sockets).filter(|socket| !socket.lost).count()
    }

    /// Lets the sockets that listen to the list know that it changed.
    pub(crate) fn note_change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn any_playing(&self) -> bool {
        self.index.iter().any(|session| session.playing.is_some())
    }

    /// Forgets sessions without a socket of which nothing was heard for so long; gives their ids.
    pub(crate) fn expire(&mut self, idle: Duration) -> Vec<String> {
        let (gone, left) = self
            .index
            .drain(..)
            .partition::<Vec<_>, _>(|session| session.sockets.is_empty() && session.heard.elapsed() >= idle);
        self.index = left;
        if !gone.is_empty() {
            self.note_change();
        }
        gone.into_iter().map(|session| session.id).collect()
    }

    /// Adds a socket to a session; gives its number and what its task has to send.
    pub(crate) fn attach(&mut self, session: &str) -> Option<(u64, mpsc::UnboundedReceiver<Outgoing>)> {
        self.next_socket += 1;
        self.note_change();
        let number = self.next_socket;
        let (outbox, inbox) = mpsc::unbounded_channel();
        let socket = Socket { number, outbox, last_activity: Instant::now(), lost: false };
        self.get_mut(session)?.sockets.push(socket);
        Some((number, inbox))
    }

    /// Notes that a socket has sent something.
    pub(crate) fn socket_active(&mut self, number: u64) {
        let mut sockets = self.index.iter_mut().flat_map(|session| &mut session.sockets);
        if let Some(socket) = sockets.find(|socket| socket.number == number) {
            socket.last_activity = Instant::now();
        }
    }

    /// Notes that a socket was silent for too long.
    pub(crate) fn socket_lost(&mut self, number: u64) {
        self.note_change();
        let mut sockets = self.index.iter_mut().flat_map(|session| &mut session.sockets);
        if let Some(socket) = sockets.find(|socket| socket.number == number) {
            socket.lost = true;
        }
    }

    /// Takes a lost socket away; its session stays.
    pub(crate) fn forget_lost(&mut self, number: u64) {
        for session in &mut self.index {
            session.sockets.retain(|socket| socket.number != number);
        }
    }

    /// Takes a closed socket away; if it was its session's last, the session ends and its id is given.
    pub(crate) fn detach(&mut self, number: u64) -> Option<String> {
        let at = self.index.iter().position(|session| session.sockets.iter().any(|socket| socket.number == number))?;
        self.note_change();
        self.index[at].sockets.retain(|socket| socket.number != number);
        self.index[at].sockets.is_empty().then(|| self.index.remove(at).id)
    }

    /// Ends the sessions of a device; their sockets are closed. Gives their ids.
    pub(crate) fn end_device(&mut self, device_id: &str) -> Vec<String> {
        let (ended, left) =
            self.index.drain(..).partition::<Vec<_>, _>(|session| session.client_headers.device_id == device_id);
        self.index = left;
        self.note_change();
        for socket in ended.iter().flat_map(|session| &session.sockets) {
            socket.send(Outgoing::Close);
        }
        ended.into_iter().map(|session| session.id).collect()
    }

    /// Tells every socket that the server ends.
    pub(crate) fn shut_down(&self) {
        for socket in self.index.iter().flat_map(|session| &session.sockets) {
            socket.send(Outgoing::ShutDown);
        }
    }

    /// Sends to each session of one user (`SendMessageToUserSessions`).
    pub(crate) fn send_to_user(&self, user_id: &str, kind: &'static str, data: &Value) {
        for session in self.index.iter().filter(|session| session.is_of(user_id)) {
            session.send(kind, data.clone());
        }
    }
}

impl Session {
    /// Sends to the most recently active socket; without one the message is lost, as on the real server.
    pub(crate) fn send(&self, kind: &'static str, data: Value) {
        if let Some(socket) = self.sockets.iter().max_by_key(|socket| (socket.last_activity, socket.number)) {
            socket.send(Outgoing::Message { kind, data: Some(data) });
        }
    }

    /// Those whose data a report of this session changes: nobody's, if it is an API key's.
    pub(crate) fn users(&self) -> Vec<String> {
        if self.user_id.is_empty() {
            return Vec::new();
        }
        let additional = self.additional.iter().map(|(id, _)| id.clone());
        std::iter::once(self.user_id.clone()).chain(additional).collect()
    }

    /// `ContainsUser`.
    pub(crate) fn is_of(&self, user_id: &str) -> bool {
        self.user_id == user_id || self.additional.iter().any(|(id, _)| id == user_id)
    }

    /// Its player has reported.
    pub(crate) fn check_in(&mut self) {
        self.last_check_in = Some(clock::now());
        self.last_activity = clock::now();
    }

    /// `SupportsRemoteControl`.
    pub(crate) fn can_be_controlled(&self) -> bool {
        self.capability("SupportsMediaControl").is_some_and(|value| value == true) && self.is_connected()
    }

    /// Whether the device says that its id is its own for good.
    pub(crate) fn has_persistent_id(&self) -> bool {
        self.capability("SupportsPersistentIdentifier").is_none_or(|value| value != false)
    }

    fn is_connected(&self) -> bool {
        self.sockets.iter().any(|socket| !socket.lost)
    }

    fn capability(&self, name: &str) -> Option<&Value> {
        self.capabilities.as_ref().and_then(|capabilities| capabilities.get(name))
    }

    /// `SessionInfoDto`.
    pub(crate) fn dto(&self, settings: &Settings) -> Value {
        let capabilities = self.capabilities.clone().unwrap_or_else(no_capabilities);
        let playable = self.capability("PlayableMediaTypes").cloned().unwrap_or_else(|| json!([]));
        let commands = self.capability("SupportedCommands").cloned().unwrap_or_else(|| json!([]));
        let control = self.can_be_controlled();
        let additional = self.additional.iter().map(|(id, name)| json!({"UserId": id, "UserName": name}));
        let mut dto = json!({
            "PlayState": self.play_state(),
            "AdditionalUsers": additional.collect::<Vec<_>>(),
            "Capabilities": capabilities,
            "PlayableMediaTypes": playable,
            "Id": self.id,
            "UserId": self.user_id,
            "UserName": self.user_name,
            "Client": self.client_headers.client,
            "LastActivityDate": self.last_activity,
            "LastPlaybackCheckIn": self.last_check_in.as_deref().unwrap_or(NEVER),
            "DeviceName": self.client_headers.device,
            "DeviceId": self.client_headers.device_id,
            "ApplicationVersion": self.client_headers.version,
            "IsActive": self.sockets.is_empty() || self.is_connected(),
            "SupportsMediaControl": control,
            "SupportsRemoteControl": control,
            "NowPlayingQueue": [],
            "HasCustomDeviceName": false,
            "ServerId": settings.server_id,
            "SupportedCommands": commands,
        });
        if !self.remote.is_empty() {
            dto["RemoteEndPoint"] = json!(self.remote);
        }
        if settings.generation == Generation::V10_11 {
            dto["NowPlayingQueueFullItems"] = json!([]);
        }
        if let Some(item) = self.playing.as_ref().and_then(|playing| playing.item.as_ref()) {
            dto["NowPlayingItem"] = item.clone();
        }
        if let Some(item) = &self.viewing {
            dto["NowViewingItem"] = item.clone();
        }
        // What is null is left out, and an API key's session has no user's name.
        if self.user_name.is_empty()
            && let Some(dto) = dto.as_object_mut()
        {
            dto.remove("UserName");
            dto["UserId"] = json!(NOBODY);
        }
        dto
    }

    fn play_state(&self) -> Value {
        let mut state = json!({
            "CanSeek": false,
            "IsPaused": false,
            "IsMuted": false,
            "RepeatMode": "RepeatNone",
            "PlaybackOrder": "Default",
        });
        if let Some(playing) = &self.playing {
            state["PositionTicks"] = json!(playing.position_now());
            state["IsPaused"] = json!(playing.paused);
            state["MediaSourceId"] = json!(playing.item_id);
            state["PlayMethod"] = json!("DirectPlay");
            for key in PLAY_STATE {
                if let Some(value) = playing.report.get(key) {
                    state[key] = value.clone();
                }
            }
        }
        state
    }
}

impl Socket {
    fn send(&self, what: Outgoing) {
        // A socket whose task has ended is about to be detached.
        let _ = self.outbox.send(what);
    }
}

/// What a report says of the play state, as it is.
const PLAY_STATE: [&str; 10] = [
    "CanSeek",
    "IsMuted",
    "PlayMethod",
    "MediaSourceId",
    "VolumeLevel",
    "AudioStreamIndex",
    "SubtitleStreamIndex",
    "RepeatMode",
    "PlaybackOrder",
    "LiveStreamId",
];

pub(crate) fn no_capabilities() -> Value {
    json!({
        "PlayableMediaTypes": [],
        "SupportedCommands": [],
        "SupportsMediaControl": false,
        "SupportsPersistentIdentifier": true,
    })
}

/// A WebSocket message as text.
pub(crate) fn message(kind: &str, data: Option<&Value>) -> String {
    let mut message = json!({"MessageId": random_guid(), "MessageType": kind});
    if let Some(data) = data {
        message["Data"] = data.clone();
    }
    crate::answer::dotnet_json(&message)
}
