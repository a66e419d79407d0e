//! `PlaybackInfo`: the media sources of an item, and the URL by which a transcode starts.

use http::StatusCode;
use serde_json::{Value, json};

use super::live_tv;
use crate::answer::Answer;
use crate::call::{Call, property};
use crate::catalogue::{ItemRow, Kind};
use crate::generation::Generation;
use crate::identifiers::{dashed, random_guid};
use crate::library::{BULK, FILM_FILE, media_streams};

const TAG: &str = "8a3d32d1dc90d45bafefaf9586582457";

/// `GET` and `POST /Items/{id}/PlaybackInfo`.
pub(crate) fn info(call: &Call) -> Answer {
    let item = {
        let mut memory = call.life().memory();
        memory.caches.by_id(&call.life().shared.cluster, &call.guid(0)).map(|item| item.row.clone())
    };
    let Some(item) = item.filter(|item| item.kind.is_file() || item.kind == Kind::Channel) else {
        return Answer::problem(StatusCode::NOT_FOUND);
    };
    let play_session = random_guid();
    let sources = match item.kind {
        Kind::Channel => match live_tv::sources(call, wants_opening(call)) {
            Some(sources) => sources,
            None => return Answer::error(StatusCode::NOT_FOUND),
        },
        _ => vec![source_of_file(call, &item, &play_session)],
    };
    Answer::json(&json!({"MediaSources": sources, "PlaySessionId": play_session}))
}

fn wants_opening(call: &Call) -> bool {
    let in_body = call.property("AutoOpenLiveStream").is_some_and(|value| value == true);
    in_body || call.query.is_true("autoOpenLiveStream")
}

fn source_of_file(call: &Call, item: &ItemRow, play_session: &str) -> Value {
    let mut source = media_source(call, item);
    let profile = call.property("DeviceProfile").unwrap_or_default();
    if !wants_hls(call, &profile) {
        return source;
    }
    source["SupportsDirectPlay"] = json!(false);
    source["SupportsDirectStream"] = json!(false);
    source["TranscodingUrl"] = json!(transcoding_url(call, item, play_session));
    source["TranscodingSubProtocol"] = json!("hls");
    source["TranscodingContainer"] = json!("ts");
    source
}

/// Whether the profile has a way to play by HLS and none to play Matroska as it is.
fn wants_hls(call: &Call, profile: &Value) -> bool {
    let list = |name| property(profile, name).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |of: &Value, name| property(of, name).and_then(|value| value.as_str().map(str::to_lowercase));
    let hls = list("TranscodingProfiles").iter().any(|way| text(way, "Protocol").as_deref() == Some("hls"));
    let direct = list("DirectPlayProfiles").iter().any(|way| {
        let containers = text(way, "Container").unwrap_or_default();
        text(way, "Type").as_deref() == Some("video")
            && (containers.is_empty() || containers.split(',').any(|c| c == "mkv"))
    });
    let refused =
        [call.property("EnableDirectPlay"), call.query.get("enableDirectPlay").map(|value| json!(value == "true"))];
    hls && (!direct || refused.iter().flatten().any(|value| value == false))
}

/// Relative, in lower case and with the token of the request in it, as `StreamInfo.ToUrl` makes it.
fn transcoding_url(call: &Call, item: &ItemRow, play_session: &str) -> String {
    let client = call.client();
    let device = client.as_ref().map_or("", |client| client.device_id.as_str());
    let token = call.given.token.as_deref().unwrap_or_default();
    let (first, key_frames) = match call.settings().generation {
        Generation::V12 => ("?", ""),
        Generation::V10_11 => ("?&", "&BreakOnNonKeyFrames=False"),
    };
    format!(
        "/videos/{}/master.m3u8{first}DeviceId={device}&MediaSourceId={}&VideoCodec=h264&AudioCodec=aac&AudioStreamIndex=1\
         &VideoBitrate=272000&AudioBitrate=128000&MaxFramerate=24&SegmentContainer=ts{key_frames}&PlaySessionId={play_session}\
         &ApiKey={token}&RequireAvc=false&EnableAudioVbrEncoding=true&Tag={TAG}\
         &h264-level=12&h264-videobitdepth=8&h264-profile=constrainedbaseline\
         &TranscodeReasons=ContainerBitrateExceedsLimit",
        dashed(&item.id),
        item.id,
    )
}

/// `MediaSourceInfo` of an item with a file.
pub(crate) fn media_source(call: &Call, item: &ItemRow) -> Value {
    let size = if item.id == BULK { call.settings().bulk_size } else { FILM_FILE.len() as u64 };
    json!({
        "Protocol": "File",
        "Id": item.id,
        "Path": item.path(),
        "Type": "Default",
        "Container": "mkv",
        "Size": size,
        "Name": item.file_name,
        "IsRemote": false,
        "ETag": TAG,
        "RunTimeTicks": item.run_time_ticks,
        "ReadAtNativeFramerate": false,
        "IgnoreDts": false,
        "IgnoreIndex": false,
        "GenPtsInput": false,
        "SupportsTranscoding": true,
        "SupportsDirectStream": true,
        "SupportsDirectPlay": true,
        "IsInfiniteStream": false,
        "UseMostCompatibleTranscodingProfile": false,
        "RequiresOpening": false,
        "RequiresClosing": false,
        "RequiresLooping": false,
        "SupportsProbing": true,
        "VideoType": "VideoFile",
        "MediaStreams": media_streams(call.settings().generation),
        "MediaAttachments": [],
        "Formats": [],
        "Bitrate": 66_000,
        "RequiredHttpHeaders": {},
        "TranscodingSubProtocol": "http",
        "DefaultAudioStreamIndex": 1,
        "HasSegments": false,
    })
}
