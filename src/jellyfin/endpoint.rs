//! What a path means to Jellyfin: who may call it, and what it takes to answer.
//!
//! Paths are compared in any case, below the pool's BaseUrl. Source: the controllers under
//! `Jellyfin.Api/Controllers`.

mod leader_call;
pub mod live;
mod log_in;
mod operation;
mod query_keys;
mod remote_control;
mod repeatable;
mod revocation;
mod scope;
mod sign_on;
mod state_report;
mod token_answer;
mod triggers;
mod urgency;
mod user_data_write;

use std::borrow::Cow;

use http::Method;

pub use leader_call::{LeaderCall, group_looked_at, is_ignore_wait, is_join};
pub use live::{
    LiveChannel, ends_playback, is_computed_playlist, is_leased, is_live_playlist, live_channel, reported_play_session,
    reports_live_stream,
};
pub(in crate::jellyfin) use live::{live_file_in, opens_playback, path_ids};
pub use log_in::{LogInBy, changes_names, log_in_by_password};
pub use operation::{may_rename_user, operates_server};
pub(in crate::jellyfin) use query_keys::{Keys, keys_of};
pub use query_keys::{ids_in_query, query_replaced, query_value, query_with, query_without_tokens};
pub use remote_control::{Control, RemoteControl};
pub use repeatable::{is_safe_to_repeat, start_as_progress, starts_playback};
pub use revocation::Revocation;
pub use scope::{Act, Document, Duty, Keys as DocumentKeys, Scope};
pub use state_report::StateReport;
pub use token_answer::may_answer_with_token;
pub use triggers::triggers_of;
pub use urgency::Purpose;
pub use user_data_write::{UserDataWrite, Versions, Write, item_read, reported_item};

use super::syntax::{is_id, pieces};

/// What an endpoint demands of its caller, as far as the proxy needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Mints a token: `/Users/AuthenticateByName`, `/Users/{id}/Authenticate`,
    /// `/Users/AuthenticateWithQuickConnect`.
    LogIn,
    /// `POST /Sessions/Logout`: demands a token and ends it.
    LogOut,
    /// `/QuickConnect/*`: its 401 means that QuickConnect is switched off.
    QuickConnect,
    /// `/SyncPlay/*`: demands a token, and answers an unknown one with 400.
    SyncPlay,
    /// `/sso/*`, `/SSOViews/*`: single sign-on by a plug-in that keeps a flow in one pod's memory.
    /// Its log-ins are [`Endpoint::LogIn`].
    SignOn,
    /// `/GetUtcTime`: open to all. Clients use it to agree on the time with the pod that commands
    /// their SyncPlay group.
    Clock,
    /// `GET /System/Info`, `GET /Users/Me`, `GET /Users/{id}`: demand a token. Real clients erase
    /// their token when these fail (Roku when it starts, on the last one).
    LogoutTrigger,
    /// Demands a token that the pod knows; success confirms the token.
    Authenticated,
    /// Like [`Endpoint::Authenticated`], for `GET /Sessions`: each pod lists only its own.
    SessionList,
    /// Like [`Endpoint::Authenticated`], for `GET /Devices` and `GET /Devices/Info`: a pod knows those
    /// that signed in on it, or before it started.
    DeviceList,
    /// Like [`Endpoint::Authenticated`], for `/Sessions/{id}/…`: only the pod that has the session
    /// can answer. [`RemoteControl::of`] says what it does.
    RemoteControl,
    /// Like [`Endpoint::Authenticated`], but it needs no token from the local network or before the
    /// wizard is done. Success proves nothing.
    Guarded,
    /// Like [`Endpoint::Authenticated`], for what a pod runs: `DELETE /Videos/ActiveEncodings`,
    /// `POST /Sessions/Playing/Ping`, `POST /LiveStreams/Close`. Every other pod answers as if it
    /// had done it.
    TranscodeControl,
    /// Like [`Endpoint::Authenticated`], for HLS playlists, HLS segments and files: an answer may
    /// have to wait for ffmpeg.
    AuthenticatedMedia,
    /// Media that needs no token: streams, live segments, live files.
    AnonymousMedia,
    /// Everything else: open to all, or unknown to the proxy.
    Open,
}

