//! The differences that are let pass, each with its reason. What is not listed here fails the test, and so does a
//! row that nothing needs any more.

use crate::difference::{Difference, Kind};

/// One row: where (a `*` stands for anything), what kind, and why it cannot be equal.
pub(crate) struct Row {
    /// `12.0`, `10.11`, or `*` for both.
    pub(crate) generation: &'static str,
    /// The number of the file, or `*`.
    pub(crate) file: &'static str,
    pub(crate) at: &'static str,
    pub(crate) kind: Kind,
    pub(crate) reason: &'static str,
}

const PORT: &str = "it is the port that the pod listens on";
const LIBRARY: &str = "the simulated library holds other items than the recorded one";
const DIRECTORY: &str = "it lies in the data directory, and the recorded pod was given that with a slash too many";
const FILM: &str = "the simulated film is a minute of H.264 and AAC in 320x180, the recorded one was another";
const FILES: &str = "the segments of the simulated film and its poster are other files";
const SEGMENTS: &str = "the simulated film has fewer segments";
const POSTER: &str = "the tag is made of the picture, and it is another picture";
const PLAYED: &str = "it is how long the group has played when it pauses";
const SAVED: &str = "it is made of the moment when the item was saved";
const AGE: &str = "it is how long the picture has been in the cache";
const RIGHTS: &str = "the administrator of that recording was made without the right";
const FIRST_LOG_IN: &str = "the recorded user had not logged in before, and the date was not to be seen until later";

