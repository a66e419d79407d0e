//! One group (`Group.cs`): its members, what they watch, and how they are told.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::identifiers::{dashed, plain, random_guid};
use crate::sessions::{Playing, Sessions};

/// The empty GUID.
pub(super) const NO_ID: &str = "00000000000000000000000000000000";

/// `DefaultPing`, in milliseconds: what a member counts with that has not said another.
const DEFAULT_PING: i64 = 500;

/// Ticks of a millisecond.
pub(super) const MILLISECOND: i64 = 10_000;

/// A group of sessions that watch together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: String,
    name: String,
    pub(super) state: State,
    /// `ResumePlaying`: what a group that waits does once all are ready.
    pub(super) resumes: bool,
    /// `InitialState`: what it did before it waited.
    pub(super) before: State,
    /// `IgnoreBuffering`: somebody has made it play without waiting for the others.
    pub(super) ignores_buffering: bool,
    /// In the order of joining.
    pub(super) members: Vec<Member>,
    /// Item and playlist item.
    pub(super) queue: Vec<(String, String)>,
    pub(super) index: i64,
    pub(super) position: i64,
    /// `LastActivity`: when `position` holds. It lies ahead where members are to begin.
    pub(super) since: Instant,
    /// `PlayQueue.LastChange`.
    changed: String,
    repeat: String,
    shuffle: String,
    clock: Clock,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) session: String,
    user: String,
    user_id: String,
    ping: i64,
    pub(super) is_buffering: bool,
    pub(super) ignores_wait: bool,
}

/// What a group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Waiting,
    Paused,
    Playing,
}