impl Endpoint {
    /// Reads the endpoint from a method and a path below the BaseUrl, decoded as Kestrel does.
    pub fn of(method: &Method, path: &str) -> Endpoint {
        if method == Method::OPTIONS {
            // The pod answers without a look at the caller.
            return Endpoint::Open;
        }
        let mut segments = segments(path);
        let Some(first) = segments.next() else { return Endpoint::Open };
        let rest = Rest { segments: segments.clone() };
        let endpoint = match first.len() {
            // `is` ignores case; the length only saves comparisons.
            3 if is(first, "sso") => sign_on::endpoint(method, rest),
            5 if is(first, "Users") => users(method, rest),
            7 if is(first, "Devices") && method == Method::GET && lists_devices(rest.clone()) => Endpoint::DeviceList,
            8 if is(first, "SyncPlay") => Endpoint::SyncPlay,
            8 if is(first, "SSOViews") => Endpoint::SignOn,
            8 if is(first, "Sessions") && method == Method::POST && is(rest.at(0), "Logout") => Endpoint::LogOut,
            8 if is(first, "Sessions") && is(rest.at(0), "Playing") && is(rest.at(1), "Ping") => {
                Endpoint::TranscodeControl
            }
            8 if is(first, "Sessions") && method == Method::GET && rest.at(0).is_empty() => Endpoint::SessionList,
            8 if is(first, "Sessions") && remote_control::is_session(rest.at(0)) => Endpoint::RemoteControl,
            10 if is(first, "GetUtcTime") => Endpoint::Clock,
            11 if is(first, "LiveStreams") && is(rest.at(0), "Close") => Endpoint::TranscodeControl,
            12 if is(first, "QuickConnect") => Endpoint::QuickConnect,
            11 if is(first, "Environment") => Endpoint::Guarded,
            7 if is(first, "Library") && is(rest.at(0), "VirtualFolders") => Endpoint::Guarded,
            7 if is(first, "Startup") => Endpoint::Guarded,
            9 if is(first, "Libraries") => Endpoint::Guarded,
            5 if is(first, "Audio") => media(rest),
            6 if is(first, "Videos") => media(rest),
            5 if is(first, "Items") => items(rest),
            6 if is(first, "System") => system(method, rest),
            6 if is(first, "LiveTv") => live_tv(rest),
            _ if DEMANDING.iter().any(|known| is(first, known)) && !rest.clone().has("Images") => {
                Endpoint::Authenticated
            }
            _ => Endpoint::Open,
        };
        // What all may read, like pictures, demands a log-in to be written.
        let is_written = || Scope::of(method, path).is_some_and(|scope| scope.act().is_some());
        if endpoint == Endpoint::Open && is_written() { Endpoint::Authenticated } else { endpoint }
    }

    /// Whether it refuses every caller without a token that the pod knows.
    pub fn requires_token(self) -> bool {
        use Endpoint::{
            Authenticated, AuthenticatedMedia, DeviceList, Guarded, LogOut, LogoutTrigger, RemoteControl, SessionList,
            SyncPlay, TranscodeControl,
        };
        matches!(
            self,
            Authenticated
                | AuthenticatedMedia
                | DeviceList
                | Guarded
                | LogOut
                | LogoutTrigger
                | RemoteControl
                | SessionList
                | SyncPlay
                | TranscodeControl
        )
    }

    /// Whether its success proves that the pod knows the caller's token.
    pub fn proves_token(self) -> bool {
        self.requires_token() && self != Endpoint::Guarded
    }

    /// Whether jellypin does more than route it to the client's home: by the API key, a tombstone,
    /// a pin, the leader.
    pub fn is_acted_upon(self) -> bool {
        !matches!(self, Endpoint::Open | Endpoint::AnonymousMedia)
    }

