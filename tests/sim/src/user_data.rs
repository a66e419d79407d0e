//! A user's data of an item: favourite, played, position, rating; and Jellyfin's rules of how reports change them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock;
use crate::identifiers::dashed;

/// A row of the `UserData` table. Jellyfin always writes it whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UserData {
    /// Where to resume, in ticks of 100 ns.
    pub position: i64,
    /// How often it was played.
    pub play_count: i64,
    /// Whether the user has marked it as a favourite.
    pub favorite: bool,
    /// Whether it counts as played.
    pub played: bool,
    /// When it was played last.
    pub last_played: Option<String>,
    /// 0 to 10; from 6.5 on the user likes it.
    pub rating: Option<f64>,
}

/// What the rules have to know of an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// `None` of a channel.
    pub(crate) ticks: Option<i64>,
    /// `SupportsPlayedStatus`.
    pub(crate) can_be_played: bool,
    pub(crate) plays: Plays,
}

/// Where an item of a kind is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plays {
    ByPercent,
    /// Audio books, by minutes from the beginning and to the end.
    ByMinutes,
    /// Music: no position is kept (`SupportsPositionTicksResume`).
    FromStart,
}

/// `MinResumePct`, `MaxResumePct` and `MinResumeDurationSeconds` as they are by default.
const MIN_RESUME_PERCENT: i64 = 5;
const MAX_RESUME_PERCENT: i64 = 90;
const MIN_RESUME_SECONDS: i64 = 300;

/// `MinAudiobookResume` and `MaxAudiobookResume`, in minutes.
const AUDIO_BOOK_MINUTES: i64 = 5;

const SECOND: i64 = 10_000_000;

impl UserData {
    /// `OnPlaybackStart` of `SessionManager`.
    pub(crate) fn start(&mut self, length: Length) {
        self.play_count += 1;
        self.last_played = Some(clock::now());
        self.played = length.can_be_played && length.plays == Plays::FromStart;
    }

    /// `OnPlaybackStopped` of `SessionManager`: without a position it was played to its end.
    pub(crate) fn stop(&mut self, position: Option<i64>, length: Length) {
        match position {
            Some(position) => self.reach(position, length),
            None => {
                self.play_count += 1;
                self.played = length.can_be_played;
                self.position = 0;
            }
        }
    }

    /// `UserDataManager.UpdatePlayState`: the beginning is no position, the end is played, and what is short is not
    /// resumed. An audio book's ends are minutes long.
    pub(crate) fn reach(&mut self, position: i64, length: Length) {
        let total = length.ticks.unwrap_or(0);
        self.position = position;
        if total <= 0 {
            self.played = true;
            self.position = 0;
        } else if position > 0 && length.plays == Plays::ByMinutes {
            let limit = AUDIO_BOOK_MINUTES * 60 * SECOND;
            if position < limit {
                self.position = 0;
            } else if total - position < limit || position >= total {
                self.position = 0;
                self.played = true;
            }
        } else if position > 0 {
            let is_beginning = position * 100 < MIN_RESUME_PERCENT * total;
            let is_end = position * 100 > MAX_RESUME_PERCENT * total || position >= total - SECOND;
            if is_beginning {
                self.position = 0;
            } else if is_end || total < MIN_RESUME_SECONDS * SECOND {
                self.position = 0;
                self.played = true;
            }
        }
        if !length.can_be_played {
            self.position = 0;
            self.played = false;
        }
        if length.plays == Plays::FromStart {
            self.position = 0;
        }
    }

    /// `BaseItem.MarkPlayed`.
    pub(crate) fn mark_played(&mut self, date: Option<String>) {
        self.play_count = (self.play_count + i64::from(date.is_some())).max(1);
        self.position = 0;
        self.last_played = date.or_else(|| self.last_played.take()).or_else(|| Some(clock::now()));
        self.played = true;
    }

    /// `BaseItem.MarkUnplayed`.
    pub(crate) fn mark_unplayed(&mut self) {
        *self = UserData { favorite: self.favorite, rating: self.rating, ..UserData::default() };
    }

    /// `UserItemData.Likes`: a yes or no is stored as a rating.
    pub(crate) fn like(&mut self, likes: Option<bool>) {
        self.rating = likes.map(|likes| if likes { 10.0 } else { 1.0 });
    }

