//! The table of endpoints: method, path, who may call, and what answers.

use http::Method;

use crate::answer::Answer;
use crate::call::Call;
use crate::endpoints::{
    activity, api_keys, devices, downloads, hls, images, items, live_tv, playback, remote_control, reports,
};
use crate::endpoints::{documents, groups, item_edits, libraries, sessions, system, tasks, user_data, users};
use crate::generation::Generation;
use crate::identifiers::plain;
use crate::{quick_connect, single_sign_on, single_writer, sync_play};

/// One endpoint.
pub(crate) struct Route {
    methods: &'static [&'static str],
    /// In lower case; `{…}` stands for one segment, or for the rest of one that begins otherwise. What is named after a GUID has to
    /// be one.
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) handler: fn(&Call) -> Answer,
    /// Whether it answers before the core has completed its start.
    pub(crate) while_starting: bool,
    /// A limit of its own for the body, in bytes.
    pub(crate) body_limit: Option<usize>,
    only: Option<Generation>,
}

/// Who may call an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Anonymous,
    /// `[Authorize]`.
    Authorized,
    /// Policy `RequiresElevation`.
    Administrator,
    /// Policy `FirstTimeSetupOrElevated`: everybody until the wizard is done.
    FirstTimeSetup,
    /// The policies of `/SyncPlay/*`.
    SyncPlay {
        in_group: bool,
    },
}

/// Placeholders that are bound to a `Guid`, and the parameters' names.
const GUIDS: [(&str, &str); 2] = [("userid", "userId"), ("itemid", "itemId")];

/// What the table has for a request.
pub(crate) enum Match {
    Route(&'static Route, Vec<String>),
    /// The path is there, the method is not; with the value of `Allow`.
    WrongMethod(String),
    None,
}

const GET: &[&str] = &["GET"];
const POST: &[&str] = &["POST"];
const DELETE: &[&str] = &["DELETE"];
const GET_POST: &[&str] = &["GET", "POST"];
const GET_HEAD: &[&str] = &["GET", "HEAD"];
const ANY: &[&str] = &[];

const fn route(
    methods: &'static [&'static str],
    path: &'static str,
    access: Access,
    handler: fn(&Call) -> Answer,
) -> Route {
    Route { methods, path, access, handler, while_starting: false, body_limit: None, only: None }
}

impl Route {
    const fn while_starting(mut self) -> Route {
        self.while_starting = true;
        self
    }

    const fn body_limit(mut self, bytes: usize) -> Route {
        self.body_limit = Some(bytes);
        self
    }

    /// The placeholder that model binding refuses, and its value.
    pub(crate) fn invalid_guid<'a>(&self, captured: &'a [String]) -> Option<(&'static str, &'a str)> {
        let names = self.path.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
        let bad = names
            .zip(captured)
            .find(|(name, value)| GUIDS.iter().any(|(guid, _)| guid == name) && plain(value).is_none())?;
        GUIDS.iter().find(|(guid, _)| *guid == bad.0).map(|(_, shown)| (*shown, bad.1.as_str()))
    }

    const fn only(mut self, generation: Generation) -> Route {
        self.only = Some(generation);
        self
    }
}

use Access::{Administrator, Anonymous, Authorized, FirstTimeSetup};
const GROUP: Access = Access::SyncPlay { in_group: true };
const SYNC_PLAY: Access = Access::SyncPlay { in_group: false };