    /// Whether a failure costs more than a page: a client would log its user out or end the film.
    pub fn is_failure_costly(self) -> bool {
        self == Endpoint::LogoutTrigger || self.is_media()
    }

    /// Whether it must reach the pod that runs the media, wherever the client's home is.
    pub fn goes_with_media(self) -> bool {
        self == Endpoint::TranscodeControl || self.is_media()
    }

    /// Whether it may be a [`LeaderCall`]; [`LeaderCall::of`] decides.
    pub fn may_be_leader_call(self) -> bool {
        use Endpoint::{Clock, LogIn, QuickConnect, SignOn, SyncPlay};
        matches!(self, QuickConnect | SyncPlay | LogIn | SignOn | Clock)
    }

    /// Whether players request it. Any error ends their playback.
    pub fn is_media(self) -> bool {
        matches!(self, Endpoint::AuthenticatedMedia | Endpoint::AnonymousMedia)
    }
}

/// First segments under which every endpoint but images demands a token.
const DEMANDING: &[&str] = &[
    "Albums",
    "Auth",
    "Backup",
    "Channels",
    "Collections",
    "Devices",
    "DisplayPreferences",
    "Library",
    "LiveStreams",
    "MediaSegments",
    "Movies",
    "Notifications",
    "Packages",
    "Playback",
    "PlayingItems",
    "Playlists",
    "Repositories",
    "ScheduledTasks",
    "Search",
    "Sessions",
    "Shows",
    "Trailers",
    "UserFavoriteItems",
    "UserItems",
    "UserPlayedItems",
    "UserViews",
];

#[derive(Clone)]
struct Rest<I> {
    segments: I,
}

impl<'a, I: Iterator<Item = &'a str> + Clone> Rest<I> {
    fn at(&self, index: usize) -> &'a str {
        self.segments.clone().nth(index).unwrap_or_default()
    }

    fn has(self, name: &str) -> bool {
        let mut segments = self.segments;
        segments.any(|segment| is(segment, name))
    }
}

fn users<'a>(method: &Method, rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let (second, third) = (rest.at(0), rest.at(1));
    let mints =
        is(second, "AuthenticateByName") || is(second, "AuthenticateWithQuickConnect") || is(third, "Authenticate");
    if mints {
        return if method == Method::POST { Endpoint::LogIn } else { Endpoint::Open };
    }
    if (is(second, "Me") || is_id(second)) && third.is_empty() && method == Method::GET {
        return Endpoint::LogoutTrigger;
    }
    let is_open = is(second, "Public") || is(second, "ForgotPassword") || rest.has("Images");
    if is_open { Endpoint::Open } else { Endpoint::Authenticated }
}

fn media<'a>(rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let second = rest.at(1);
    if is_id(rest.at(0)) {
        if starts(second, "stream") || is(second, "hls") {
            return Endpoint::AnonymousMedia;
        }
        let hls = ["hls1", "universal"].iter().any(|name| is(second, name)) || ends(second, ".m3u8");
        if hls {
            return Endpoint::AuthenticatedMedia;
        }
        if rest.clone().has("Subtitles") || rest.has("Attachments") {
            return Endpoint::Open;
        }
    } else if is(rest.at(0), "ActiveEncodings") {
        return Endpoint::TranscodeControl;
    }
    Endpoint::Authenticated
}

fn items<'a>(rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let second = rest.at(1);
    if is(second, "Images") {
        Endpoint::Open
    } else if is(second, "File") || is(second, "Download") {
        Endpoint::AuthenticatedMedia
    } else {
        Endpoint::Authenticated
    }
}

fn system<'a>(method: &Method, rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let (second, third) = (rest.at(0), rest.at(1));
    if is(second, "Ping") || (is(second, "Info") && is(third, "Public")) {
        Endpoint::Open
    } else if is(second, "Info") && third.is_empty() && method == Method::GET {
        Endpoint::LogoutTrigger
    } else if is(second, "Restart") || is(second, "Shutdown") {
        Endpoint::Guarded
    } else {
        Endpoint::Authenticated
    }
}

