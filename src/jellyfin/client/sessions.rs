//! Sessions: what a pod remembers of a client, and how that ends.

use bytes::Bytes;
use http::StatusCode;

use serde_json::Value;

use super::{ApiCall, ApiResponse, encoded, field, ignored, text};
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

/// What a pod lists of one session, as far as operators look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListedSession {
    /// The user's id as jellypin keeps it; empty for an API key.
    pub user: String,
    pub user_name: String,
    pub device: String,
    /// What it plays.
    pub playing: Option<Playing>,
}

/// What a session plays, and how far it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Playing {
    /// The film, or the series with the episode.
    pub title: String,
    pub position_s: u64,
    /// 0 where it is not known, as for a channel.
    pub length_s: u64,
    pub is_paused: bool,
    /// `DirectPlay`, `DirectStream` or `Transcode`; empty where the client has not said it.
    pub method: String,
}

/// A pod's sessions, for operators.
pub fn listed(key: &str) -> ApiCall<Vec<ListedSession>> {
    let read = |response: ApiResponse| {
        let list = response.success().ok()?;
        Some(list.as_array()?.iter().map(ListedSession::of).collect())
    };
    ApiCall::get("/Sessions", read).with_token(key).up_to(LONGEST_LIST)
}

impl ListedSession {
    fn of(row: &Value) -> ListedSession {
        let field_text = |name| text(row, name).unwrap_or_default();
        ListedSession {
            user: plain_id(&field_text("UserId")),
            user_name: field_text("UserName"),
            device: field_text("DeviceId"),
            playing: field(row, "NowPlayingItem").filter(|item| item.is_object()).map(|item| Playing::of(item, row)),
        }
    }
}

impl Playing {
    fn of(item: &Value, row: &Value) -> Playing {
        const TICKS: u64 = 10_000_000;
        let state = field(row, "PlayState").unwrap_or(&Value::Null);
        let seconds = |of: &Value, name| field(of, name).and_then(Value::as_u64).unwrap_or_default() / TICKS;
        let number = |name| field(item, name).and_then(Value::as_u64);
        let name = text(item, "Name").unwrap_or_default();
        let title = match (text(item, "SeriesName"), number("ParentIndexNumber"), number("IndexNumber")) {
            (Some(series), Some(season), Some(episode)) => format!("{series} {season}×{episode:02} {name}"),
            (Some(series), ..) => format!("{series}: {name}"),
            (None, ..) => name,
        };
        Playing {
            title,
            position_s: seconds(state, "PositionTicks"),
            length_s: seconds(item, "RunTimeTicks"),
            is_paused: field(state, "IsPaused") == Some(&true.into()),
            method: text(state, "PlayMethod").unwrap_or_default(),
        }
    }
}

/// An id in the form that jellypin keeps.
fn plain_id(id: &str) -> String {
    id.chars().filter(|char| *char != '-').map(|char| char.to_ascii_lowercase()).collect()
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