/// Literal paths stand before those with placeholders that would take them.
static ROUTES: &[Route] = &[
    route(ANY, "/health", Anonymous, system::health),
    route(GET_POST, "/system/ping", Anonymous, system::ping).while_starting(),
    route(GET, "/system/info/public", Anonymous, system::public_info),
    route(GET, "/system/info", Authorized, system::info),
    route(GET, "/system/endpoint", Authorized, system::endpoint),
    route(GET, "/system/logs", Administrator, system::logs),
    route(GET, "/system/configuration", Authorized, documents::system),
    route(POST, "/system/configuration", Administrator, documents::set_system),
    route(GET, "/system/configuration/{key}", Authorized, documents::named),
    route(POST, "/system/configuration/{key}", Administrator, documents::set_named),
    route(GET, "/plugins", Administrator, documents::plugins),
    route(GET, "/plugins/{id}/configuration", Administrator, documents::plugin),
    route(POST, "/plugins/{id}/configuration", Administrator, documents::set_plugin),
    route(GET, "/library/virtualfolders", FirstTimeSetup, libraries::list),
    route(POST, "/library/virtualfolders", Administrator, libraries::add),
    route(DELETE, "/library/virtualfolders", Administrator, libraries::remove),
    route(POST, "/library/virtualfolders/name", Administrator, libraries::rename),
    route(POST, "/library/virtualfolders/paths", Administrator, libraries::add_path),
    route(DELETE, "/library/virtualfolders/paths", Administrator, libraries::remove_path),
    route(POST, "/library/virtualfolders/paths/update", Administrator, libraries::update_path),
    route(POST, "/library/virtualfolders/libraryoptions", Administrator, libraries::set_options),
    route(POST, "/library/refresh", Administrator, item_edits::scan),
    route(POST, "/library/media/updated", Authorized, item_edits::media_updated),
    route(GET, "/startup/configuration", FirstTimeSetup, system::first_configuration),
    route(GET, "/startup/user", FirstTimeSetup, system::first_user),
    route(POST, "/startup/user", FirstTimeSetup, system::set_first_user),
    route(GET, "/getutctime", Anonymous, system::utc_time),
    route(POST, "/echo", Anonymous, system::echo),
    route(POST, "/system/restart", Anonymous, system::restart),
    route(GET, "/branding/configuration", Anonymous, documents::branding),
    route(GET, "/repositories", Administrator, documents::repositories),
    route(POST, "/repositories", Administrator, documents::set_repositories),
    route(POST, "/clientlog/document", Authorized, system::client_log).body_limit(1_000_000),
    route(GET, "/playback/bitratetest", Authorized, system::bitrate_test),
    route(GET, "/quickconnect/enabled", Anonymous, quick_connect::enabled),
    route(POST, "/quickconnect/initiate", Anonymous, quick_connect::initiate),
    route(GET, "/quickconnect/initiate", Anonymous, quick_connect::initiate).only(Generation::V10_11),
    route(GET, "/quickconnect/connect", Anonymous, quick_connect::connect),
    route(POST, "/quickconnect/authorize", Authorized, quick_connect::authorize),
    route(POST, "/users/authenticatewithquickconnect", Anonymous, quick_connect::log_in),
    route(POST, "/users/authenticatebyname", Anonymous, users::log_in),
    route(POST, "/users/forgotpassword", Anonymous, users::forgot_password),
    route(GET, "/users/public", Anonymous, users::public),
    route(GET, "/users/me", Authorized, users::me),
    route(POST, "/users/new", Administrator, users::create),
    route(POST, "/users/password", Authorized, users::change_password),
    route(GET, "/users", Authorized, users::list),
    route(POST, "/users/{userid}/authenticate", Anonymous, users::log_in_by_id),
    route(POST, "/users/{userid}/password", Authorized, users::change_password),
    route(POST, "/users/{userid}/policy", Administrator, users::change_policy),
    route(GET, "/users/{userid}/items", Authorized, items::of_user),
    route(GET, "/users/{userid}/items/resume", Authorized, items::resume),
    route(GET, "/users/{userid}/items/latest", Authorized, items::none_as_list),
    route(GET, "/users/{userid}/items/{itemid}", Authorized, items::one_of_user),
    route(GET, "/users/{userid}/items/{itemid}/userdata", Authorized, user_data::read),
    route(POST, "/users/{userid}/items/{itemid}/userdata", Authorized, user_data::write),
    route(POST, "/users/{userid}/items/{itemid}/rating", Authorized, user_data::rate),
    route(DELETE, "/users/{userid}/items/{itemid}/rating", Authorized, user_data::unrate),
    route(POST, "/users/{userid}/favoriteitems/{itemid}", Authorized, user_data::favorite),
    route(DELETE, "/users/{userid}/favoriteitems/{itemid}", Authorized, user_data::unfavorite),
    route(POST, "/users/{userid}/playeditems/{itemid}", Authorized, user_data::mark_played),
    route(DELETE, "/users/{userid}/playeditems/{itemid}", Authorized, user_data::mark_unplayed),
    route(POST, "/users/{userid}/playingitems/{itemid}", Authorized, reports::started_by_query),
    route(POST, "/users/{userid}/playingitems/{itemid}/progress", Authorized, reports::progress_by_query),
    route(DELETE, "/users/{userid}/playingitems/{itemid}", Authorized, reports::stopped_by_query),
    route(GET, "/users/{userid}/views", Authorized, items::views),
    route(GET_HEAD, "/users/{userid}/images/{kind}", Anonymous, images::of_user),
    route(POST, "/users/{userid}/images/{kind}", Authorized, images::upload_of_user),
    route(DELETE, "/users/{userid}/images/{kind}", Authorized, images::remove_of_user),
    route(GET, "/users/{userid}", Authorized, users::one),
    route(POST, "/users/{userid}", Authorized, users::update),
    route(POST, "/users", Authorized, users::update),
    route(DELETE, "/users/{userid}", Administrator, users::delete),
    route(GET_HEAD, "/userimage", Anonymous, images::of_user),
    route(POST, "/userimage", Authorized, images::upload_of_user),
    route(DELETE, "/userimage", Authorized, images::remove_of_user),
    route(GET, "/auth/keys", Administrator, api_keys::list),
    route(POST, "/auth/keys", Administrator, api_keys::create),
    route(DELETE, "/auth/keys/{key}", Administrator, api_keys::delete),
    route(GET, "/devices", Administrator, devices::list),
    route(DELETE, "/devices", Administrator, devices::delete),
    route(GET, "/devices/info", Administrator, devices::info),
    route(GET, "/devices/options", Administrator, devices::options),
    route(POST, "/devices/options", Administrator, devices::set_options),
    route(GET, "/sessions", Authorized, sessions::list),
    route(POST, "/sessions/logout", Authorized, sessions::log_out),
    route(POST, "/sessions/capabilities", Authorized, sessions::capabilities),
    route(POST, "/sessions/capabilities/full", Authorized, sessions::full_capabilities),
    route(POST, "/sessions/viewing", Authorized, remote_control::viewing),
    route(POST, "/sessions/playing", Authorized, reports::started),
    route(POST, "/sessions/playing/progress", Authorized, reports::progress),
    route(POST, "/sessions/playing/stopped", Authorized, reports::stopped),
    route(POST, "/sessions/playing/ping", Authorized, reports::ping),
    route(POST, "/sessions/{id}/viewing", Authorized, remote_control::display),
    route(POST, "/sessions/{id}/user/{userid}", Authorized, remote_control::add_user),
    route(DELETE, "/sessions/{id}/user/{userid}", Authorized, remote_control::remove_user),
    route(POST, "/sessions/{id}/message", Authorized, remote_control::message),
    route(POST, "/sessions/{id}/command", Authorized, remote_control::full_command),
    route(POST, "/sessions/{id}/command/{name}", Authorized, remote_control::command),
    route(POST, "/sessions/{id}/system/{name}", Authorized, remote_control::command),
    route(POST, "/sessions/{id}/playing", Authorized, remote_control::play),
    route(POST, "/sessions/{id}/playing/{name}", Authorized, remote_control::play_state),
    route(GET, "/system/activitylog/entries", Administrator, activity::entries),
    route(GET, "/scheduledtasks", Administrator, tasks::list),
    route(POST, "/scheduledtasks/running/{id}", Administrator, tasks::run),
    route(DELETE, "/scheduledtasks/running/{id}", Administrator, tasks::stop),
    route(GET, "/scheduledtasks/{id}", Administrator, tasks::one),
    route(POST, "/scheduledtasks/{id}/triggers", Administrator, tasks::set_triggers),
    route(POST, "/collections", Authorized, groups::create_collection),
    route(POST, "/collections/{itemid}/items", Authorized, groups::add_to_collection),
    route(DELETE, "/collections/{itemid}/items", Authorized, groups::remove_from_collection),
    route(POST, "/playlists", Authorized, groups::create_playlist),
    route(GET, "/playlists/{itemid}/items", Authorized, items::of_playlist),
    route(POST, "/playlists/{itemid}/items", Authorized, groups::add_to_playlist),
    route(DELETE, "/playlists/{itemid}/items", Authorized, groups::remove_from_playlist),
    route(GET, "/genres/{name}", Authorized, single_writer::by_name),
    route(GET, "/studios/{name}", Authorized, single_writer::by_name),
    route(GET, "/years/{name}", Authorized, single_writer::by_name),
    route(GET, "/artists/{name}", Authorized, single_writer::by_name),
    route(POST, "/videos/{itemid}/subtitles", Administrator, item_edits::upload_subtitle),
    route(GET, "/userviews", Authorized, items::views),
    route(GET, "/useritems/resume", Authorized, items::resume),
    route(GET, "/useritems/{itemid}/userdata", Authorized, user_data::read),
    route(POST, "/useritems/{itemid}/userdata", Authorized, user_data::write),
    route(POST, "/useritems/{itemid}/rating", Authorized, user_data::rate),
    route(DELETE, "/useritems/{itemid}/rating", Authorized, user_data::unrate),
    route(POST, "/userfavoriteitems/{itemid}", Authorized, user_data::favorite),
    route(DELETE, "/userfavoriteitems/{itemid}", Authorized, user_data::unfavorite),
    route(POST, "/userplayeditems/{itemid}", Authorized, user_data::mark_played),
    route(DELETE, "/userplayeditems/{itemid}", Authorized, user_data::mark_unplayed),
    route(POST, "/playingitems/{itemid}", Authorized, reports::started_by_query),
    route(POST, "/playingitems/{itemid}/progress", Authorized, reports::progress_by_query),
    route(DELETE, "/playingitems/{itemid}", Authorized, reports::stopped_by_query),
    route(GET, "/shows/nextup", Authorized, items::none),
    route(GET, "/displaypreferences/{id}", Authorized, items::display_preferences),
    route(POST, "/displaypreferences/{id}", Authorized, items::keep_nothing),
    route(GET, "/items", Authorized, items::list),
    route(GET, "/items/latest", Authorized, items::none_as_list),
    route(GET, "/items/{itemid}", Authorized, items::one),
    route(GET, "/items/{itemid}/ancestors", Authorized, items::ancestors),
    route(DELETE, "/items", Authorized, item_edits::delete_many),
    route(POST, "/items/{itemid}", Administrator, item_edits::edit),
    route(DELETE, "/items/{itemid}", Authorized, item_edits::delete),
    route(POST, "/items/{itemid}/refresh", Administrator, item_edits::refresh),
    route(GET, "/items/{itemid}/images", Authorized, images::list),
    route(GET_HEAD, "/items/{itemid}/images/{kind}", Anonymous, images::of_item),
    route(POST, "/items/{itemid}/images/{kind}", Administrator, images::upload),
    route(DELETE, "/items/{itemid}/images/{kind}", Administrator, images::remove),
    route(GET_HEAD, "/items/{itemid}/images/{kind}/{index}", Anonymous, images::of_item),
    route(POST, "/items/{itemid}/images/{kind}/{index}", Administrator, images::upload),
    route(DELETE, "/items/{itemid}/images/{kind}/{index}", Administrator, images::remove),
    route(POST, "/items/{itemid}/images/{kind}/{index}/index", Administrator, images::swap),
    route(GET, "/branding/splashscreen", Anonymous, images::splash_screen),
    route(POST, "/branding/splashscreen", Administrator, images::upload_splash_screen),
    route(DELETE, "/branding/splashscreen", Administrator, images::remove_splash_screen),
    route(GET_POST, "/items/{itemid}/playbackinfo", Authorized, playback::info),
    route(GET, "/items/{itemid}/download", Authorized, downloads::download),
    route(GET, "/items/{itemid}/file", Authorized, downloads::file),
    route(GET_HEAD, "/videos/{id}/stream", Anonymous, downloads::stream),
    route(GET_HEAD, "/videos/{id}/stream.{ext}", Anonymous, downloads::stream),
    route(GET_HEAD, "/audio/{id}/stream", Anonymous, downloads::stream),
    route(GET_HEAD, "/videos/{id}/master.m3u8", Authorized, hls::master),
    route(GET, "/videos/{id}/main.m3u8", Authorized, hls::main),
    route(GET, "/videos/{id}/hls1/{playlist}/{segment}", Authorized, hls::segment),
    route(GET, "/videos/{id}/live.m3u8", Authorized, hls::live),
    route(GET, "/videos/{id}/hls/{playlist}/{segment}", Anonymous, hls::live_segment),
    route(DELETE, "/videos/activeencodings", Authorized, hls::end),
    route(POST, "/livestreams/open", Authorized, live_tv::open),
    route(POST, "/livestreams/close", Authorized, live_tv::close),
    route(GET, "/livetv/livestreamfiles/{id}/stream.{ext}", Anonymous, live_tv::file),
    route(GET, "/livetv/liverecordings/{id}/stream", Anonymous, live_tv::recording),
    route(GET, "/syncplay/list", SYNC_PLAY, sync_play::list),
    route(POST, "/syncplay/new", SYNC_PLAY, sync_play::new),
    route(POST, "/syncplay/join", SYNC_PLAY, sync_play::join),
    route(POST, "/syncplay/ping", SYNC_PLAY, sync_play::ping),
    route(POST, "/syncplay/leave", GROUP, sync_play::leave),
    route(POST, "/syncplay/setnewqueue", GROUP, sync_play::set_new_queue),
    route(POST, "/syncplay/unpause", GROUP, sync_play::unpause),
    route(POST, "/syncplay/pause", GROUP, sync_play::pause),
    route(POST, "/syncplay/stop", GROUP, sync_play::stop),
    route(POST, "/syncplay/seek", GROUP, sync_play::seek),
    route(POST, "/syncplay/buffering", GROUP, sync_play::buffering),
    route(POST, "/syncplay/ready", GROUP, sync_play::ready),
    route(POST, "/syncplay/setplaylistitem", GROUP, sync_play::set_playlist_item),
    route(POST, "/syncplay/nextitem", GROUP, sync_play::next_item),
    route(POST, "/syncplay/previousitem", GROUP, sync_play::previous_item),
    route(POST, "/syncplay/setignorewait", GROUP, sync_play::set_ignore_wait),
    route(POST, "/syncplay/queue", GROUP, sync_play::queue),
    route(POST, "/syncplay/setrepeatmode", GROUP, sync_play::set_repeat_mode),
    route(POST, "/syncplay/setshufflemode", GROUP, sync_play::set_shuffle_mode),
    route(POST, "/syncplay/{other}", GROUP, sync_play::other),
    route(GET, "/syncplay/{id}", SYNC_PLAY, sync_play::one),
    route(GET, "/sso/oid/start/{provider}", Anonymous, single_sign_on::start),
    route(GET, "/sso/oid/p/{provider}", Anonymous, single_sign_on::start),
    route(GET, "/sso/oid/redirect/{provider}", Anonymous, single_sign_on::come_back),
    route(GET, "/sso/oid/r/{provider}", Anonymous, single_sign_on::come_back),
    route(POST, "/sso/oid/auth/{provider}", Anonymous, single_sign_on::log_in),
    route(GET, "/sso/oid/states", Administrator, single_sign_on::states),
    route(GET, "/sso/oid/getnames", Anonymous, single_sign_on::names),
    route(GET, "/sso/saml/start/{provider}", Anonymous, single_sign_on::start_saml),
    route(GET, "/sso/saml/p/{provider}", Anonymous, single_sign_on::start_saml),
    route(POST, "/sso/saml/post/{provider}", Anonymous, single_sign_on::come_back_saml),
    route(POST, "/sso/saml/p/{provider}", Anonymous, single_sign_on::come_back_saml),
    route(POST, "/sso/saml/auth/{provider}", Anonymous, single_sign_on::log_in_saml),
    route(POST, "/sso/oid/link/{provider}/{user}", Authorized, single_sign_on::link),
];

