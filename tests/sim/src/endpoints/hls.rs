//! HLS: the computed playlists that any pod can answer, and the live ones that only the pod with the job can.

use std::fmt::Write;

use http::StatusCode;
use serde_json::json;

use crate::answer::Answer;
use crate::call::Call;
use crate::files::{File, physical_file};
use crate::library::{Item, SEGMENT_TICKS, SEGMENTS, live_segment_bytes};
use crate::single_writer;
use crate::transcoding::LiveKey;

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const SEGMENT: &str = "video/mp2t";

/// `master.m3u8`: one variant, with the whole query repeated. That of a live stream is `live.m3u8`, and needs the stream open here.
pub(crate) fn master(call: &Call) -> Answer {
    if Item::of(&call.guid(0)).is_none() {
        return Answer::error(StatusCode::NOT_FOUND);
    }
    let stream = call.query.get("LiveStreamId");
    if stream.as_ref().is_some_and(|id| call.life().memory().live_streams.path(id).is_none()) {
        return Answer::error(StatusCode::NOT_FOUND);
    }
    let variant = if stream.is_some() { "live.m3u8" } else { "main.m3u8" };
    let text = format!(
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=400000,AVERAGE-BANDWIDTH=400000,VIDEO-RANGE=SDR,\
         CODECS=\"avc1.42400C,mp4a.40.2\",RESOLUTION=320x180,FRAME-RATE=24\n{variant}?{}\n",
        call.query.raw(),
    );
    Answer::sized(PLAYLIST, text).with("expires", "0")
}

/// `main.m3u8`: every segment of the film, with the whole query repeated on each.
pub(crate) fn main(call: &Call) -> Answer {
    if Item::of(&call.guid(0)).is_none() {
        return Answer::error(StatusCode::NOT_FOUND);
    }
    let mut text = "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n\
                    #EXT-X-MEDIA-SEQUENCE:0\n"
        .to_owned();
    for number in 0..SEGMENTS.len() {
        let ticks = number as u64 * SEGMENT_TICKS;
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "#EXTINF:3.000000, nodesc\nhls1/main/{number}.ts?{}&runtimeTicks={ticks}&actualSegmentLengthTicks={SEGMENT_TICKS}",
            call.query.raw(),
        );
    }
    text.push_str("#EXT-X-ENDLIST\n");
    Answer::sized(PLAYLIST, text)
}

/// `hls1/{playlist}/{n}.ts`: every pod that accepts the token can make it.
pub(crate) fn segment(call: &Call) -> Answer {
    let number = call.captured(2).strip_suffix(".ts").and_then(|number| number.parse::<usize>().ok());
    if number.is_some_and(|number| number < SEGMENTS.len() && !single_writer::may_send(call, number)) {
        return Answer::unavailable().with("retry-after", "2");
    }
    match (Item::of(&call.guid(0)), number.and_then(|number| SEGMENTS.get(number))) {
        (Some(_), Some(bytes)) => physical_file(call, SEGMENT, File::Kept(bytes)),
        _ => Answer::error(StatusCode::NOT_FOUND),
    }
}

/// `live.m3u8`: starts the job on this pod, and is ffmpeg's own file: an EVENT playlist that grows, its segments named
/// without a query.
pub(crate) fn live(call: &Call) -> Answer {
    let Some(item) = Item::of(&call.guid(0)) else {
        return Answer::error(StatusCode::NOT_FOUND);
    };
    let mut path = item.path();
    let mut memory = call.life().memory();
    let stream = call.query.get("LiveStreamId");
    if let Some(id) = &stream {
        match memory.live_streams.path(id) {
            Some(open) => path = open,
            None => return Answer::error(StatusCode::NOT_FOUND),
        }
    }
    let value = |name| call.query.get(name).unwrap_or_default();
    let (device_id, play_session) = (value("DeviceId"), value("PlaySessionId"));
    let user_agent = call.header("user-agent").unwrap_or_default();
    let key = LiveKey { path: &path, user_agent, device_id: &device_id, play_session: &play_session };
    memory.jobs.end_idle(call.settings().job_idle);
    let progress = memory.jobs.live(key, stream.is_some(), call.settings().live_segment_every);
    let name = key.name();
    let mut text = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n\
                    #EXT-X-PLAYLIST-TYPE:EVENT\n"
        .to_owned();
    for number in 0..progress.segments {
        let _ = writeln!(text, "#EXTINF:3.000000,\nhls/{name}/{name}{number}.ts");
    }
    if progress.has_ended {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    Answer::sized(PLAYLIST, text)
}

/// `hls/{md5}/{md5}{n}.ts`: anonymous, and there only where `live.m3u8` started the job. The file is sent as it is: of the segment
/// that ffmpeg is writing, which the playlist does not list yet, so much as there is.
pub(crate) fn live_segment(call: &Call) -> Answer {
    let name = call.captured(1);
    let number = call.captured(2).strip_prefix(name).and_then(|rest| rest.strip_suffix(".ts")?.parse::<usize>().ok());
    let every = call.settings().live_segment_every;
    let share = |number| {
        let mut memory = call.life().memory();
        memory.jobs.end_idle(call.settings().job_idle);
        Some((number, memory.jobs.share_of_segment(name, number, every)?))
    };
    match number.and_then(share) {
        Some((number, share)) => {
            let whole = live_segment_bytes(number);
            physical_file(call, SEGMENT, File::Kept(&whole[..(whole.len() as f64 * share) as usize]))
        }
        None => Answer::json_with(StatusCode::NOT_FOUND, &json!("Hls segment not found.")),
    }
}

/// `DELETE /Videos/ActiveEncodings?deviceId=&playSessionId=`; 204 on a pod without the job as well.
pub(crate) fn end(call: &Call) -> Answer {
    let Some(device_id) = call.query.get("deviceId").filter(|id| !id.is_empty()) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    let Some(play_session) = call.query.get("playSessionId").filter(|session| !session.is_empty()) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    call.life().memory().jobs.hear_of(&play_session);
    call.life().memory().jobs.end(Some(&device_id), Some(&play_session));
    Answer::no_content()
}
