//! What Jellyfin means by a path: who may call it, and what it takes to answer.
//!
//! Paths are compared in any case, below the pool's BaseUrl. Source: the controllers under `Jellyfin.Api/Controllers`.

use std::borrow::Cow;

use http::{Method, Uri};

use super::query;

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
    /// `GET /System/Info` and `GET /Users/Me`: demand a token, and real clients erase theirs when they fail.
    Vital,
    /// Demands a token that the pod knows; success confirms the token.
    Demanding,
    /// The same, about a job that a pod runs: `DELETE /Videos/ActiveEncodings`, `POST /Sessions/Playing/Ping`. Every other pod
    /// answers as if it had done it.
    OfJob,
    /// The same, for HLS playlists and segments and for files: an answer may have to wait for ffmpeg.
    DemandingMedia,
    /// Media that anybody may fetch: streams, live segments, live files.
    AnonymousMedia,
    /// Whatever else: open to all, or not known to the proxy.
    Open,
}

impl Endpoint {
    /// Reads the endpoint off a method and a path below the BaseUrl.
    pub fn of(method: &Method, path: &str) -> Endpoint {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let Some(first) = segments.next() else { return Endpoint::Open };
        let rest = Rest { segments: segments.clone() };
        match first.len() {
            // `is` compares in any case; the length only saves comparing with each of them.
            5 if is(first, "Users") => users(method, rest),
            8 if is(first, "SyncPlay") => Endpoint::SyncPlay,
            8 if is(first, "Sessions") && method == Method::POST && is(rest.at(0), "Logout") => Endpoint::LogOut,
            8 if is(first, "Sessions") && is(rest.at(0), "Playing") && is(rest.at(1), "Ping") => Endpoint::OfJob,
            12 if is(first, "QuickConnect") => Endpoint::QuickConnect,
            5 if is(first, "Audio") => media(rest),
            6 if is(first, "Videos") => media(rest),
            5 if is(first, "Items") => items(rest),
            6 if is(first, "System") => system(method, rest),
            6 if is(first, "LiveTv") => live_tv(rest),
            _ if DEMANDING.iter().any(|known| is(first, known)) && !rest.clone().has("Images") => Endpoint::Demanding,
            _ => Endpoint::Open,
        }
    }

    pub fn demands_token(self) -> bool {
        use Endpoint::{Demanding, DemandingMedia, LogOut, OfJob, SyncPlay, Vital};
        matches!(self, Demanding | DemandingMedia | LogOut | OfJob | SyncPlay | Vital)
    }

    /// Whether a failure costs more than a look at the next page: a client would log its user out or end the film.
    pub fn is_worth_much(self) -> bool {
        self == Endpoint::Vital || self.is_media()
    }

    /// Whether it has to reach the pod on which the media runs, wherever the client lives.
    pub fn goes_with_media(self) -> bool {
        self == Endpoint::OfJob || self.is_media()
    }

    /// Whether it may be one of [`Led`], which takes a closer look.
    pub fn may_be_led(self) -> bool {
        matches!(self, Endpoint::QuickConnect | Endpoint::SyncPlay | Endpoint::LogIn)
    }

    pub fn is_media(self) -> bool {
        matches!(self, Endpoint::DemandingMedia | Endpoint::AnonymousMedia)
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
    "Environment",
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
    if is(second, "Me") && third.is_empty() && method == Method::GET {
        return Endpoint::Vital;
    }
    let is_open = is(second, "Public") || is(second, "ForgotPassword") || rest.has("Images");
    if is_open { Endpoint::Open } else { Endpoint::Demanding }
}

fn media<'a>(rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let second = rest.at(1);
    if is_id(rest.at(0)) {
        if starts(second, "stream") || is(second, "hls") {
            return Endpoint::AnonymousMedia;
        }
        let hls = ["hls1", "universal"].iter().any(|name| is(second, name)) || ends(second, ".m3u8");
        if hls {
            return Endpoint::DemandingMedia;
        }
        if rest.clone().has("Subtitles") || rest.has("Attachments") {
            return Endpoint::Open;
        }
    } else if is(rest.at(0), "ActiveEncodings") {
        return Endpoint::OfJob;
    }
    Endpoint::Demanding
}