/// Whom a message is for (`SyncPlayBroadcastType`).
#[derive(Clone, Copy)]
pub(super) enum To<'a> {
    One(&'a str),
    All,
    AllBut(&'a str),
    AllReady,
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
            resumes: false,
            before: State::Idle,
            ignores_buffering: false,
            members: Vec::new(),
            queue: Vec::new(),
            index: -1,
            position: 0,
            since: Instant::now(),
            changed: clock.now(),
            repeat: "RepeatNone".to_owned(),
            shuffle: "Sorted".to_owned(),
            clock,
        }
    }

    pub(super) fn has(&self, session: &str) -> bool {
        self.members.iter().any(|member| member.session == session)
    }

    pub(super) fn has_user(&self, user_id: &str) -> bool {
        self.members.iter().any(|member| member.user_id == user_id)
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
        self.resumes = !playing.paused;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// `GroupInfoDto`.
    pub(super) fn info(&self) -> Value {
        let mut names: Vec<&str> = Vec::new();
        for member in &self.members {
            if !names.contains(&member.user.as_str()) {
                names.push(&member.user);
            }
        }
        json!({
            "GroupId": self.id,
            "GroupName": self.name,
            "State": format!("{:?}", self.state),
            "Participants": names,
            "LastUpdatedAt": self.clock.now(),
        })
    }

    /// `SessionJoin`; somebody who is there already joins once more.
    pub(super) fn add(&mut self, sessions: &Sessions, session: &str, (user, user_id): (String, String)) {
        if !self.has(session) {
            self.members.push(Member {
                session: session.to_owned(),
                user: user.clone(),
                user_id,
                ping: DEFAULT_PING,
                is_buffering: false,
                ignores_wait: false,
            });
        }
        self.update(sessions, To::One(session), "GroupJoined", self.info());
        self.update(sessions, To::AllBut(session), "UserJoined", json!(user));
        self.joined(sessions, session);
    }

    pub(super) fn remove(&mut self, sessions: &Sessions, session: &str) {
        self.leaves(sessions, session);
        let Some(at) = self.members.iter().position(|member| member.session == session) else {
            return;
        };
        let user = self.members.remove(at).user;
        self.update(sessions, To::One(session), "GroupLeft", json!(dashed(&self.id)));
        self.update(sessions, To::AllBut(session), "UserLeft", json!(user));
    }

    pub(super) fn set_queue(&mut self, items: Vec<String>, index: i64, position: i64) {
        self.queue = items.into_iter().map(|item| (item, random_guid())).collect();
        self.index = index;
        self.changed = self.clock.now();
        self.restart_at(position);
    }

    /// Goes to another item of the queue, if it is there.
    pub(super) fn go_to(&mut self, index: Option<usize>) -> bool {
        let Some(index) = index.filter(|index| *index < self.queue.len()) else { return false };
        self.index = index as i64;
        self.changed = self.clock.now();
        self.restart_at(0);
        true
    }

    pub(super) fn index_of(&self, entry: &str) -> Option<usize> {
        self.queue.iter().position(|(_, other)| other == entry)
    }

    /// `RestartCurrentItem`, at this place.
    pub(super) fn restart_at(&mut self, position: i64) {
        self.position = position;
        self.since = Instant::now();
    }

    pub(super) fn append(&mut self, items: Vec<String>, is_next: bool) {
        let at = if is_next { usize::try_from(self.index + 1).unwrap_or(0) } else { self.queue.len() };
        let at = at.min(self.queue.len());
        self.queue.splice(at..at, items.into_iter().map(|item| (item, random_guid())));
        self.changed = self.clock.now();
    }

    pub(super) fn set_mode(&mut self, is_repeat: bool, mode: String) {
        *(if is_repeat { &mut self.repeat } else { &mut self.shuffle }) = mode;
        self.changed = self.clock.now();
    }

    /// Takes over the time that has passed since its last activity.
    pub(super) fn pass_time(&mut self) {
        let now = Instant::now();
        self.position = self.position.saturating_add(ticks(now.saturating_duration_since(self.since)));
        self.since = now;
    }

    /// How long ago, in ticks, a moment was that a member gives by this pod's clock.
    pub(super) fn elapsed_since(&self, moment: &str) -> i64 {
        self.clock.elapsed_since(moment).unwrap_or(i64::MAX)
    }

    pub(super) fn set_ping(&mut self, session: &str, ping: i64) {
        self.with(session, |member| member.ping = ping);
    }

    pub(super) fn highest_ping(&self) -> i64 {
        self.members.iter().map(|member| member.ping).max().unwrap_or(DEFAULT_PING)
    }

    /// How far ahead a group begins to play.
    pub(super) fn ahead(&self) -> Duration {
        Duration::from_millis((self.highest_ping() * 2).max(DEFAULT_PING).unsigned_abs())
    }

    pub(super) fn with(&mut self, session: &str, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.iter_mut().find(|member| member.session == session) {
            change(member);
        }
    }

    pub(super) fn set_all_buffering(&mut self, are: bool) {
        self.members.iter_mut().for_each(|member| member.is_buffering = are);
    }

    pub(super) fn is_buffering(&self) -> bool {
        self.members.iter().any(|member| member.is_buffering && !member.ignores_wait)
    }

    pub(super) fn entry(&self) -> &str {
        let playing = usize::try_from(self.index).ok().and_then(|at| self.queue.get(at));
        playing.map_or(NO_ID, |(_, entry)| entry.as_str())
    }

    pub(super) fn update(&self, sessions: &Sessions, to: To<'_>, kind: &str, data: Value) {
        self.send_to(sessions, to, "SyncPlayGroupUpdate", &update(&self.id, kind, data));
    }

    pub(super) fn command(&self, sessions: &Sessions, to: To<'_>, command: &str) {
        self.command_at(sessions, to, command, self.since);
    }

    /// The same for another moment than that of the last activity.
    pub(super) fn command_at(&self, sessions: &Sessions, to: To<'_>, command: &str, when: Instant) {
        let data = json!({
            "GroupId": self.id,
            "PlaylistItemId": self.entry(),
            "When": self.clock.at(when),
            "PositionTicks": self.position,
            "Command": command,
            "EmittedAt": self.clock.now(),
        });
        self.send_to(sessions, to, "SyncPlayCommand", &data);
    }

    /// `SendGroupStateUpdate`.
    pub(super) fn state_update(&self, sessions: &Sessions, reason: &str) {
        let data = json!({"State": format!("{:?}", self.state), "Reason": reason});
        self.update(sessions, To::All, "StateUpdate", data);
    }

    pub(super) fn queue_update(&self, sessions: &Sessions, to: To<'_>, reason: &str) {
        let playlist: Vec<Value> =
            self.queue.iter().map(|(item, entry)| json!({"ItemId": item, "PlaylistItemId": entry})).collect();
        let plays = self.state == State::Playing;
        let run = if plays { ticks(Instant::now().saturating_duration_since(self.since)) } else { 0 };
        let data = json!({
            "Reason": reason,
            "LastUpdate": self.changed,
            "Playlist": playlist,
            "PlayingItemIndex": self.index,
            "StartPositionTicks": self.position.saturating_add(run),
            "IsPlaying": plays,
            "ShuffleMode": self.shuffle,
            "RepeatMode": self.repeat,
        });
        self.update(sessions, to, "PlayQueue", data);
    }

    /// Over each member's socket on this pod; without one it is lost.
    fn send_to(&self, sessions: &Sessions, to: To<'_>, kind: &'static str, data: &Value) {
        let is_meant = |member: &&Member| match to {
            To::All => true,
            To::One(session) => member.session == session,
            To::AllBut(session) => member.session != session,
            To::AllReady => !member.is_buffering,
        };
        let meant = self.members.iter().filter(is_meant).map(|member| member.session.as_str());
        // One who is told alone may have left by then.
        let gone = match to {
            To::One(session) if !self.has(session) => Some(session),
            _ => None,
        };
        for session in meant.chain(gone).filter_map(|session| sessions.get(session)) {
            session.send(kind, data.clone());
        }
    }
}

pub(super) fn ticks(time: Duration) -> i64 {
    i64::try_from(time.as_nanos() / 100).unwrap_or(i64::MAX)
}
