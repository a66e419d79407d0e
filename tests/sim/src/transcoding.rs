//! The transcoding jobs of one process: nothing of them is known to another pod.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::identifiers::guid_of;
use crate::library::SEGMENTS;

/// The running jobs.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    live: HashMap<String, LiveJob>,
}

/// A job started by `live.m3u8`, by the name of its playlist.
#[derive(Debug)]
struct LiveJob {
    device_id: String,
    play_session: String,
    started: Instant,
    /// A channel's, which has no end.
    is_endless: bool,
}

/// How far a job has got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Segments that are there.
    pub(crate) segments: usize,
    pub(crate) has_ended: bool,
}

/// How many segments a job has as soon as it answers.
const FIRST_SEGMENTS: usize = 3;

/// The segments of the film.
const ALL_SEGMENTS: usize = SEGMENTS.len();

impl LiveJob {
    /// A job begins with the first segment, and makes one at each interval.
    fn progress(&self, interval: Duration) -> Progress {
        let grown = self.started.elapsed().as_nanos() / interval.as_nanos().max(1);
        let made = usize::try_from(grown).unwrap_or(usize::MAX).saturating_add(FIRST_SEGMENTS);
        let segments = if self.is_endless { made } else { made.min(ALL_SEGMENTS) };
        Progress { segments, has_ended: !self.is_endless && segments == ALL_SEGMENTS }
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
            is_endless,
        });
        job.progress(interval)
    }

    /// Whether a job has made this segment by now.
    pub(crate) fn has_segment(&self, name: &str, number: usize, interval: Duration) -> bool {
        self.live.get(name).is_some_and(|job| number < job.progress(interval).segments)
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
