//! Live playlists (RFC 8216): reads one, and joins those of two pods into one. Pure.
//!
//! `live.m3u8` is ffmpeg's own file: an EVENT playlist that begins at segment 0 and grows. A live
//! channel that moves to another pod begins a new one there, at 0 and with other names. A player
//! must see one list that only grows: the old segments, a discontinuity, and the new ones.

use std::fmt::Write;

/// The most bytes of past segments to keep. Beyond it the oldest go, as in any sliding list.
const LONGEST_PAST: usize = 256 * 1024;

/// The name of a job: 32 hex digits, under which its segments are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name(u128);

impl Name {
    pub fn of(digits: &str) -> Option<Name> {
        let is_name = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(digits, 16).ok().filter(|_| is_name).map(Name)
    }

    pub fn digits(self) -> String {
        format!("{:032x}", self.0)
    }
}

/// What jellypin reads of a live playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaylistSummary {
    /// `None` before the first segment exists, and in a playlist of another kind.
    pub name: Option<Name>,
    /// Segments up to its end, including those that it no longer lists.
    pub segments: u64,
}

impl PlaylistSummary {
    /// `None` if the text is no playlist.
    pub fn of(text: &str) -> Option<PlaylistSummary> {
        let mut lines = text.lines();
        if lines.next().is_none_or(|first| first.trim_end() != "#EXTM3U") {
            return None;
        }
        let (mut outline, mut listed) = (PlaylistSummary { name: None, segments: 0 }, 0);
        for line in lines.map(str::trim_end) {
            if let Some(first) = line.strip_prefix(SEQUENCE) {
                outline.segments = first.parse().unwrap_or(0);
            } else if is_uri(line) {
                listed += 1;
                outline.name = outline.name.or_else(|| name_in(line));
            }
        }
        outline.segments += listed;
        Some(outline)
    }
}

/// The number of a segment in `{name}{number}.ts`, which is the number of segments before it. Other
/// formats have an initialization, `-1`; it exists with their first segment.
pub fn number_of(file: &str) -> Option<u64> {
    let number: i64 = file.get(32..)?.split('.').next()?.parse().ok()?;
    Some(number.max(0).unsigned_abs())
}

/// What a client has seen of past jobs.
///
/// No pod has these segments any more. They stay in the list because players find the rest by
/// number. They are marked as gaps, so a player that knows the mark skips them without a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaylistHistory {
    /// `#EXTINF`, gap and URI of each segment, and the discontinuities between jobs.
    lines: String,
    /// The number of segments in `lines`.
    listed: u64,
    /// The number of segments before `lines`.
    dropped: u64,
    /// The number of discontinuities before `lines`.
    dropped_discontinuities: u64,
    target: u64,
}

impl PlaylistHistory {
    /// Adds a job that ended with this playlist. `None`: it was too long to be known, so only the
    /// number of its segments counts.
    #[must_use]
    pub fn and(&self, playlist: Option<&str>, segments: u64) -> PlaylistHistory {
        let mut past = self.clone();
        let Some(playlist) = playlist else {
            past.dropped_discontinuities += past.discontinuities() + u64::from(past.segments() > 0);
            past.dropped += past.listed + segments;
            (past.lines, past.listed) = (String::new(), 0);
            return past;
        };
        if past.segments() > 0 {
            past.lines.push_str(DISCONTINUITY_LINE);
        } else {
            past.dropped = segments.saturating_sub(playlist.lines().filter(|line| is_uri(line)).count() as u64);
        }
        past.target = past.target.max(number(playlist, TARGET).unwrap_or(0));
        for line in playlist.lines().map(str::trim_end) {
            if line.starts_with("#EXTINF") || line == DISCONTINUITY {
                past.push(line);
            } else if is_uri(line) {
                past.push(GAP);
                past.push(line);
                past.listed += 1;
            }
        }
        past.shorten();
        past
    }

    /// The number of segments of all past jobs.
    pub fn segments(&self) -> u64 {
        self.dropped + self.listed
    }

