//! What Jellyfin means by a path: who may call it, and what it takes to answer.
//!
//! Paths are compared in any case, below the pool's BaseUrl. Source: the controllers under `Jellyfin.Api/Controllers`.

mod leader_call;
mod live;
mod repeatable;
mod revocation;
mod sign_on;
mod state_report;

use std::borrow::Cow;

use http::Method;

pub use leader_call::LeaderCall;
pub use live::{ends_playback, is_live_playlist, open_live_stream_target, reported_play_session};
pub(in crate::jellyfin) use live::{opens_playback, path_ids};
pub use repeatable::{is_safe_to_repeat, start_as_progress, starts_playback};
pub use revocation::Revocation;
pub use state_report::StateReport;

use super::{
    canonical::{Keys, decoded_path},
    query,
};

/// What an endpoint asks of its caller, as far as the proxy has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Mints a token: `/Users/AuthenticateByName`, `/Users/{id}/Authenticate`, `/Users/AuthenticateWithQuickConnect`.
    LogIn,
    /// `POST /Sessions/Logout`: demands a token and ends it.
    LogOut,
    /// `/QuickConnect/*`: its 401 says that it is switched off.
    QuickConnect,
    /// `/SyncPlay/*`: demands a token, and answers an unknown one with 400.
    SyncPlay,
    /// `/sso/*`, `/SSOViews/*`: single sign-on by a plug-in, which keeps what it has begun in one pod's memory. Its log-ins are
    /// [`Endpoint::LogIn`].
    SignOn,
    /// `/GetUtcTime`: open to all. Clients ask for it to agree on the time with who commands their SyncPlay group.
    Clock,
    /// `GET /System/Info`, `GET /Users/Me`, `GET /Users/{id}`: demand a token, and real clients erase theirs when they fail
    /// (the last is Roku's, at its start).
    LogoutTrigger,
    /// Demands a token that the pod knows; success confirms the token.
    Authenticated,
    /// The same for most callers, but one from the local network, or before the wizard is done, needs no token: success proves nothing.
    Guarded,
    /// The same as [`Endpoint::Authenticated`], about what a pod runs: `DELETE /Videos/ActiveEncodings`, `POST /Sessions/Playing/Ping`, `POST /LiveStreams/Close`.
    /// Every other pod answers as if it had done it.
    TranscodeControl,
    /// The same, for HLS playlists and segments and for files: an answer may have to wait for ffmpeg.
    AuthenticatedMedia,
    /// Media that anybody may fetch: streams, live segments, live files.
    AnonymousMedia,
    /// Whatever else: open to all, or not known to the proxy.
    Open,
}

impl Endpoint {
    /// Reads the endpoint off a method and a path below the BaseUrl.
    pub fn of(method: &Method, path: &str) -> Endpoint {
        if method == Method::OPTIONS {
            // Answered without a look at who asks.
            return Endpoint::Open;
        }
        let decoded = decoded_path(path).unwrap_or(Cow::Borrowed(path));
        let mut segments = segments(&decoded);
        let Some(first) = segments.next() else { return Endpoint::Open };
        let rest = Rest { segments: segments.clone() };
        match first.len() {
            // `is` compares in any case; the length only saves comparing with each of them.
            3 if is(first, "sso") => sign_on::endpoint(method, rest),
            5 if is(first, "Users") => users(method, rest),
            8 if is(first, "SyncPlay") => Endpoint::SyncPlay,
            8 if is(first, "SSOViews") => Endpoint::SignOn,
            8 if is(first, "Sessions") && method == Method::POST && is(rest.at(0), "Logout") => Endpoint::LogOut,
            8 if is(first, "Sessions") && is(rest.at(0), "Playing") && is(rest.at(1), "Ping") => {
                Endpoint::TranscodeControl
            }
            10 if is(first, "GetUtcTime") => Endpoint::Clock,
            11 if is(first, "LiveStreams") && is(rest.at(0), "Close") => Endpoint::TranscodeControl,
            12 if is(first, "QuickConnect") => Endpoint::QuickConnect,
            11 if is(first, "Environment") => Endpoint::Guarded,
            7 if is(first, "Library") && is(rest.at(0), "VirtualFolders") => Endpoint::Guarded,
            5 if is(first, "Audio") => media(rest),
            6 if is(first, "Videos") => media(rest),
            5 if is(first, "Items") => items(rest),
            6 if is(first, "System") => system(method, rest),
            6 if is(first, "LiveTv") => live_tv(rest),
            _ if DEMANDING.iter().any(|known| is(first, known)) && !rest.clone().has("Images") => {
                Endpoint::Authenticated
            }
            _ => Endpoint::Open,
        }
    }

    /// Whether it answers nobody without a token that the pod knows.
    pub fn requires_token(self) -> bool {
        use Endpoint::{Authenticated, AuthenticatedMedia, Guarded, LogOut, LogoutTrigger, SyncPlay, TranscodeControl};
        matches!(
            self,
            Authenticated | AuthenticatedMedia | Guarded | LogOut | TranscodeControl | SyncPlay | LogoutTrigger
        )
    }

    /// Whether its success shows that the pod knows the caller's token.
    pub fn proves_token(self) -> bool {
        self.requires_token() && self != Endpoint::Guarded
    }

    /// Whether jellypin does more with it than to send it where its client lives: by the API key, by a tombstone, a pin, the leader.
    pub fn is_acted_upon(self) -> bool {
        !matches!(self, Endpoint::Open | Endpoint::AnonymousMedia)
    }