fn items<'a>(rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let second = rest.at(1);
    if is(second, "Images") {
        Endpoint::Open
    } else if is(second, "File") || is(second, "Download") {
        Endpoint::DemandingMedia
    } else {
        Endpoint::Demanding
    }
}

fn system<'a>(method: &Method, rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let (second, third) = (rest.at(0), rest.at(1));
    if is(second, "Ping") || (is(second, "Info") && is(third, "Public")) {
        Endpoint::Open
    } else if is(second, "Info") && third.is_empty() && method == Method::GET {
        Endpoint::Vital
    } else {
        Endpoint::Demanding
    }
}

fn live_tv<'a>(rest: Rest<impl Iterator<Item = &'a str> + Clone>) -> Endpoint {
    let first = rest.at(0);
    if is(first, "LiveStreamFiles") || is(first, "LiveRecordings") {
        Endpoint::AnonymousMedia
    } else {
        Endpoint::Demanding
    }
}

/// Paths by which load balancers and orchestrators ask whether the server is there. They want to hear at once that it is not.
pub fn is_probe(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    match (segments.next(), segments.next(), segments.next()) {
        (Some(first), None, None) => is(first, "health"),
        (Some(first), Some(second), None) => is(first, "System") && is(second, "Ping"),
        _ => false,
    }
}

/// Whether this request may reach a second pod though a first one may have carried it out, beside those whose method says so
/// (RFC 9110, 9.2.2). Each has its reason:
///
/// - `Sessions/Capabilities`, `Sessions/Capabilities/Full`, `Sessions/Viewing`: what a session can do or shows is set, not added to,
///   in the memory of a pod that is gone by then.
/// - `Sessions/Playing/Progress`, `Sessions/Playing/Ping`: the place in the film is set; each is followed by the next.
/// - `Sessions/Playing/Stopped`: the last place is set, and whether the film was seen; if it is lost, so is that place. It counts
///   a play only for clients that name no place, and real ones name it.
/// - `SyncPlay/Ping`: a measurement.
/// - `Items/{id}/PlaybackInfo`: computes an answer. A live stream that it opened is gone with its pod.
///
/// Not among them: `Sessions/Playing`, which counts a play each time (see [`begins_playback`]); `QuickConnect/Authorize`, which fails the second time; log-ins, which mint. `QuickConnect/Connect` is a GET.
pub fn is_harmless_twice(method: &Method, path: &str) -> bool {
    if method != Method::POST {
        return false;
    }
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let mut next = || segments.next().unwrap_or_default();
    let (first, second, third, rest) = (next(), next(), next(), next());
    if !rest.is_empty() {
        return false;
    }
    let is_any = |segment: &str, names: &[&str]| names.iter().any(|name| is(segment, name));
    if is(first, "Sessions") {
        return match third {
            "" => is_any(second, &["Capabilities", "Viewing"]),
            _ if is(second, "Capabilities") => is(third, "Full"),
            _ => is(second, "Playing") && is_any(third, &["Progress", "Ping", "Stopped"]),
        };
    }
    (is(first, "SyncPlay") && is(second, "Ping") && third.is_empty())
        || (is(first, "Items") && is(third, "PlaybackInfo"))
}

/// `POST /Sessions/Playing`, which counts a play each time. Where a pod may have counted it already, another is told the same by a
/// report of progress, whose body is of the same form and which only sets what plays.
pub fn begins_playback(method: &Method, path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let (first, second, rest) = (segments.next(), segments.next(), segments.next());
    method == Method::POST
        && rest.is_none()
        && first.is_some_and(|first| is(first, "Sessions"))
        && second.is_some_and(|second| is(second, "Playing"))
}

