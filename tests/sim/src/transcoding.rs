//! The transcoding jobs of one process: nothing of them is known to another pod.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::identifiers::guid_of;
use crate::library::SEGMENTS;

/// The running jobs.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    live: HashMap<String, LiveJob>,
    /// The play sessions that players have reported on, or ended, in order.
    heard_of: Vec<String>,
}

/// A job started by `live.m3u8`, by the name of its playlist.
#[derive(Debug)]
struct LiveJob {
    device_id: String,
    play_session: String,
    started: Instant,
    /// When somebody last asked for it, or its player was heard of.
    pinged: Instant,
    /// A channel's, which has no end.
    is_endless: bool,
}

/// How far a job has got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Segments that are there.
    pub(crate) segments: usize,
    /// How much of the next one is there, which the playlist does not list yet.
    pub(crate) begun: f64,
    pub(crate) has_ended: bool,
}

/// How many segments a job has as soon as it answers.
const FIRST_SEGMENTS: usize = 3;

/// Play sessions that are remembered.
const MOST_HEARD_OF: usize = 64;

/// The segments of the film.
const ALL_SEGMENTS: usize = SEGMENTS.len();

impl LiveJob {
    /// A job begins with the first segment, and makes one at each interval.
    fn progress(&self, interval: Duration) -> Progress {
        let grown = self.started.elapsed().div_duration_f64(interval.max(Duration::from_nanos(1)));
        let made = (grown as usize).saturating_add(FIRST_SEGMENTS);
        let segments = if self.is_endless { made } else { made.min(ALL_SEGMENTS) };
        Progress { segments, begun: grown.fract(), has_ended: !self.is_endless && segments == ALL_SEGMENTS }
    }
}

/// What a live playlist and its segments are named by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveKey<'a> {
    pub(crate) path: &'a str,
    pub(crate) user_agent: &'a str,
    pub(crate) device_id: &'a str,
    pub(crate) play_session: &'a str,
}

impl LiveKey<'_> {
    /// The MD5 of path, User-Agent, device and play session: the same on every pod, if a proxy passes them unchanged.
    pub(crate) fn name(self) -> String {
        guid_of(&format!("{}-{}-{}-{}", self.path, self.user_agent, self.device_id, self.play_session))
    }
}

impl Jobs {
    /// Starts the job of a live playlist or finds it running.
    pub(crate) fn live(&mut self, key: LiveKey<'_>, is_endless: bool, interval: Duration) -> Progress {
        let job = self.live.entry(key.name()).or_insert_with(|| LiveJob {
            device_id: key.device_id.to_owned(),
            play_session: key.play_session.to_owned(),
            started: Instant::now(),
            pinged: Instant::now(),
            is_endless,
        });
        job.pinged = Instant::now();
        job.progress(interval)
    }

    /// How much of this segment a job has made by now: a file that ffmpeg still writes is there as well.
    pub(crate) fn share_of_segment(&mut self, name: &str, number: usize, interval: Duration) -> Option<f64> {
        let job = self.live.get_mut(name)?;
        job.pinged = Instant::now();
        let progress = job.progress(interval);
        match number.cmp(&progress.segments) {
            Ordering::Less => Some(1.0),
            Ordering::Equal if !progress.has_ended => Some(progress.begun),
            Ordering::Equal | Ordering::Greater => None,
        }
    }

    /// A player names its play session.
    pub(crate) fn hear_of(&mut self, play_session: &str) {
        if self.heard_of.len() >= MOST_HEARD_OF {
            self.heard_of.remove(0);
        }
        self.heard_of.push(play_session.to_owned());
    }

    pub(crate) fn heard_of(&self) -> &[String] {
        &self.heard_of
    }

    /// A player was heard of: its job goes on.
    pub(crate) fn ping(&mut self, play_session: &str) {
        let is_meant = |job: &&mut LiveJob| job.play_session.eq_ignore_ascii_case(play_session);
        self.live.values_mut().filter(is_meant).for_each(|job| job.pinged = Instant::now());
    }

    /// Ends the jobs that nobody has asked for, and whose players were not heard of, for this time.
    pub(crate) fn end_idle(&mut self, idle: Duration) {
        self.live.retain(|_, job| job.pinged.elapsed() < idle);
    }

    /// Ends the jobs of a device, or of one play session of it.
    pub(crate) fn end(&mut self, device_id: Option<&str>, play_session: Option<&str>) {
        self.live.retain(|_, job| {
            let same_device = device_id.is_none_or(|device| job.device_id.eq_ignore_ascii_case(device));
            let same_session = play_session.is_none_or(|session| job.play_session.eq_ignore_ascii_case(session));
            !(same_device && same_session)
        });
    }
}
