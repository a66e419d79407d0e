//! Media: jobs that a pod runs, and live streams that it has open.

use bytes::Bytes;
use http::StatusCode;

use super::{ApiCall, encoded, ignored, status};
use crate::jellyfin::endpoint;

/// Ends the job of a play session.
pub fn end_transcode(device: &str, play_session: &str, token: &str) -> ApiCall<()> {
    let (device, play_session) = (encoded(device), encoded(play_session));
    let target = format!("/Videos/ActiveEncodings?deviceId={device}&playSessionId={play_session}");
    ApiCall::delete(target, ignored).with_token(token)
}

/// Opens the live stream that a playlist needs: the playback info of the playlist's channel.
/// `None` if there is no live stream. `path` and `query` are those of the playlist's request.
pub fn open_live_stream(path: &str, query: &str, token: &str) -> Option<ApiCall<StatusCode>> {
    let endpoint::LiveChannel { channel, source } = endpoint::live_channel(path, query)?;
    let source = source.map_or(String::new(), |source| format!("&mediaSourceId={source}"));
    let target = format!("/Items/{channel}/PlaybackInfo?autoOpenLiveStream=true{source}");
    Some(ApiCall::post(target, status).with_token(token).with_body(Bytes::from_static(b"{}")))
}