    /// One playlist of the past jobs and the current one.
    pub fn followed_by(&self, playlist: &str) -> String {
        let (mut head, mut body) = (String::new(), String::new());
        let is_cut = self.dropped > 0;
        for line in playlist.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let is_of_head = OF_HEAD.iter().any(|tag| line.starts_with(tag));
            if is_of_head && !(is_cut && line.starts_with(EVENT)) {
                head.push_str(line);
                head.push('\n');
            } else if !is_of_head && !WRITTEN_ANEW.iter().any(|tag| line.starts_with(tag)) {
                body.push_str(line);
                body.push('\n');
            }
        }
        let target = self.target.max(number(playlist, TARGET).unwrap_or(0));
        let version = number(playlist, VERSION).unwrap_or(0).max(GAPS_SINCE);
        let mut whole = String::with_capacity(self.lines.len() + playlist.len() + 256);
        // Writing into a string does not fail.
        let _ = write!(whole, "#EXTM3U\n{VERSION}{version}\n{TARGET}{target}\n{SEQUENCE}{}\n", self.dropped);
        if self.dropped_discontinuities > 0 {
            let _ = writeln!(whole, "{DISCONTINUITY_SEQUENCE}{}", self.dropped_discontinuities);
        }
        whole + &head + &self.lines + DISCONTINUITY_LINE + &body
    }

    fn push(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
    }

    fn discontinuities(&self) -> u64 {
        self.lines.lines().filter(|line| *line == DISCONTINUITY).count() as u64
    }

    /// Drops whole segments from the front until the rest is short enough.
    fn shorten(&mut self) {
        let surplus = self.lines.len().saturating_sub(LONGEST_PAST);
        if surplus == 0 {
            return;
        }
        let mut end = 0;
        for line in self.lines.split_inclusive('\n') {
            if end >= surplus && !is_uri(line) && line.starts_with("#EXTINF") {
                break;
            }
            end += line.len();
            self.dropped_discontinuities += u64::from(line == DISCONTINUITY_LINE);
            if is_uri(line) {
                self.dropped += 1;
                self.listed -= 1;
            }
        }
        self.lines.drain(..end);
    }
}

const VERSION: &str = "#EXT-X-VERSION:";
const TARGET: &str = "#EXT-X-TARGETDURATION:";
const SEQUENCE: &str = "#EXT-X-MEDIA-SEQUENCE:";
const DISCONTINUITY_SEQUENCE: &str = "#EXT-X-DISCONTINUITY-SEQUENCE:";
const DISCONTINUITY: &str = "#EXT-X-DISCONTINUITY";
const DISCONTINUITY_LINE: &str = "#EXT-X-DISCONTINUITY\n";
const EVENT: &str = "#EXT-X-PLAYLIST-TYPE";
const GAP: &str = "#EXT-X-GAP";

/// The protocol version that introduced `#EXT-X-GAP`.
const GAPS_SINCE: u64 = 8;

/// Tags of the whole list, which stay. A list without its beginning is no longer an EVENT list.
const OF_HEAD: &[&str] = &[EVENT, "#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-START", "#EXT-X-ALLOW-CACHE"];

const WRITTEN_ANEW: &[&str] = &["#EXTM3U", VERSION, TARGET, SEQUENCE, DISCONTINUITY_SEQUENCE];

fn is_uri(line: &str) -> bool {
    let line = line.trim_end();
    !line.is_empty() && !line.starts_with('#')
}

/// The job's name in `hls/{name}/{name}{number}.ts`.
fn name_in(uri: &str) -> Option<Name> {
    let mut segments = uri.split(['/', '?']);
    segments.find(|segment| segment.eq_ignore_ascii_case("hls"))?;
    segments.next().and_then(Name::of)
}