/// The report of progress in the place of one that [`begins_playback`].
pub fn as_progress(uri: &Uri) -> Option<Uri> {
    let mut target = format!("{}/Progress", uri.path().trim_end_matches('/'));
    if let Some(query) = uri.query() {
        target = target + "?" + query;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// `/Items/{id}/PlaybackInfo` and `/LiveStreams/Open`, whose answers name play sessions and live streams.
pub(super) fn opens_playback(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    match (segments.next(), segments.next(), segments.next()) {
        (Some(first), _, Some(third)) if is(first, "Items") => is(third, "PlaybackInfo"),
        (Some(first), Some(second), None) => is(first, "LiveStreams") && is(second, "Open"),
        _ => false,
    }
}

/// What only the leader can answer, or what has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Led {
    /// `/QuickConnect/Enabled`.
    Enabled,
    /// `/QuickConnect/Initiate`: makes a code and a secret.
    Initiate,
    /// `/QuickConnect/Connect?secret=`: asks whether the code was authorized.
    Connect,
    /// `POST /QuickConnect/Authorize?code=[&userId=]`.
    Authorize,
    /// `POST /Users/AuthenticateWithQuickConnect`, with the secret in its body.
    LogIn,
    /// `POST /SyncPlay/New` and `/SyncPlay/Join`: make their caller a member.
    Join,
    /// `GET /SyncPlay/List` and `GET /SyncPlay/{id}`: show the groups.
    Look,
}

impl Led {
    pub fn of(method: &Method, path: &str) -> Option<Led> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let (first, second) = (segments.next()?, segments.next()?);
        if segments.next().is_some() {
            return None;
        }
        let is_post = method == Method::POST;
        match first.len() {
            12 if is(first, "QuickConnect") => match second {
                _ if is(second, "Enabled") => Some(Led::Enabled),
                _ if is(second, "Initiate") => Some(Led::Initiate),
                _ if is(second, "Connect") => Some(Led::Connect),
                _ if is(second, "Authorize") && is_post => Some(Led::Authorize),
                _ => None,
            },
            5 if is(first, "Users") && is(second, "AuthenticateWithQuickConnect") && is_post => Some(Led::LogIn),
            8 if is(first, "SyncPlay") && is_post => (is(second, "New") || is(second, "Join")).then_some(Led::Join),
            8 if is(first, "SyncPlay") && method == Method::GET => Some(Led::Look),
            _ => None,
        }
    }
}

/// The first value of a key of the query, in any case of it.
pub fn in_query(query: &str, key: &str) -> Option<String> {
    query::all(query, key).into_iter().next()
}

/// A request whose content a pod remembers of the client, and is not told again: what `POST /Sessions/…` brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noteworthy {
    /// `Capabilities` and `Capabilities/Full`.
    Capabilities,
    /// `Playing` and `Playing/Progress`.
    Playing,
    /// `Playing/Stopped`.
    Stopped,
}

impl Noteworthy {
    pub fn of(method: &Method, path: &str) -> Option<Noteworthy> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        if method != Method::POST || !segments.next().is_some_and(|first| is(first, "Sessions")) {
            return None;
        }
        match (segments.next()?, segments.next(), segments.next()) {
            (second, None, _) if is(second, "Capabilities") => Some(Noteworthy::Capabilities),
            (second, Some(third), None) if is(second, "Capabilities") && is(third, "Full") => {
                Some(Noteworthy::Capabilities)
            }
            (second, None, _) if is(second, "Playing") => Some(Noteworthy::Playing),
            (second, Some(third), None) if is(second, "Playing") && is(third, "Progress") => Some(Noteworthy::Playing),
            (second, Some(third), None) if is(second, "Playing") && is(third, "Stopped") => Some(Noteworthy::Stopped),
            _ => None,
        }
    }
}

/// What a request ends, if the pod does as it asks: sessions of others than its caller among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ends {
    /// `POST /Sessions/Logout`: the caller's own token.
    Token,
    /// `DELETE /Devices?id=…[&id=…]`: every token of these devices.
    Devices(Vec<String>),
    /// `POST /Users/Password`, `POST /Users/{id}/Password`: every token of the user but the caller's. `None`: the caller's own
    /// user.
    OthersOf(Option<String>),
    /// `POST /Users/{id}/Policy`: every token of the user, if it disables him.
    UserIfDisabled(String),
    /// `DELETE /Users/{id}`.
    User(String),
}