/// Finds the endpoint of a request.
pub(crate) fn find(method: &Method, path: &str, generation: Generation) -> Match {
    let mut allowed: Vec<&str> = Vec::new();
    for route in ROUTES.iter().filter(|route| route.only.is_none_or(|only| only == generation)) {
        let Some(captured) = captured(route.path, path) else {
            continue;
        };
        if route.methods.is_empty() || route.methods.contains(&method.as_str()) {
            return Match::Route(route, captured);
        }
        allowed.extend(route.methods);
    }
    allowed.sort_unstable();
    allowed.dedup();
    if allowed.is_empty() { Match::None } else { Match::WrongMethod(allowed.join(", ")) }
}

/// What the placeholders stand for, if the path fits the pattern.
fn captured(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let path = path.strip_prefix('/')?;
    let mut segments = path.strip_suffix('/').unwrap_or(path).split('/');
    for part in pattern.trim_start_matches('/').split('/') {
        let segment = segments.next()?;
        match part.split_once('{') {
            None if part.eq_ignore_ascii_case(segment) => {}
            Some((start, _))
                if segment.len() > start.len() && segment.get(..start.len())?.eq_ignore_ascii_case(start) =>
            {
                found.push(segment[start.len()..].to_owned());
            }
            _ => return None,
        }
    }
    segments.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_in_any_case_and_placeholders_take_one_segment() {
        assert_eq!(
            captured("/users/{id}/items/{item}", "/Users/A/Items/B"),
            Some(vec!["A".to_owned(), "B".to_owned()])
        );
        assert_eq!(
            captured("/videos/{id}/stream.{ext}", "/videos/7/stream.mkv"),
            Some(vec!["7".to_owned(), "mkv".to_owned()])
        );
        assert_eq!(captured("/users/{id}", "/Users/a/b"), None);
        assert_eq!(captured("/users/{id}", "/Users/"), None);
        assert_eq!(captured("/users/me", "/Users/Me/"), Some(Vec::new()));
        for empty in ["//users/me", "/users//me", "/users/me//", "users/me"] {
            assert_eq!(captured("/users/me", empty), None, "{empty}");
        }
    }

    #[test]
    fn a_known_path_with_another_method_names_those_allowed() {
        let Match::WrongMethod(allowed) = find(&Method::GET, "/QuickConnect/Initiate", Generation::V12) else {
            panic!("GET must not be taken");
        };
        assert_eq!(allowed, "POST");
        assert!(matches!(find(&Method::GET, "/QuickConnect/Initiate", Generation::V10_11), Match::Route(..)));
        assert!(matches!(find(&Method::GET, "/nowhere", Generation::V12), Match::None));
    }
}
