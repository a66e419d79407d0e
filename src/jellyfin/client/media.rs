//! Media: jobs that a pod runs, and live streams that it has open.

use bytes::Bytes;
use http::StatusCode;

use super::{ApiCall, encoded, ignored, status};
use crate::jellyfin::endpoint::LiveChannel;

/// Ends the job of a play session.
pub fn end_transcode(device: &str, play_session: &str, token: &str) -> ApiCall<()> {
    let (device, play_session) = (encoded(device), encoded(play_session));
    let target = format!("/Videos/ActiveEncodings?deviceId={device}&playSessionId={play_session}");
    ApiCall::delete(target, ignored).with_token(token)
}

/// Opens a live stream: the playback info of its channel and media source.
pub fn open_live_stream(live: &LiveChannel<'_>, token: &str) -> ApiCall<StatusCode> {
    let source = live.source.as_ref().map_or(String::new(), |source| format!("&mediaSourceId={}", encoded(source)));
    let target = format!("/Items/{}/PlaybackInfo?autoOpenLiveStream=true{source}", live.channel);
    ApiCall::post(target, status).with_token(token).with_body(Bytes::from_static(b"{}"))
}
