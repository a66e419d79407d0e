//! The media library, the same on every pod: a film that really plays, a file too large to keep, and a live channel.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};

use crate::generation::Generation;

/// The id of the film: one minute in a small Matroska file.
pub const FILM: &str = "11f0c1a5e0b04d6e9d3a7c2f5b8e4d01";

/// The id of the item whose bytes are made on the fly.
pub const BULK: &str = "22f0c1a5e0b04d6e9d3a7c2f5b8e4d02";

/// The id of the live channel.
pub const CHANNEL: &str = "33f0c1a5e0b04d6e9d3a7c2f5b8e4d03";

/// The id of the view that holds them.
pub(crate) const VIEW: &str = "f137a2dd21bbc1b99aa5c0f6bf02a805";

/// The film's file.
pub(crate) static FILM_FILE: &[u8] = include_bytes!("../media/film.mkv");

/// The film's poster.
pub(crate) static POSTER: &[u8] = include_bytes!("../media/poster.jpg");

/// A picture for users and the like.
pub(crate) static LOGO: &[u8] = include_bytes!("../media/logo.png");

/// When every file was last changed.
pub(crate) const LAST_MODIFIED: &str = "Sun, 01 Nov 2026 10:00:00 GMT";

/// The length of a segment in ticks of 100 ns.
pub(crate) const SEGMENT_TICKS: u64 = 30_000_000;

macro_rules! segments {
    ($($number:literal)*) => { [$(include_bytes!(concat!("../media/hls/", $number, ".ts")) as &[u8]),*] };
}

/// The film as transport-stream segments of three seconds.
pub(crate) static SEGMENTS: [&[u8]; 20] = segments!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);

/// The bytes of a live job's segment: a channel shows the film again and again.
pub fn live_segment_bytes(number: usize) -> &'static [u8] {
    SEGMENTS[number % SEGMENTS.len()]
}

/// An item of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Film,
    Bulk,
    Channel,
}

impl Item {
    pub(crate) const ALL: [Item; 3] = [Item::Film, Item::Bulk, Item::Channel];

    /// The item of a plain GUID.
    pub(crate) fn of(id: &str) -> Option<Item> {
        Item::ALL.into_iter().find(|item| item.id() == id)
    }

    pub(crate) fn id(self) -> &'static str {
        match self {
            Item::Film => FILM,
            Item::Bulk => BULK,
            Item::Channel => CHANNEL,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Item::Film => "Test Picture (2021)",
            Item::Bulk => "Bulk (2022)",
            Item::Channel => "Channel One",
        }
    }

    pub(crate) fn path(self) -> String {
        format!("/jellyfin/media/{0}/{0}.mkv", self.name())
    }
}

/// The two streams of the film.
pub(crate) fn media_streams(generation: Generation) -> Value {
    let mut streams = json!([
        {
            "Codec": "h264", "TimeBase": "1/1000", "VideoRange": "SDR", "VideoRangeType": "SDR",
            "AudioSpatialFormat": "None", "DisplayTitle": "180p H264 SDR", "IsInterlaced": false, "BitRate": 33_000,
            "BitDepth": 8, "RefFrames": 1, "IsDefault": false, "IsForced": false, "IsHearingImpaired": false,
            "IsOriginal": false, "Height": 180, "Width": 320, "AverageFrameRate": 24, "RealFrameRate": 24,
            "ReferenceFrameRate": 24, "Profile": "Constrained Baseline", "Type": "Video", "AspectRatio": "16:9",
            "Index": 0, "IsExternal": false, "IsTextSubtitleStream": false, "SupportsExternalStream": false,
            "PixelFormat": "yuv420p", "Level": 12, "IsAnamorphic": false,
        },
        {
            "Codec": "aac", "TimeBase": "1/1000", "VideoRange": "Unknown", "VideoRangeType": "Unknown",
            "AudioSpatialFormat": "None", "LocalizedDefault": "Default", "LocalizedExternal": "External",
            "LocalizedOriginal": "Original", "DisplayTitle": "AAC - Mono", "IsInterlaced": false,
            "ChannelLayout": "mono", "BitRate": 32_000, "Channels": 1, "SampleRate": 44_100, "IsDefault": false,
            "IsForced": false, "IsHearingImpaired": false, "IsOriginal": false, "Type": "Audio", "Index": 1,
            "IsExternal": false, "IsTextSubtitleStream": false, "SupportsExternalStream": false,
        },
    ]);
    if generation == Generation::V10_11 {
        for stream in streams.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            stream.remove("IsOriginal");
            stream.remove("LocalizedOriginal");
            stream.insert("IsAVC".to_owned(), json!(false));
            stream.entry("Level").or_insert(json!(0));
        }
    }
    streams
}

/// The period of the bulk item's bytes: a prime, so that a range off by any power of two is found out.
const PAGE: usize = 1_048_573;

/// The bytes of the bulk item from `offset` on: noise that repeats after a prime period, so any range can be checked.
pub fn bulk_bytes(offset: u64, length: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(length);
    while bytes.len() < length {
        bytes.put(bulk_piece(offset + bytes.len() as u64, length - bytes.len()));
    }
    bytes.freeze()
}

/// The same without a copy, and at most to the end of a period.
pub(crate) fn bulk_piece(offset: u64, length: usize) -> Bytes {
    static PAGE_OF_NOISE: OnceLock<Bytes> = OnceLock::new();
    let page = PAGE_OF_NOISE.get_or_init(|| (0..PAGE as u64).map(|place| split_mix(place).to_le_bytes()[0]).collect());
    // The remainder is smaller than the page.
    let from = usize::try_from(offset % PAGE as u64).unwrap_or_default();
    page.slice(from..(from + length).min(PAGE))
}

/// The finalizer of SplitMix64.
fn split_mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_bytes_are_the_same_however_they_are_cut() {
        let whole = bulk_bytes(1000, 100);
        assert_eq!(bulk_bytes(1003, 20), whole.slice(3..23));
        assert_ne!(bulk_bytes(1008, 8), bulk_bytes(1016, 8));
        let over_the_end = bulk_bytes(PAGE as u64 - 3, 8);
        assert_eq!(over_the_end[3..], bulk_bytes(0, 5));
        assert!(bulk_bytes(5, 0).is_empty());
    }
}
