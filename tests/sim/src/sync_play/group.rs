//! One group: its members, what they watch, and what they are told.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::identifiers::{dashed, plain, random_guid};
use crate::sessions::{Playing, Sessions};

/// The empty GUID.
pub(super) const NO_ID: &str = "00000000000000000000000000000000";

/// How far ahead a command lies, so that every member has it in time.
const AHEAD: Duration = Duration::from_millis(500);

/// A group of sessions that watch together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: String,
    name: String,
    state: State,
    /// Session and user name, in the order of joining.
    members: Vec<(String, String)>,
    /// Item and playlist item.
    queue: Vec<(String, String)>,
    index: i64,
    position: i64,
    since: Instant,
    updated: String,
    clock: Clock,
}

/// What a group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Waiting,
    Paused,
    Playing,
}

/// A `SyncPlayGroupUpdate`.
pub(super) fn update(group: &str, kind: &str, data: Value) -> Value {
    json!({"GroupId": group, "Type": kind, "Data": data})
}

impl Group {
    pub(super) fn new(name: String, clock: Clock) -> Group {
        Group {
            id: random_guid(),
            name,
            state: State::Idle,
            members: Vec::new(),
            queue: Vec::new(),
            index: 0,
            position: 0,
            since: Instant::now(),
            updated: clock.now(),
            clock,
        }
    }

    pub(super) fn has(&self, session: &str) -> bool {
        self.members.iter().any(|(member, _)| member == session)
    }

    /// Whether a user may know of it who sees the whole library, or nothing of it.
    pub(super) fn is_open_to(&self, sees_all: bool) -> bool {
        sees_all || self.queue.is_empty()
    }

    /// A new group goes on with what its maker plays (`Group.CreateGroup`).
    pub(super) fn take_over(&mut self, playing: &Playing) {
        let queue = playing.report.get("NowPlayingQueue").and_then(Value::as_array);
        let items: Vec<String> = queue.into_iter().flatten().filter_map(|item| plain(item["Id"].as_str()?)).collect();
        self.index = items.iter().position(|item| *item == playing.item_id).map_or(-1, |at| at as i64);
        self.queue = items.into_iter().map(|item| (item, random_guid())).collect();
        self.position = playing.position_now();
        self.state = State::Waiting;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// `GroupInfoDto`.
    pub(super) fn info(&self) -> Value {
        json!({
            "GroupId": self.id,
            "GroupName": self.name,
            "State": format!("{:?}", self.state),
            "Participants": self.members.iter().map(|(_, user)| user).collect::<Vec<_>>(),
            "LastUpdatedAt": self.updated,
        })
    }

    pub(super) fn add(&mut self, sessions: &Sessions, session: &str, user: String) {
        self.tell_others(sessions, session, &update(&self.id, "UserJoined", json!(user)));
        if !self.has(session) {
            self.members.push((session.to_owned(), user));
        }
        self.updated = self.clock.now();
        tell(sessions, session, "SyncPlayGroupUpdate", update(&self.id, "GroupJoined", self.info()));
        if self.queue.is_empty() {
            tell(sessions, session, "SyncPlayCommand", self.command_data("Stop", Duration::ZERO));
        } else {
            tell(sessions, session, "SyncPlayGroupUpdate", self.play_queue());
            let command = if self.state == State::Playing { "Unpause" } else { "Pause" };
            tell(sessions, session, "SyncPlayCommand", self.command_data(command, AHEAD));
        }
    }

    pub(super) fn remove(&mut self, sessions: &Sessions, session: &str) {
        let Some(at) = self.members.iter().position(|(member, _)| member == session) else {
            return;
        };
        let (_, user) = self.members.remove(at);
        self.updated = self.clock.now();
        tell(sessions, session, "SyncPlayGroupUpdate", update(&self.id, "GroupLeft", json!(dashed(&self.id))));
        self.tell_others(sessions, session, &update(&self.id, "UserLeft", json!(user)));
    }

    pub(super) fn set_queue(&mut self, sessions: &Sessions, items: Vec<String>, index: i64, position: i64) {
        self.queue = items.into_iter().map(|item| (item, random_guid())).collect();
        self.index = index;
        self.position = position;
        self.state = State::Waiting;
        self.updated = self.clock.now();
        let queue = self.play_queue();
        self.tell_others(sessions, "", &queue);
    }

    /// Sends a command and the new state to everybody; without a position it is where the group is now.
    pub(super) fn command(&mut self, sessions: &Sessions, command: &str, state: State, position: Option<i64>) {
        self.position = position.unwrap_or_else(|| self.position_now());
        self.since = Instant::now();
        self.state = state;
        self.updated = self.clock.now();
        let ahead = if command == "Unpause" { AHEAD } else { Duration::ZERO };
        let data = self.command_data(command, ahead);
        let change = update(&self.id, "StateUpdate", json!({"State": format!("{state:?}"), "Reason": command}));
        for (member, _) in &self.members {
            tell(sessions, member, "SyncPlayCommand", data.clone());
            tell(sessions, member, "SyncPlayGroupUpdate", change.clone());
        }
    }

    fn position_now(&self) -> i64 {
        let run = if self.state == State::Playing { self.since.elapsed().as_nanos() / 100 } else { 0 };
        self.position.saturating_add(i64::try_from(run).unwrap_or(i64::MAX))
    }

    fn command_data(&self, command: &str, ahead: Duration) -> Value {
        let playing = usize::try_from(self.index).ok().and_then(|at| self.queue.get(at));
        json!({
            "GroupId": self.id,
            "PlaylistItemId": playing.map_or(NO_ID, |(_, entry)| entry.as_str()),
            "When": self.clock.after(ahead),
            "PositionTicks": self.position,
            "Command": command,
            "EmittedAt": self.clock.now(),
        })
    }

    fn play_queue(&self) -> Value {
        let playlist: Vec<Value> =
            self.queue.iter().map(|(item, entry)| json!({"ItemId": item, "PlaylistItemId": entry})).collect();
        update(
            &self.id,
            "PlayQueue",
            json!({
                "Reason": "NewPlaylist",
                "LastUpdate": self.updated,
                "Playlist": playlist,
                "PlayingItemIndex": self.index,
                "StartPositionTicks": self.position,
                "IsPlaying": self.state == State::Playing,
                "ShuffleMode": "Sorted",
                "RepeatMode": "RepeatNone",
            }),
        )
    }

    fn tell_others(&self, sessions: &Sessions, but: &str, data: &Value) {
        for (member, _) in self.members.iter().filter(|(member, _)| member != but) {
            tell(sessions, member, "SyncPlayGroupUpdate", data.clone());
        }
    }
}

/// Over the member's socket on this pod; without one it is lost.
fn tell(sessions: &Sessions, session: &str, kind: &'static str, data: Value) {
    if let Some(session) = sessions.get(session) {
        session.send(kind, data);
    }
}
