//! Live TV: one channel, whose stream has to be opened on the pod that is to play it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::identifiers::guid_of;
use crate::library::{CHANNEL, Item, SEGMENTS, media_streams};

/// The pause between two pieces of the endless file.
const PACE: Duration = Duration::from_millis(50);

/// `LiveStreamId`: made of tuner, channel and media source, so the same on every pod.
fn live_stream_id(source: &str) -> String {
    format!("{}_{CHANNEL}_{source}", guid_of("tuner"))
}

/// The ids of the channel's media sources: one as an M3U tuner names it, then one as an HDHomeRun does.
fn source_ids() -> [String; 2] {
    [guid_of("media source"), format!("native_{}_{}", guid_of("channel"), guid_of("url"))]
}

/// What `LiveStreams/Open` opens this media source by.
fn open_token(source: &str) -> String {
    format!("{}_{source}", guid_of("open token"))
}

/// `POST /LiveStreams/Open`: what the token names, or else the first media source.
pub(crate) fn open(call: &Call) -> Answer {
    let token = call.query.get("OpenToken").map(|token| json!(token)).or_else(|| call.property("OpenToken"));
    let [first, second] = source_ids();
    let is_second = token.is_some_and(|token| token == json!(open_token(&second)));
    Answer::json(&json!({"MediaSource": open_source(call, if is_second { &second } else { &first })}))
}

/// `POST /LiveStreams/Close?liveStreamId=`; 204 on a pod that has it not open as well.
pub(crate) fn close(call: &Call) -> Answer {
    call.life().memory().live_streams.close(&call.query.get("liveStreamId").unwrap_or_default());
    Answer::no_content()
}

/// The channel's `MediaSourceInfo`s for `PlaybackInfo`, or the one that it opens on this pod. `None` if it names an open stream that
/// this pod does not have (`MediaSourceManager.GetLiveStream` throws `ResourceNotFoundException`).
pub(crate) fn sources(call: &Call, opening: bool) -> Option<Vec<Value>> {
    let given = |name: &str| {
        let in_body = || call.property(name).and_then(|value| value.as_str().map(str::to_owned));
        call.query.get(name).or_else(in_body).filter(|value| !value.is_empty())
    };
    if let Some(id) = given("LiveStreamId") {
        let source = call.life().memory().live_streams.source(&id)?;
        return Some(vec![opened(call, &source)]);
    }
    let wanted = given("MediaSourceId");
    let ids =
        source_ids().into_iter().filter(|id| wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(id)));
    let ids = ids.collect::<Vec<_>>();
    Some(match ids.first().filter(|_| opening) {
        Some(first) => vec![open_source(call, first)],
        None => ids.iter().map(|id| closed(call, id)).collect(),
    })
}

fn open_source(call: &Call, source: &str) -> Value {
    let session = call.touch_session();
    call.life().memory().live_streams.open(&live_stream_id(source), source, session);
    opened(call, source)
}

/// The `MediaSourceInfo` of a stream that is open here.
fn opened(call: &Call, id: &str) -> Value {
    let mut source = closed(call, id);
    let stream = live_stream_id(id);
    let path = call.life().memory().live_streams.path(&stream).unwrap_or_default();
    let base_url = &call.settings().base_url;
    let host = call.life().shared.address();
    source["LiveStreamId"] = json!(stream);
    source["Path"] = json!(format!("http://{host}{base_url}{path}"));
    source["RequiresOpening"] = json!(false);
    source
}

fn closed(call: &Call, id: &str) -> Value {
    json!({
        "Protocol": "File",
        "Id": id,
        "Path": "http://tuner.example/one",
        "Type": "Default",
        "Container": "ts",
        "Name": Item::Channel.name(),
        "IsRemote": true,
        "IsInfiniteStream": true,
        "RequiresOpening": true,
        "RequiresClosing": true,
        "SupportsTranscoding": true,
        "SupportsDirectStream": true,
        "SupportsDirectPlay": true,
        "SupportsProbing": true,
        "OpenToken": open_token(id),
        "MediaStreams": media_streams(call.settings().generation),
        "MediaAttachments": [],
        "Formats": [],
        "RequiredHttpHeaders": {},
        "HasSegments": false,
    })
}

/// `GET /LiveTv/LiveStreamFiles/{uid}/stream.ts`: endless, anonymous, and only where the stream is open.
pub(crate) fn file(call: &Call) -> Answer {
    if !call.life().memory().live_streams.has_file(call.captured(0)) {
        return Answer::problem(StatusCode::NOT_FOUND);
    }
    endless()
}

/// `GET /LiveTv/LiveRecordings/{id}/stream`: what this pod records, as it grows; anonymous.
pub(crate) fn recording(call: &Call) -> Answer {
    if call.life().memory().live_streams.is_recording(call.captured(0)) {
        endless()
    } else {
        Answer::problem(StatusCode::NOT_FOUND)
    }
}

/// A stream without an end.
pub(crate) fn endless() -> Answer {
    let pieces = stream::unfold(0_usize, |number| async move {
        if number > 0 {
            tokio::time::sleep(PACE).await;
        }
        let piece = Bytes::from_static(SEGMENTS[number % SEGMENTS.len()]);
        Some((Ok::<_, io::Error>(Frame::data(piece)), number + 1))
    });
    Answer::stream("video/mp2t", BodyExt::boxed_unsync(StreamBody::new(pieces)))
}
