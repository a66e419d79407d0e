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
fn live_stream_id() -> String {
    format!("{}_{CHANNEL}_{}", guid_of("tuner"), guid_of("media source"))
}

/// `POST /LiveStreams/Open`.
pub(crate) fn open(call: &Call) -> Answer {
    Answer::json(&json!({"MediaSource": source(call, true)}))
}

/// `POST /LiveStreams/Close?liveStreamId=`; 204 on a pod that has it not open as well.
pub(crate) fn close(call: &Call) -> Answer {
    call.life().memory().live_streams.close(&call.query.get("liveStreamId").unwrap_or_default());
    Answer::no_content()
}

/// The channel's `MediaSourceInfo`, opened on this pod if that is asked for.
pub(crate) fn source(call: &Call, opening: bool) -> Value {
    let mut source = json!({
        "Protocol": "File",
        "Id": guid_of("media source"),
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
        "OpenToken": guid_of("open token"),
        "MediaStreams": media_streams(call.settings().generation),
        "MediaAttachments": [],
        "Formats": [],
        "RequiredHttpHeaders": {},
        "HasSegments": false,
    });
    if opening {
        let session = call.touch_session();
        let id = live_stream_id();
        let uid = call.life().memory().live_streams.open(&id, session);
        let base_url = &call.settings().base_url;
        let host = call.life().shared.address();
        source["LiveStreamId"] = json!(id);
        source["Path"] = json!(format!("http://{host}{base_url}/LiveTv/LiveStreamFiles/{uid}/stream.ts"));
        source["RequiresOpening"] = json!(false);
    }
    source
}

/// `GET /LiveTv/LiveStreamFiles/{uid}/stream.ts`: endless, anonymous, and only where the stream is open.
pub(crate) fn file(call: &Call) -> Answer {
    if !call.life().memory().live_streams.has_file(call.captured(0)) {
        return Answer::problem(StatusCode::NOT_FOUND);
    }
    let pieces = stream::unfold(0_usize, |number| async move {
        if number > 0 {
            tokio::time::sleep(PACE).await;
        }
        let piece = Bytes::from_static(SEGMENTS[number % SEGMENTS.len()]);
        Some((Ok::<_, io::Error>(Frame::data(piece)), number + 1))
    });
    Answer::stream("video/mp2t", BodyExt::boxed_unsync(StreamBody::new(pieces)))
}