impl Ends {
    pub fn of(method: &Method, path: &str, query: &str) -> Option<Ends> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let (first, second, third) = (segments.next()?, segments.next(), segments.next());
        if segments.next().is_some() {
            return None;
        }
        let is_user = is(first, "Users");
        match (method, second, third) {
            (&Method::POST, Some(second), None) if is(first, "Sessions") && is(second, "Logout") => Some(Ends::Token),
            (&Method::DELETE, None, None) if is(first, "Devices") => Some(Ends::Devices(query::all(query, "id"))),
            (&Method::POST, Some(second), None) if is_user && is(second, "Password") => {
                Some(Ends::OthersOf(query::all(query, "userId").into_iter().next()))
            }
            (&Method::POST, Some(id), Some(third)) if is_user && is_id(id) && is(third, "Password") => {
                Some(Ends::OthersOf(Some(id.to_owned())))
            }
            (&Method::POST, Some(id), Some(third)) if is_user && is_id(id) && is(third, "Policy") => {
                Some(Ends::UserIfDisabled(id.to_owned()))
            }
            (&Method::DELETE, Some(id), None) if is_user && is_id(id) => Some(Ends::User(id.to_owned())),
            _ => None,
        }
    }
}

/// `/System/Info` and `/System/Info/Public`, whose answers tell the server's own address.
pub fn tells_address(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.next().is_some_and(|first| is(first, "System"))
        && segments.next().is_some_and(|second| is(second, "Info"))
        && segments.next().is_none_or(|third| is(third, "Public"))
        && segments.next().is_none()
}

/// `/web/*`: the files of the web client, large ones, in which no server is named.
pub fn is_of_web_client(path: &str) -> bool {
    path.split('/').find(|segment| !segment.is_empty()).is_some_and(|first| is(first, "web"))
}

/// `/Videos/{id}/live.m3u8`, whose segments have no query.
pub fn is_live_playlist(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|last| is(last, "live.m3u8"))
}

/// How a pod is asked to open the live stream that a playlist needs: by the playback info of its channel, which the playlist's path
/// names. A target below the BaseUrl, for `POST`; none for what is no live stream.
///
/// The stream's id is made of tuner, channel and media source, and so is the same on every pod that opens it.
pub fn opening_of(path: &str, query: &str) -> Option<String> {
    query::all(query, "LiveStreamId").iter().find(|id| !id.is_empty())?;
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let channel = segments.nth(1).filter(|id| is_id(id))?;
    let target = format!("/Items/{channel}/PlaybackInfo?autoOpenLiveStream=true");
    let source = query::all(query, "MediaSourceId").into_iter().find(|source| is_id(source));
    let source = source.map_or(String::new(), |source| format!("&mediaSourceId={source}"));
    Some(target + &source)
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

/// The ids that only a path carries: a live playlist's 32 hex digits in `/Videos/{id}/hls/{playlist}/{segment}`, and a live
/// file's id in `/LiveTv/LiveStreamFiles/{id}/stream.{container}`.
pub(super) fn ids_in_path(path: &str) -> (Option<&str>, Option<&str>) {
    // Most paths are told by their first letter.
    if !matches!(path.as_bytes().get(1), Some(b'V' | b'v' | b'A' | b'a' | b'L' | b'l' | b'/')) {
        return (None, None);
    }
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let (Some(first), Some(second)) = (segments.next(), segments.next()) else { return (None, None) };
    if is(first, "LiveTv") && is(second, "LiveStreamFiles") {
        return (None, segments.next());
    }
    let legacy_hls =
        (is(first, "Videos") || is(first, "Audio")) && segments.next().is_some_and(|third| is(third, "hls"));
    (segments.next().filter(|id| legacy_hls && is_playlist(id)), None)
}

fn is_playlist(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A GUID, with or without dashes.
fn is_id(text: &str) -> bool {
    matches!(text.len(), 32 | 36) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
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