/// `GET /Devices`, `GET /Devices/Info`.
fn lists_devices<'a>(rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> bool {
    rest.at(0).is_empty() || (is(rest.at(0), "Info") && rest.at(1).is_empty())
}

fn live_tv<'a>(rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let first = rest.at(0);
    if is(first, "LiveStreamFiles") || is(first, "LiveRecordings") {
        Endpoint::AnonymousMedia
    } else {
        Endpoint::Authenticated
    }
}

/// Whether an [`Endpoint::DeviceList`] asks for one device.
pub fn is_one_device(path: &str) -> bool {
    segments(path).nth(1).is_some()
}

/// Paths by which load balancers and orchestrators check the server. They need to learn at once
/// that it is down.
pub fn is_probe(path: &str) -> bool {
    let mut segments = segments(path);
    match (segments.next(), segments.next(), segments.next()) {
        (Some(first), None, None) => is(first, "health"),
        (Some(first), Some(second), None) => is(first, "System") && is(second, "Ping"),
        _ => false,
    }
}

/// `/System/Info` and `/System/Info/Public`, whose answers contain the server's own address.
pub fn contains_address(path: &str) -> bool {
    let mut segments = segments(path);
    segments.next().is_some_and(|first| is(first, "System"))
        && segments.next().is_some_and(|second| is(second, "Info"))
        && segments.next().is_none_or(|third| is(third, "Public"))
        && segments.next().is_none()
}

/// `/Startup/Complete`, which ends the set-up wizard.
pub fn completes_set_up(path: &str) -> bool {
    let mut segments = segments(path);
    segments.next().is_some_and(|first| is(first, "Startup"))
        && segments.next().is_some_and(|second| is(second, "Complete"))
        && segments.next().is_none()
}

/// `/web/*`: the web client's files. They are large, and no server is named in them.
pub fn is_web_client_file(path: &str) -> bool {
    segments(path).next().is_some_and(|first| is(first, "web"))
}

/// The path as a log may show it: without the API key of `/Auth/Keys/{key}`.
pub fn without_secrets(path: &str) -> Cow<'_, str> {
    let (mut before, mut end) = ("", 0);
    for segment in pieces(path, b'/') {
        end += segment.len();
        if is_decoded(before, "Auth") && is_decoded(segment, "Keys") && end + 1 < path.len() {
            return Cow::Owned(format!("{}/…", &path[..end]));
        }
        if !segment.is_empty() {
            before = segment;
        }
        end += 1;
    }
    Cow::Borrowed(path)
}

/// Like [`is`], for a segment whose letters may be written as `%XX`.
fn is_decoded(segment: &str, name: &str) -> bool {
    is(segment, name)
        || (memchr::memchr(b'%', segment.as_bytes()).is_some()
            && is(&percent_encoding::percent_decode_str(segment).decode_utf8_lossy(), name))
}

/// The user's id in a path that jellypin acts upon ([`Revocation`], [`Act`]), well-formed or not.
pub(in crate::jellyfin) fn user_in_path<'a>(method: &Method, path: &'a str) -> Option<&'a str> {
    let mut segments = segments(path);
    let (first, id, third) = (segments.next()?, segments.next()?, segments.next());
    let acts_on_user = match third {
        Some(third) => method == Method::POST && ["Password", "Policy", "Images"].iter().any(|name| is(third, name)),
        None => method == Method::DELETE,
    };
    (is(first, "Users") && acts_on_user).then_some(id)
}

/// The non-empty segments: a doubled or trailing slash means nothing.
fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    pieces(path, b'/').filter(|segment| !segment.is_empty())
}

fn is(segment: &str, name: &str) -> bool {
    segment.eq_ignore_ascii_case(name)
}

fn starts(segment: &str, name: &str) -> bool {
    segment.get(..name.len()).is_some_and(|start| is(start, name))
}

fn ends(segment: &str, name: &str) -> bool {
    let from = segment.len().saturating_sub(name.len());
    segment.get(from..).is_some_and(|end| is(end, name))
}