    /// Whether a failure costs more than a look at the next page: a client would log its user out or end the film.
    pub fn is_failure_costly(self) -> bool {
        self == Endpoint::LogoutTrigger || self.is_media()
    }

    /// Whether it has to reach the pod on which the media runs, wherever the client lives.
    pub fn goes_with_media(self) -> bool {
        self == Endpoint::TranscodeControl || self.is_media()
    }

    /// Whether it may be one of [`LeaderCall`], which takes a closer look.
    pub fn may_be_leader_call(self) -> bool {
        use Endpoint::{Clock, LogIn, QuickConnect, SignOn, SyncPlay};
        matches!(self, QuickConnect | SyncPlay | LogIn | SignOn | Clock)
    }

    /// Whether players ask for it, to whom any error is the end.
    pub fn is_media(self) -> bool {
        matches!(self, Endpoint::AuthenticatedMedia | Endpoint::AnonymousMedia)
    }
}

/// First segments under which every endpoint but images demands a token.
const DEMANDING: &[&str] = &[
    "Albums",
    "Auth",
    "Channels",
    "Collections",
    "Devices",
    "DisplayPreferences",
    "Library",
    "Libraries",
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

fn live_tv<'a>(rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let first = rest.at(0);
    if is(first, "LiveStreamFiles") || is(first, "LiveRecordings") {
        Endpoint::AnonymousMedia
    } else {
        Endpoint::Authenticated
    }
}

/// Whom a log-in by password names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogInBy<'a> {
    /// `/Users/AuthenticateByName`: the name stands in the body.
    Name,
    /// `/Users/{id}/Authenticate`.
    Id(&'a str),
}

/// A log-in by password, by its path. Its letters may be written as `%XX`.
pub fn log_in_by_password(path: &str) -> Option<LogInBy<'_>> {
    let mut segments = segments(path);
    let (first, second, third) = (segments.next()?, segments.next()?, segments.next());
    if !is_decoded(first, "Users") || segments.next().is_some() {
        return None;
    }
    match third {
        None if is_decoded(second, "AuthenticateByName") => Some(LogInBy::Name),
        Some(third) if is_decoded(third, "Authenticate") => Some(LogInBy::Id(second)),
        _ => None,
    }
}

/// Paths by which load balancers and orchestrators ask whether the server is there. They want to hear at once that it is not.
pub fn is_probe(path: &str) -> bool {
    let mut segments = segments(path);
    match (segments.next(), segments.next(), segments.next()) {
        (Some(first), None, None) => is(first, "health"),
        (Some(first), Some(second), None) => is(first, "System") && is(second, "Ping"),
        _ => false,
    }
}

/// The first value of a key of the query, in any case of it.
pub fn query_value(query: &str, key: &str) -> Option<String> {
    query::all(query, key).into_iter().next()
}

/// `/System/Info` and `/System/Info/Public`, whose answers tell the server's own address.
pub fn contains_address(path: &str) -> bool {
    let mut segments = segments(path);
    segments.next().is_some_and(|first| is(first, "System"))
        && segments.next().is_some_and(|second| is(second, "Info"))
        && segments.next().is_none_or(|third| is(third, "Public"))
        && segments.next().is_none()
}

/// `/web/*`: the files of the web client, large ones, in which no server is named.
pub fn is_web_client_file(path: &str) -> bool {
    segments(path).next().is_some_and(|first| is(first, "web"))
}

/// The path as a log may show it: an API key that stands in it (`/Auth/Keys/{key}`) is blotted out.
pub fn without_secrets(path: &str) -> Cow<'_, str> {
    let (mut before, mut end) = ("", 0);
    for segment in path.split('/') {
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

/// The same as [`is`], for a segment whose letters may be written as `%XX`.
fn is_decoded(segment: &str, name: &str) -> bool {
    is(segment, name)
        || (segment.contains('%') && is(&percent_encoding::percent_decode_str(segment).decode_utf8_lossy(), name))
}

/// A GUID, with or without dashes. The server reads it in braces and between blanks as well.
pub(in crate::jellyfin) fn is_id(text: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.len() {
        32 => is_hex(text),
        36 => [8, 4, 4, 4, 12].into_iter().eq(text.split('-').map(str::len)) && text.split('-').all(is_hex),
        _ => false,
    }
}

/// The user's id in a path that ends or changes sessions of his: `/Users/{id}`, `/Users/{id}/Password` and the like.
pub(in crate::jellyfin) fn user_in_path(path: &str) -> Option<&str> {
    const NAMES: [&str; 7] =
        ["Me", "New", "Public", "Password", "AuthenticateByName", "AuthenticateWithQuickConnect", "ForgotPassword"];
    let mut segments = segments(path);
    let id = segments.next().filter(|first| is(first, "Users")).and_then(|_| segments.next())?;
    (!NAMES.iter().any(|name| is(id, name))).then_some(id)
}

/// What jellypin reads of the query of an endpoint that it acts upon.
pub(in crate::jellyfin) fn keys_of(endpoint: Endpoint, path: &str) -> Keys {
    const NONE: Keys = Keys { single: &[], list: &[] };
    let first = segments(path).next().unwrap_or_default();
    match endpoint {
        Endpoint::QuickConnect => Keys { single: &["code", "secret", "userId"], list: &[] },
        Endpoint::Authenticated if is(first, "Users") => Keys { single: &["userId"], list: &[] },
        Endpoint::Authenticated if is(first, "Devices") => Keys { single: &[], list: &["id"] },
        _ => NONE,
    }
}

/// Neither a doubled slash nor one at the end means anything.
fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').filter(|segment| !segment.is_empty())
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
