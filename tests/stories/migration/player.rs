//! A player of live HLS: asks for its playlist again and again, and for each new segment once, in order.

use std::time::{Duration, Instant};

use crate::stories::world::{Answer, Client, World, elapse};

/// The pause between two requests for the playlist.
const PACE: Duration = Duration::from_millis(50);

pub(crate) struct Player {
    client: Client,
    /// The playlist's path and query.
    target: String,
    /// Every segment that the playlist has named, in its order.
    pub(crate) listed: Vec<String>,
    /// Of these, those that were asked for or are gaps.
    pub(crate) taken: usize,
    /// Segments that came.
    pub(crate) played: usize,
    /// Gaps that were not asked for.
    pub(crate) gaps: usize,
    pub(crate) discontinuities: usize,
    pub(crate) has_ended: bool,
    /// The longest time that an answer took.
    pub(crate) longest: Duration,
}

impl Player {
    /// A player that knows nothing but an address, as media players do.
    pub(crate) fn new(world: &World, target: String) -> Player {
        Player {
            client: world.client().without_cookies(),
            target,
            listed: Vec::new(),
            taken: 0,
            played: 0,
            gaps: 0,
            discontinuities: 0,
            has_ended: false,
            longest: Duration::ZERO,
        }
    }

    /// Plays until so many segments have come.
    pub(crate) async fn play(&mut self, segments: usize) {
        let deadline = Instant::now() + Duration::from_secs(40);
        while self.played < segments {
            assert!(
                Instant::now() < deadline,
                "it came no further than to segment {} of {:?}",
                self.taken,
                self.listed
            );
            self.look().await;
            while self.taken < self.listed.len() && self.played < segments {
                self.take().await;
            }
            elapse(PACE).await;
        }
    }

    /// Asks for the playlist until it lists so many segments.
    pub(crate) async fn look_until(&mut self, segments: usize) {
        while self.listed.len() < segments {
            self.look().await;
            elapse(PACE).await;
        }
    }

    /// Asks for the playlist, which only grows.
    pub(crate) async fn look(&mut self) {
        let target = self.target.clone();
        let playlist = self.get(&target).await;
        assert_eq!(playlist.status, 200, "{}", playlist.text());
        let text = playlist.text();
        let listed: Vec<String> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        assert!(listed.starts_with(&self.listed), "the list was\n{:?}\nand is\n{text}", self.listed);
        let gaps = text.lines().filter(|line| *line == "#EXT-X-GAP").count();
        assert!(gaps >= self.gaps, "a gap was filled: {text}");
        self.gaps = gaps;
        // Gaps stand before all else: they are of jobs that are gone.
        self.taken = self.taken.max(gaps);
        self.discontinuities = text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count();
        self.has_ended = text.contains("#EXT-X-ENDLIST");
        self.listed = listed;
    }

    /// Asks for the next segment, which comes.
    async fn take(&mut self) {
        let segment = self.url(self.taken);
        let answer = self.get(&segment).await;
        assert_eq!(answer.status, 200, "{segment}: {:?}", answer.body);
        let number = segment.rsplit('/').next().and_then(|file| file.get(32..)?.strip_suffix(".ts")?.parse().ok());
        let whole = jellyfin_sim::live_segment_bytes(number.expect("a number"));
        assert_eq!((answer.body.len(), answer.body == whole), (whole.len(), true), "{segment} is not whole");
        self.taken += 1;
        self.played += 1;
    }

    /// The path of a segment that was listed.
    pub(crate) fn url(&self, number: usize) -> String {
        let folder = self.target.split("live.m3u8").next().expect("a folder");
        format!("{folder}{}", self.listed[number])
    }

    async fn get(&mut self, target: &str) -> Answer {
        let began = Instant::now();
        let answer = self.client.get(target).await;
        self.longest = self.longest.max(began.elapsed());
        answer
    }
}