#[rustfmt::skip]
pub(crate) const TABLE: &[Row] = &[
    row("*", "01", Kind::Value, "body WebSocketPortNumber", PORT),
    row("*", "01", Kind::Value, "body Items[].ChildCount", LIBRARY),
    row("12.0", "01", Kind::Value, "body Items[].Path", DIRECTORY),
    row("10.11", "01", Kind::Value, "body Items[].Etag", LIBRARY),
    row("10.11", "01", Kind::Extra, "body LastLoginDate", FIRST_LOG_IN),
    row("10.11", "01", Kind::Extra, "body User.LastLoginDate", FIRST_LOG_IN),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.Name", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.Path", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.RunTimeTicks", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.Height", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.Width", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.MediaStreams[].BitRate", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.MediaStreams[].Codec", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.MediaStreams[].DisplayTitle", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.MediaStreams[].Height", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.MediaStreams[].Level", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.MediaStreams[].Profile", FILM),
    row("*", "03", Kind::Value, "frame Data[].NowPlayingItem.MediaStreams[].Width", FILM),
    row("10.11", "03", Kind::Value, "frame Data[].NowPlayingItem.ImageTags.Primary", POSTER),
    row("10.11", "03", Kind::Missing, "frame Data[].NowPlayingItem.ImageBlurHashes.Primary.*", POSTER),
    row("10.11", "03", Kind::Extra, "frame Data[].NowPlayingItem.ImageBlurHashes.Primary.*", POSTER),
    row("*", "05", Kind::Value, "frame Data.PositionTicks", PLAYED),
    row("*", "06", Kind::Value, "body MediaSources[].Name", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].Path", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].RunTimeTicks", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].Size", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].Bitrate", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].MediaStreams[].BitRate", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].MediaStreams[].Codec", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].MediaStreams[].DisplayTitle", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].MediaStreams[].Height", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].MediaStreams[].Level", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].MediaStreams[].Profile", FILM),
    row("*", "06", Kind::Value, "body MediaSources[].MediaStreams[].Width", FILM),
    row("*", "06", Kind::Missing, "body MediaSources[].TranscodingUrl query mpeg4-level", FILM),
    row("*", "06", Kind::Extra, "body MediaSources[].TranscodingUrl query h264-level", FILM),
    row("*", "06", Kind::Missing, "body MediaSources[].TranscodingUrl query mpeg4-videobitdepth", FILM),
    row("*", "06", Kind::Extra, "body MediaSources[].TranscodingUrl query h264-videobitdepth", FILM),
    row("*", "06", Kind::Missing, "body MediaSources[].TranscodingUrl query mpeg4-profile", FILM),
    row("*", "06", Kind::Extra, "body MediaSources[].TranscodingUrl query h264-profile", FILM),
    row("12.0", "06", Kind::Value, "body MediaSources[].TranscodingUrl query TranscodeReasons", FILM),
    row("*", "06", Kind::Value, "playlist #EXT-X-STREAM-INF", FILM),
    row("*", "06", Kind::Value, "header Content-Length of a file", FILES),
    row("*", "06", Kind::Length, "body of a file", FILES),
    row("*", "06", Kind::Value, "header Content-Range total", FILES),
    row("*", "06", Kind::Value, "header Content-Length of a playlist", SEGMENTS),
    row("10.11", "06", Kind::Value, "header Age", AGE),
    row("12.0", "10", Kind::Value, "body User.Policy.EnableLiveTvManagement", RIGHTS),
    row("12.0", "10", Kind::Value, "body Items[].ImageTags.Primary", POSTER),
    row("12.0", "10", Kind::Missing, "body Items[].ImageBlurHashes.Primary.*", POSTER),
    row("12.0", "10", Kind::Extra, "body Items[].ImageBlurHashes.Primary.*", POSTER),
    row("12.0", "11", Kind::Value, "body User.Policy.EnableLiveTvManagement", RIGHTS),
    row("12.0", "11", Kind::Value, "body DisplayPreferencesId", LIBRARY),
    row("12.0", "11", Kind::Value, "body Etag", SAVED),
    row("12.0", "11", Kind::Value, "body MediaSources[].*", FILM),
    row("12.0", "11", Kind::Value, "body Name", FILM),
    row("12.0", "11", Kind::Value, "body ParentId", LIBRARY),
    row("12.0", "11", Kind::Value, "body Path", FILM),
    row("12.0", "11", Kind::Value, "body ProductionYear", FILM),
    row("12.0", "11", Kind::Value, "body RunTimeTicks", FILM),
    row("12.0", "11", Kind::Value, "body SortName", FILM),
    row("12.0", "11", Kind::Value, "header Age", AGE),
    row("12.0", "11", Kind::Value, "body Items[].Name", FILM),
    row("12.0", "11", Kind::Value, "body Items[].Container", FILM),
    row("12.0", "11", Kind::Value, "body Items[].ProductionYear", FILM),
    row("12.0", "11", Kind::Value, "body Items[].RunTimeTicks", FILM),
    row("12.0", "11", Kind::Value, "body Items[].ImageTags.Primary", POSTER),
    row("12.0", "11", Kind::Missing, "body Items[].ImageBlurHashes.Primary.*", POSTER),
    row("12.0", "11", Kind::Extra, "body Items[].ImageBlurHashes.Primary.*", POSTER),
];

const fn row(generation: &'static str, file: &'static str, kind: Kind, at: &'static str, reason: &'static str) -> Row {
    Row { generation, file, at, kind, reason }
}

/// The table of one generation, with a count of how often each row was needed.
pub(crate) struct Tolerance {
    rows: Vec<(&'static Row, usize)>,
}

impl Tolerance {
    pub(crate) fn of(generation: &str) -> Tolerance {
        let rows = TABLE
            .iter()
            .filter(|row| row.generation == "*" || row.generation == generation)
            .map(|row| (row, 0))
            .collect();
        Tolerance { rows }
    }

    /// Whether a row lets the difference pass.
    pub(crate) fn forgives(&mut self, file: &str, difference: &Difference) -> bool {
        let row = self.rows.iter_mut().find(|(row, _)| {
            (row.file == "*" || row.file == file) && row.kind == difference.kind && fits(row.at, &difference.at)
        });
        match row {
            Some((_, uses)) => {
                *uses += 1;
                true
            }
            None => false,
        }
    }

    /// The rows with their uses.
    pub(crate) fn rows(&self) -> &[(&'static Row, usize)] {
        &self.rows
    }
}

fn fits(pattern: &str, at: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == at,
        Some((before, after)) => at
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|skip| rest.get(skip..).is_some_and(|rest| fits(after, rest)))),
    }
}