fn number(playlist: &str, tag: &str) -> Option<u64> {
    playlist.lines().find_map(|line| line.trim_end().strip_prefix(tag)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "1ee6004c134d74296862b20a8f40b956";
    const B: &str = "2ee6004c134d74296862b20a8f40b956";

    /// As ffmpeg writes it.
    fn playlist(name: &str, segments: usize) -> String {
        let mut text = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n\
                        #EXT-X-PLAYLIST-TYPE:EVENT\n"
            .to_owned();
        for number in 0..segments {
            let _ = writeln!(text, "#EXTINF:3.000000,\nhls/{name}/{name}{number}.ts");
        }
        text
    }

    fn uris(text: &str) -> Vec<&str> {
        text.lines().filter(|line| is_uri(line)).collect()
    }

    #[test]
    fn a_segment_is_told_by_its_number() {
        let number = |rest: &str| number_of(&format!("{A}{rest}"));
        assert_eq!([number("0.ts"), number("12.mp4"), number("-1.mp4")], [Some(0), Some(12), Some(0)]);
        assert_eq!([number(".ts"), number("x.ts"), number_of("7.ts")], [None; 3]);
    }

    #[test]
    fn what_is_read_of_a_playlist() {
        let text = playlist(A, 4);
        assert_eq!(PlaylistSummary::of(&text), Some(PlaylistSummary { name: Name::of(A), segments: 4 }));
        assert_eq!(
            PlaylistSummary::of(&text.replace('\n', "\r\n")),
            Some(PlaylistSummary { name: Name::of(A), segments: 4 })
        );
        assert_eq!(PlaylistSummary::of(&playlist(A, 0)), Some(PlaylistSummary { name: None, segments: 0 }));
        let slid = text.replace("SEQUENCE:0", "SEQUENCE:10");
        assert_eq!(PlaylistSummary::of(&slid).map(|outline| outline.segments), Some(14));
        assert_eq!(PlaylistSummary::of("{}"), None);
        assert_eq!(Name::of("short"), None);
        assert_eq!(Name::of("+ee6004c134d74296862b20a8f40b956"), None);
    }

    #[test]
    fn a_second_job_follows_a_first_one_in_the_same_list() {
        let past = PlaylistHistory::default().and(Some(&playlist(A, 2)), 2);
        let now = playlist(B, 1).replace("TARGETDURATION:3", "TARGETDURATION:5") + "#EXT-X-ENDLIST\n";
        assert_eq!(
            past.followed_by(&now),
            format!(
                "#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:0\n\
                 #EXT-X-PLAYLIST-TYPE:EVENT\n\
                 #EXTINF:3.000000,\n#EXT-X-GAP\nhls/{A}/{A}0.ts\n#EXTINF:3.000000,\n#EXT-X-GAP\nhls/{A}/{A}1.ts\n\
                 #EXT-X-DISCONTINUITY\n#EXTINF:3.000000,\nhls/{B}/{B}0.ts\n#EXT-X-ENDLIST\n"
            )
        );
    }

    #[test]
    fn the_initialization_of_the_new_job_stands_behind_the_discontinuity() {
        let map = format!("#EXT-X-MAP:URI=\"hls/{B}/{B}-1.mp4\"");
        let old = playlist(A, 1).replace("EVENT\n", "EVENT\n#EXT-X-MAP:URI=\"old\"\n");
        let now = playlist(B, 1).replace("EVENT\n", &format!("EVENT\n{map}\n"));
        let whole = PlaylistHistory::default().and(Some(&old), 1).followed_by(&now);
        assert!(whole.contains(&format!("{DISCONTINUITY}\n{map}\n")), "{whole}");
        assert!(!whole.contains("old"), "what is gone needs none: {whole}");
    }

    #[test]
    fn a_long_past_loses_its_beginning_and_keeps_every_number() {
        let long = PlaylistHistory::default().and(Some(&playlist(A, 20_000)), 20_000);
        assert!(long.lines.len() <= LONGEST_PAST && long.dropped > 0);
        assert!(long.lines.starts_with("#EXTINF"));
        let whole = long.followed_by(&playlist(B, 3));
        assert_eq!(PlaylistSummary::of(&whole).map(|outline| outline.segments), Some(20_003));
        assert!(!whole.contains(EVENT), "a list that slides is no EVENT list");
        let again = long.and(Some(&playlist(B, 20_000)), 20_000);
        assert_eq!((again.segments(), again.dropped_discontinuities), (40_000, 1));
        let unknown = PlaylistHistory::default().and(None, 7).and(None, 3);
        assert_eq!((unknown.segments(), unknown.dropped_discontinuities), (10, 1));
    }

    proptest! {
        #[test]
        fn a_list_only_grows_whatever_jobs_end(lives in prop::collection::vec(0_usize..9, 1..5)) {
            let names = [A, B];
            let (mut past, mut seen) = (PlaylistHistory::default(), Vec::new());
            for (number, most) in lives.iter().enumerate() {
                for segments in 0..=*most {
                    let text = playlist(names[number % 2], segments);
                    let shown = if number == 0 { text } else { past.followed_by(&text) };
                    let now: Vec<String> = uris(&shown).into_iter().map(str::to_owned).collect();
                    prop_assert!(now.starts_with(&seen), "{:?} after {:?}", now, seen);
                    prop_assert_eq!(PlaylistSummary::of(&shown).map(|outline| outline.segments), Some(now.len() as u64));
                    seen = now;
                }
                past = past.and(Some(&playlist(names[number % 2], *most)), *most as u64);
            }
        }

        #[test]
        fn no_text_whatever_does_harm(text in "[#A-Z:\\-0-9,/\r\n]{0,200}") {
            let _ = PlaylistSummary::of(&text);
            let _ = PlaylistHistory::default().and(Some(&text), 1).followed_by(&text);
        }
    }
}