    /// `SaveUserData` with `UpdateUserItemDataDto`: what is absent or null stays as it is.
    pub(crate) fn update(&mut self, given: impl Fn(&str) -> Option<Value>) {
        let number = |name| given(name).and_then(|value| value.as_i64());
        let switch = |name| given(name).and_then(|value| value.as_bool());
        self.position = number("PlaybackPositionTicks").unwrap_or(self.position);
        self.play_count = number("PlayCount").unwrap_or(self.play_count);
        self.favorite = switch("IsFavorite").unwrap_or(self.favorite);
        if let Some(likes) = switch("Likes") {
            self.like(Some(likes));
        }
        self.played = switch("Played").unwrap_or(self.played);
        if let Some(date) = given("LastPlayedDate").and_then(|value| value.as_str().map(str::to_owned)) {
            self.last_played = Some(date);
        }
        if let Some(rating) = given("Rating").and_then(|value| value.as_f64()) {
            self.rating = Some(rating);
        }
    }

    /// `UserItemDataDto`; what is null is left out.
    pub(crate) fn dto(&self, item_id: &str, length: Length) -> Value {
        let mut dto = json!({
            "PlaybackPositionTicks": self.position,
            "PlayCount": self.play_count,
            "IsFavorite": self.favorite,
            "Played": self.played,
            "Key": dashed(item_id),
            "ItemId": item_id,
        });
        if let Some(date) = &self.last_played {
            dto["LastPlayedDate"] = json!(date);
        }
        if let Some(rating) = self.rating {
            dto["Rating"] = json!(rating);
            dto["Likes"] = json!(rating >= 6.5);
        }
        if let Some(total) = length.ticks.filter(|total| *total > 0 && self.position > 0) {
            dto["PlayedPercentage"] = json!(self.position as f64 / total as f64 * 100.0);
        }
        dto
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Length = Length { ticks: Some(3600 * SECOND), can_be_played: true, plays: Plays::ByPercent };
    const MINUTE: Length = Length { ticks: Some(60 * SECOND), ..HOUR };
    const ENDLESS: Length = Length { ticks: None, ..HOUR };
    const CHANNEL: Length = Length { ticks: None, can_be_played: false, ..HOUR };
    const SONG: Length = Length { ticks: Some(600 * SECOND), plays: Plays::FromStart, ..HOUR };
    const BOOK: Length = Length { plays: Plays::ByMinutes, ..HOUR };

    #[test]
    fn a_position_is_kept_between_the_beginning_and_the_end() {
        for (seconds, length, position, played) in [
            (0, HOUR, 0, false),
            (179, HOUR, 0, false),
            (180, HOUR, 180, false),
            (3240, HOUR, 3240, false),
            (3241, HOUR, 0, true),
            (3599, HOUR, 0, true),
            (2, MINUTE, 0, false),
            (30, MINUTE, 0, true),
            (30, CHANNEL, 0, false),
            (0, ENDLESS, 0, true),
            (30, ENDLESS, 0, true),
            (300, SONG, 0, false),
            (595, SONG, 0, true),
            (299, BOOK, 0, false),
            (3290, BOOK, 3290, false),
            (3301, BOOK, 0, true),
        ] {
            let mut data = UserData::default();
            data.reach(seconds * SECOND, length);
            assert_eq!((data.position, data.played), (position * SECOND, played), "{seconds} s of {length:?}");
        }
    }

    #[test]
    fn a_mark_counts_once_and_a_date_counts_again() {
        let mut data = UserData { position: 5, favorite: true, ..UserData::default() };
        data.mark_played(None);
        data.mark_played(None);
        assert_eq!((data.play_count, data.position, data.played, data.favorite), (1, 0, true, true));
        data.mark_played(Some("2026-01-01T00:00:00.0000000Z".to_owned()));
        assert_eq!((data.play_count, data.last_played.as_deref()), (2, Some("2026-01-01T00:00:00.0000000Z")));
        data.mark_unplayed();
        assert_eq!(data, UserData { favorite: true, ..UserData::default() });
    }

    #[test]
    fn an_update_leaves_what_is_null() {
        let mut data = UserData { last_played: Some("x".to_owned()), rating: Some(10.0), ..UserData::default() };
        let given = json!({"LastPlayedDate": null, "Likes": null, "IsFavorite": true, "PlayCount": 3});
        data.update(|name| given.get(name).cloned());
        assert_eq!((data.last_played.as_deref(), data.rating), (Some("x"), Some(10.0)));
        assert_eq!((data.favorite, data.play_count), (true, 3));
        data.update(|name| json!({"Likes": false}).get(name).cloned());
        assert_eq!(data.dto("0", HOUR)["Likes"], json!(false));
    }
}
