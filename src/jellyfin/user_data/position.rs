//! What the server makes of a playback position, by the kind of the item and its length.
//!
//! Source: `UserDataManager.UpdatePlayState`, `SessionManager.OnPlaybackStart`.

use serde_json::{Value, json};

use super::Row;

const SECOND: i64 = 10_000_000;

/// The server's limits between a beginning, a place to resume, and an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeLimits {
    /// `MinResumePct` and `MaxResumePct`.
    percent: (i64, i64),
    /// `MinResumeDurationSeconds`.
    shortest_seconds: i64,
    /// `MinAudiobookResume` and `MaxAudiobookResume`: minutes from the beginning, and to the end.
    audio_book_minutes: (i64, i64),
}

impl Default for ResumeLimits {
    fn default() -> ResumeLimits {
        ResumeLimits { percent: (5, 90), shortest_seconds: 300, audio_book_minutes: (5, 5) }
    }
}

impl ResumeLimits {
    /// Reads the server's configuration; what it does not name has its default.
    pub fn of(configuration: &Value) -> ResumeLimits {
        let default = ResumeLimits::default();
        let number = |name, or| configuration.get(name).and_then(Value::as_i64).unwrap_or(or);
        ResumeLimits {
            percent: (number("MinResumePct", default.percent.0), number("MaxResumePct", default.percent.1)),
            shortest_seconds: number("MinResumeDurationSeconds", default.shortest_seconds),
            audio_book_minutes: (
                number("MinAudiobookResume", default.audio_book_minutes.0),
                number("MaxAudiobookResume", default.audio_book_minutes.1),
            ),
        }
    }
}

/// What is played, as far as its position depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayedItem {
    pub kind: PlayedKind,
    /// Its length in ticks of 100 ns, if the server knows it.
    pub runtime: Option<i64>,
    pub limits: ResumeLimits,
}

/// Kinds of items that keep positions in different ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlayedKind {
    #[default]
    Video,
    /// Music starts at its beginning each time.
    Audio,
    AudioBook,
    /// Live television is neither played nor resumed.
    Channel,
}

impl PlayedItem {
    /// Reads the kind and length from an item's JSON. The limits are the defaults.
    pub fn of(item: &Value) -> PlayedItem {
        let kind = match item.get("Type").and_then(Value::as_str) {
            Some("Audio") => PlayedKind::Audio,
            Some("AudioBook") => PlayedKind::AudioBook,
            Some("TvChannel" | "LiveTvChannel") => PlayedKind::Channel,
            _ => PlayedKind::Video,
        };
        let runtime = item.get("RunTimeTicks").and_then(Value::as_i64).filter(|runtime| *runtime > 0);
        PlayedItem { kind, runtime, limits: ResumeLimits::default() }
    }

    /// The part of the row that the beginning of playback sets, besides count and date.
    pub fn started(self) -> Row {
        Row::of(&[("Played", json!(self.kind == PlayedKind::Audio))])
    }

    /// The part of the row that a reported position sets. The beginning counts as none, and the end
    /// as played.
    pub fn at(self, ticks: i64) -> Row {
        let resumed = |ticks: i64| ("PlaybackPositionTicks", json!(ticks));
        let played = ("Played", json!(true));
        if self.kind == PlayedKind::Channel {
            return Row::default();
        }
        let Some(runtime) = self.runtime else { return Row::of(&[resumed(0), played]) };
        let ResumeLimits { percent, shortest_seconds, audio_book_minutes } = self.limits;
        let part = |percent: i64| runtime.saturating_mul(percent) / 100;
        let minutes = |minutes: i64| minutes.saturating_mul(60 * SECOND);
        let is_last_second = ticks >= runtime - SECOND;
        let (is_beginning, is_end) = match self.kind {
            PlayedKind::AudioBook => {
                (ticks < minutes(audio_book_minutes.0), runtime - ticks < minutes(audio_book_minutes.1))
            }
            _ => {
                (ticks < part(percent.0), ticks > part(percent.1) || runtime < shortest_seconds.saturating_mul(SECOND))
            }
        };
        match (is_beginning, is_end || is_last_second) {
            (true, _) => Row::of(&[resumed(0)]),
            (false, true) => Row::of(&[resumed(0), played]),
            (false, false) => Row::of(&[resumed(if self.kind == PlayedKind::Audio { 0 } else { ticks })]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_as_the_server_counts_it() {
        let hour = Some(3600);
        for (kind, seconds, runtime, body) in [
            ("Movie", 100, hour, r#"{"PlaybackPositionTicks":0}"#),
            ("Movie", 1800, hour, r#"{"PlaybackPositionTicks":18000000000}"#),
            ("Movie", 3300, hour, r#"{"PlaybackPositionTicks":0,"Played":true}"#),
            ("Episode", 30, Some(60), r#"{"PlaybackPositionTicks":0,"Played":true}"#),
            ("Movie", 30, None, r#"{"PlaybackPositionTicks":0,"Played":true}"#),
            ("Audio", 300, Some(600), r#"{"PlaybackPositionTicks":0}"#),
            ("Audio", 590, Some(600), r#"{"PlaybackPositionTicks":0,"Played":true}"#),
            ("AudioBook", 200, hour, r#"{"PlaybackPositionTicks":0}"#),
            ("AudioBook", 3290, hour, r#"{"PlaybackPositionTicks":32900000000}"#),
            ("AudioBook", 3310, hour, r#"{"PlaybackPositionTicks":0,"Played":true}"#),
            ("TvChannel", 300, None, "{}"),
        ] {
            let item = PlayedItem::of(&json!({"Type": kind, "RunTimeTicks": runtime.map(|runtime| runtime * SECOND)}));
            let row = item.at(seconds * SECOND);
            assert_eq!(std::str::from_utf8(&row.to_body()), Ok(body), "{seconds} of {runtime:?}, {kind}");
        }
        let limits = ResumeLimits::of(&json!({"MinResumePct": 5, "MaxResumePct": 95}));
        let film = PlayedItem { limits, ..PlayedItem::of(&json!({"RunTimeTicks": 3600 * SECOND})) };
        assert_eq!(film.at(3300 * SECOND), Row::of(&[("PlaybackPositionTicks", json!(3300 * SECOND))]));
    }
}
