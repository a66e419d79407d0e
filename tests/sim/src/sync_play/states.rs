//! What a group does with each request in each of its states (`GroupStates/*.cs`).

use std::time::{Duration, Instant};

use super::group::{Group, MILLISECOND, State, To};
use crate::sessions::Sessions;

/// `TimeSyncOffset`: a member whose clock is further off is taken at its word of now.
const TIME_SYNC_OFFSET: i64 = 2000 * MILLISECOND;

/// `MaxPlaybackOffset`: a member further off its group's place is not ready.
const MAX_PLAYBACK_OFFSET: i64 = 500 * MILLISECOND;

/// What a member asks of its group.
#[derive(Debug)]
pub(super) enum Request {
    Play { items: Vec<String>, index: i64, position: i64 },
    SetItem(String),
    Unpause,
    Pause,
    Stop,
    Seek(i64),
    Buffer { entry: String },
    Ready { when: String, position: i64, plays: bool, entry: String },
    Next(String),
    Previous(String),
    IgnoreWait(bool),
    Queue { items: Vec<String>, is_next: bool },
    Mode { is_repeat: bool, mode: String },
}

impl Request {
    /// `PlaybackRequestType`, the reason of a state's update.
    fn name(&self) -> &'static str {
        match self {
            Request::Play { .. } => "Play",
            Request::SetItem(_) => "SetPlaylistItem",
            Request::Unpause => "Unpause",
            Request::Pause => "Pause",
            Request::Stop => "Stop",
            Request::Seek(_) => "Seek",
            Request::Buffer { .. } => "Buffer",
            Request::Ready { .. } => "Ready",
            Request::Next(_) => "NextItem",
            Request::Previous(_) => "PreviousItem",
            Request::IgnoreWait(_) => "IgnoreWait",
            Request::Queue { .. } => "Queue",
            Request::Mode { is_repeat: true, .. } => "SetRepeatMode",
            Request::Mode { .. } => "SetShuffleMode",
        }
    }
}

impl Group {
    /// Does what a member asks.
    pub(super) fn handle(&mut self, sessions: &Sessions, session: &str, request: Request) {
        let state = self.state;
        match request {
            Request::Queue { items, is_next } => {
                self.append(items, is_next);
                self.queue_update(sessions, To::All, if is_next { "QueueNext" } else { "Queue" });
            }
            Request::Mode { is_repeat, mode } => {
                self.set_mode(is_repeat, mode);
                self.queue_update(sessions, To::All, if is_repeat { "RepeatMode" } else { "ShuffleMode" });
            }
            Request::IgnoreWait(ignores) => {
                self.with(session, |member| member.ignores_wait = ignores);
                if state == State::Waiting && !self.is_buffering() {
                    self.end_wait(sessions);
                }
            }
            Request::Stop => self.idle(sessions, session),
            Request::Buffer { .. } if state == State::Playing && self.ignores_buffering => {}
            Request::Pause | Request::Seek(_) | Request::Buffer { .. } | Request::Ready { .. }
                if state == State::Idle =>
            {
                self.idle(sessions, session);
            }
            Request::Pause if state == State::Playing => self.pause(sessions, &request),
            Request::Pause | Request::Ready { .. } if state == State::Paused => {
                self.command(sessions, To::One(session), "Pause");
            }
            Request::Unpause if state == State::Paused => self.play(sessions, &request),
            Request::Unpause | Request::Ready { .. } if state == State::Playing => {
                self.command(sessions, To::One(session), "Unpause");
            }
            request => self.wait(sessions, session, request),
        }
    }

    /// `SessionJoined`.
    pub(super) fn joined(&mut self, sessions: &Sessions, session: &str) {
        if self.state == State::Idle {
            return self.command(sessions, To::One(session), "Stop");
        }
        let before = self.begin_wait();
        if before == State::Playing {
            self.resumes = true;
            self.pass_time();
        }
        self.queue_update(sessions, To::One(session), "NewPlaylist");
        self.with(session, |member| member.is_buffering = true);
        self.command(sessions, To::AllReady, "Pause");
    }

    /// `SessionLeaving`.
    pub(super) fn leaves(&mut self, sessions: &Sessions, session: &str) {
        if self.state != State::Waiting {
            return;
        }
        self.with(session, |member| member.is_buffering = false);
        if !self.is_buffering() {
            self.end_wait(sessions);
        }
    }

    /// `SendStopCommand`.
    fn idle(&mut self, sessions: &Sessions, session: &str) {
        let was_idle = std::mem::replace(&mut self.state, State::Idle) == State::Idle;
        self.command(sessions, if was_idle { To::One(session) } else { To::All }, "Stop");
    }

    /// `PausedGroupState`, for a pause of a group that plays or waits.
    fn pause(&mut self, sessions: &Sessions, request: &Request) {
        self.state = State::Paused;
        self.pass_time();
        self.command(sessions, To::All, "Pause");
        self.state_update(sessions, request.name());
    }

    /// `PlayingGroupState`, for a group that did not play.
    fn play(&mut self, sessions: &Sessions, request: &Request) {
        self.state = State::Playing;
        self.ignores_buffering = false;
        self.since = Instant::now() + self.ahead();
        self.command(sessions, To::All, "Unpause");
        self.state_update(sessions, request.name());
    }

    /// Nobody is waited for any more, since one has left or is no longer waited for.
    fn end_wait(&mut self, sessions: &Sessions) {
        if self.resumes { self.play(sessions, &Request::Unpause) } else { self.state = State::Paused }
    }

