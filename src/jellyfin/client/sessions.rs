//! Sessions: what a pod remembers of a client, and how that ends.

use bytes::Bytes;

use http::StatusCode;

use super::{ApiCall, ApiResponse, encoded, ignored};
use crate::jellyfin::authorization::Device;

/// Where a client reports what it plays. To a pod that does not know the film yet, the report is
/// also its start.
pub const PROGRESS: &str = "/Sessions/Playing/Progress";

/// The longest list of sessions, in bytes. One that plays takes some 5 KiB.
pub const LONGEST_LIST: usize = 8 << 20;

/// A pod's own sessions, as JSON. `target` is the path with a query.
pub fn list(target: String, key: &str) -> ApiCall<Result<Bytes, StatusCode>> {
    let read = |response: ApiResponse| {
        Some(if response.status == StatusCode::OK { Ok(response.body) } else { Err(response.status) })
    };
    ApiCall::get(target, read).with_token(key).up_to(LONGEST_LIST)
}

/// Ends a token.
pub fn log_out(token: &str) -> ApiCall<ApiResponse> {
    ApiCall::post("/Sessions/Logout", Some).with_token(token)
}

/// Repeats what a client told another pod, as the client said it.
pub fn replay(target: String, body: Bytes, device: &Device, token: &str) -> ApiCall<()> {
    ApiCall::post(target, ignored).as_device(device, Some(token)).with_body(body)
}

/// Keeps the job of a play session running.
pub fn ping(play_session: &str, token: &str) -> ApiCall<()> {
    ApiCall::post(format!("/Sessions/Playing/Ping?playSessionId={}", encoded(play_session)), ignored).with_token(token)
}

/// Opens a client's WebSocket.
pub fn socket(device: &Device, token: &str) -> ApiCall<()> {
    ApiCall::get("/socket", ignored).as_device(device, Some(token))
}
