//! What a group plays, and where it is: a pure model of what its members are sent.

use std::time::Duration;

use tokio::time::Instant;

use crate::jellyfin::sync_play::{Command, CommandKind, GroupState, Queue};

/// A tick of Jellyfin is 100 ns.
const TICK_NS: u128 = 100;

/// The longest queue that is kept. A group with a longer one ends with its pod.
const MOST_ITEMS: usize = 500;

/// What a group does.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct Playback {
    queue: Option<Queue>,
    /// When the present queue was recorded.
    recorded: Option<Instant>,
    state: GroupState,
    /// It plays, or will play once all are ready.
    resumes: bool,
    position: i64,
    /// The moment at which `position` holds, while it plays.
    since: Option<Instant>,
    is_too_long: bool,
}

impl Playback {
    /// That of a group in this state.
    pub(super) fn of(state: GroupState) -> Playback {
        let resumes = matches!(state, GroupState::Playing | GroupState::Waiting);
        Playback { state, resumes, ..Playback::default() }
    }

    /// Takes in a queue. The same one comes to each member.
    pub(super) fn record_queue(&mut self, queue: &Queue, now: Instant) {
        if self.queue.as_ref().is_some_and(|known| known.updated == queue.updated) {
            return;
        }
        let is_first = self.queue.is_none();
        let begins = matches!(&*queue.reason, "NewPlaylist" | "SetCurrentItem" | "NextItem" | "PreviousItem");
        if is_first || begins {
            self.position = queue.position;
            self.since = queue.plays.then_some(now);
        }
        if begins && !is_first {
            (self.state, self.resumes) = (GroupState::Waiting, true);
        }
        if is_first && self.state == GroupState::Idle {
            (self.state, self.resumes) = (GroupState::Waiting, true);
        }
        self.is_too_long = queue.items.len() > MOST_ITEMS;
        let items = if self.is_too_long { Vec::new() } else { queue.items.clone() };
        self.queue = Some(Queue { items, ..queue.clone() });
        self.recorded = Some(now);
    }

    pub(super) fn record_command(&mut self, command: Command, now: Instant) {
        self.position = command.position;
        self.since = None;
        match command.kind {
            CommandKind::Unpause => {
                self.resumes = true;
                self.since = Some(now + command.ahead);
            }
            CommandKind::Stop => (self.state, self.resumes) = (GroupState::Idle, false),
            // What comes after the wait is said by the state.
            CommandKind::Pause | CommandKind::Seek => {}
        }
    }

    pub(in crate::proxy) fn record_state(&mut self, state: GroupState, reason: &str) {
        self.state = state;
        match (state, reason) {
            (GroupState::Playing, _) | (GroupState::Waiting, "Unpause") => self.resumes = true,
            (GroupState::Paused | GroupState::Idle, _) | (GroupState::Waiting, "Pause") => self.resumes = false,
            (GroupState::Waiting, _) => {}
        }
    }

    /// The group starts again on another pod, which says its own queue.
    pub(super) fn begin_again(&mut self) {
        (self.recorded, self.since) = (None, None);
    }

    /// Where the group is at this moment, in ticks.
    pub(in crate::proxy) fn position_at(&self, now: Instant) -> i64 {
        let run = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.position.saturating_add(i64::try_from(run.as_nanos() / TICK_NS).unwrap_or(i64::MAX))
    }

    /// What the group plays; `None` while it plays nothing.
    pub(in crate::proxy) fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref().filter(|queue| self.state != GroupState::Idle && !queue.items.is_empty())
    }

    /// When the queue of the present pod was recorded.
    pub(in crate::proxy) fn queue_recorded_at(&self) -> Option<Instant> {
        self.recorded
    }

    /// Whether it plays, or will once all are ready.
    pub(in crate::proxy) fn resumes(&self) -> bool {
        self.resumes
    }

    /// Whether its members play now, or at the moment that they were told.
    pub(in crate::proxy) fn runs(&self) -> bool {
        self.since.is_some()
    }

    /// Whether it can be made again: a queue that is too long is not kept.
    pub(in crate::proxy) fn is_known(&self) -> bool {
        !self.is_too_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(updated: &str, reason: &str, position: i64) -> Queue {
        Queue {
            reason: reason.into(),
            items: vec!["i".into()],
            index: 0,
            entry: Some("p".into()),
            position,
            updated: updated.into(),
            ..Queue::default()
        }
    }

    fn command(kind: CommandKind, position: i64) -> Command {
        Command { kind, position, ahead: Duration::from_millis(500) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_plays_goes_on_and_one_that_waits_stands() {
        let mut playback = Playback::of(GroupState::Idle);
        assert!(playback.queue().is_none() && !playback.resumes());
        playback.record_queue(&queue("1", "NewPlaylist", 70), Instant::now());
        assert!(playback.queue().is_some() && playback.resumes() && !playback.runs());
        let told = Instant::now();
        playback.record_command(command(CommandKind::Unpause, 70), told);
        playback.record_state(GroupState::Playing, "Ready");
        let at = |ms| told + Duration::from_millis(ms);
        assert_eq!((playback.position_at(at(400)), playback.position_at(at(1500))), (70, 70 + 10_000_000));
        // The same queue, told to a member that joins, changes nothing; the group waits for it.
        playback.record_queue(&queue("1", "NewPlaylist", 70), at(1500));
        playback.record_command(command(CommandKind::Pause, 90), at(1500));
        assert!(playback.resumes() && !playback.runs());
        assert_eq!(playback.position_at(at(9000)), 90);
        playback.record_state(GroupState::Waiting, "Pause");
        assert!(!playback.resumes());
        playback.record_state(GroupState::Paused, "Pause");
        playback.record_queue(&queue("2", "Queue", 5), at(9000));
        assert_eq!((playback.position_at(at(9000)), playback.resumes()), (90, false), "only the queue changed");
        playback.record_queue(&queue("3", "NextItem", 0), at(9000));
        assert_eq!((playback.position_at(at(9000)), playback.resumes()), (0, true));
        playback.record_command(command(CommandKind::Stop, 0), at(9000));
        assert!(playback.queue().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_is_found_paused_is_paused() {
        let mut playback = Playback::of(GroupState::Paused);
        playback.record_queue(&queue("1", "NewPlaylist", 5), Instant::now());
        assert!(playback.queue().is_some() && !playback.resumes());
        let long = Queue { items: vec!["i".into(); MOST_ITEMS + 1], ..queue("2", "Queue", 5) };
        playback.record_queue(&long, Instant::now());
        assert!(!playback.is_known() && playback.queue().is_none());
    }
}