    /// Begins to wait, unless the group waits already; gives what it did until then.
    fn begin_wait(&mut self) -> State {
        let before = self.state;
        if before != State::Waiting {
            (self.state, self.before, self.resumes) = (State::Waiting, before, false);
        }
        before
    }

    /// `WaitingGroupState`.
    fn wait(&mut self, sessions: &Sessions, session: &str, request: Request) {
        let before = self.begin_wait();
        let name = request.name();
        match request {
            Request::Play { items, index, position } => {
                self.set_queue(items, index, position);
                self.restart_together(sessions, "NewPlaylist");
            }
            Request::SetItem(entry) => {
                let index = self.index_of(&entry);
                self.change_item(sessions, before, index, "SetCurrentItem");
            }
            Request::Next(entry) | Request::Previous(entry) if entry != self.entry() => self.resumes = true,
            Request::Next(_) => {
                let index = usize::try_from(self.index + 1).ok();
                self.change_item(sessions, before, index, name);
            }
            Request::Previous(_) => {
                let index = usize::try_from(self.index - 1).ok();
                self.change_item(sessions, before, index, name);
            }
            Request::Unpause if before == State::Idle => {
                self.restart_at(0);
                self.restart_together(sessions, "NewPlaylist");
            }
            Request::Unpause if self.resumes => {
                self.set_all_buffering(false);
                self.play(sessions, &Request::Unpause);
                self.ignores_buffering = true;
            }
            Request::Unpause => {
                self.resumes = true;
                self.state_update(sessions, name);
            }
            Request::Pause => {
                self.resumes = false;
                self.state_update(sessions, name);
            }
            Request::Seek(position) => {
                match before {
                    State::Playing => self.resumes = true,
                    State::Paused => self.resumes = false,
                    State::Idle | State::Waiting => {}
                }
                self.restart_at(position.max(0));
                self.command(sessions, To::All, "Seek");
                self.set_all_buffering(true);
                self.state_update(sessions, name);
            }
            Request::Buffer { entry } => self.buffers(sessions, session, before, &entry),
            Request::Ready { when, position, plays, entry } => {
                self.is_ready(sessions, session, (&when, position.max(0), plays), &entry);
            }
            Request::Stop | Request::IgnoreWait(_) | Request::Queue { .. } | Request::Mode { .. } => {}
        }
    }

    fn restart_together(&mut self, sessions: &Sessions, reason: &str) {
        self.resumes = true;
        self.queue_update(sessions, To::All, reason);
        self.set_all_buffering(true);
    }

    fn change_item(&mut self, sessions: &Sessions, before: State, index: Option<usize>, reason: &str) {
        if self.go_to(index) {
            self.restart_together(sessions, reason);
        } else {
            self.resumes = true;
            self.state = if before == State::Waiting { State::Idle } else { before };
        }
    }

    /// Whether the member plays what the group does; else it is told what that is.
    fn is_at_item(&mut self, sessions: &Sessions, session: &str, entry: &str) -> bool {
        let is_at = entry == self.entry();
        if !is_at {
            self.queue_update(sessions, To::One(session), "SetCurrentItem");
            self.with(session, |member| member.is_buffering = true);
        }
        is_at
    }

    fn buffers(&mut self, sessions: &Sessions, session: &str, before: State, entry: &str) {
        if !self.is_at_item(sessions, session, entry) {
            return;
        }
        self.with(session, |member| member.is_buffering = true);
        match before {
            State::Playing => {
                self.resumes = true;
                self.pass_time();
                self.command(sessions, To::AllReady, "Pause");
            }
            State::Paused => self.command(sessions, To::One(session), "Pause"),
            State::Waiting if !self.resumes => self.command(sessions, To::One(session), "Pause"),
            State::Waiting | State::Idle => {}
        }
        self.state_update(sessions, "Buffer");
    }

    fn is_ready(
        &mut self,
        sessions: &Sessions,
        session: &str,
        (when, position, plays): (&str, i64, bool),
        entry: &str,
    ) {
        if !self.is_at_item(sessions, session, entry) {
            return;
        }
        let elapsed = self.elapsed_since(when);
        let elapsed = if !plays || elapsed.saturating_abs() > TIME_SYNC_OFFSET { 0 } else { elapsed };
        let delay = self.position - (position + elapsed);
        let is_lost = if self.resumes {
            !plays && delay.abs() > MAX_PLAYBACK_OFFSET
        } else {
            (self.position - position).abs() > MAX_PLAYBACK_OFFSET
        };
        self.with(session, |member| member.is_buffering = is_lost);
        if is_lost {
            self.command(sessions, To::One(session), "Seek");
            return self.state_update(sessions, "Ready");
        }
        let now = Instant::now();
        match (self.resumes, self.is_buffering()) {
            (true, true) => {
                let when = now + Duration::from_nanos(delay.max(0).unsigned_abs() * 100);
                self.command_at(sessions, To::One(session), "Pause", when);
            }
            (true, false) => {
                let ahead = self.highest_ping() * 2 * MILLISECOND;
                let is_recovering = delay > ahead;
                self.since = now + Duration::from_nanos(delay.max(ahead).unsigned_abs() * 100);
                let others = if is_recovering && plays { To::AllBut(session) } else { To::All };
                self.command(sessions, others, "Unpause");
                self.state = State::Playing;
                self.ignores_buffering = false;
                self.state_update(sessions, "Ready");
            }
            (false, true) => {}
            (false, false) => {
                self.state = State::Paused;
                match self.before {
                    State::Playing => self.pause(sessions, &Request::Pause),
                    State::Paused => {
                        self.command(sessions, To::All, "Pause");
                        self.state_update(sessions, "Ready");
                    }
                    State::Idle | State::Waiting => {}
                }
            }
        }
    }
}
