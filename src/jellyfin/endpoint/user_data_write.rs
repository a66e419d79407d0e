//! Requests that write a user's data of an item (`UserLibraryController`, `PlaystateController`,
//! `ItemsController`). 12.0 and 10.11 have the same, with the older routes below `/Users/{id}`.

use http::Method;
use serde_json::Value;

use super::{is, segments};
use crate::jellyfin::{
    query,
    user_data::{Act, Id, Row},
};

/// A request that writes a user's data of an item, as its method and path tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserDataWrite<'a> {
    kind: Kind,
    /// The user that the path names. The query may name one too, else it is the caller.
    user: Option<&'a str>,
    /// The item that the path names; if it names none, the body does.
    item: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Favorite(bool),
    Rate,
    RemoveRating,
    Played,
    Unplayed,
    Update,
    Start,
    Progress,
    Stop,
}

/// One write, read whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The user whose data it is. `None`: the caller's.
    pub user: Option<Id>,
    pub item: Id,
    pub act: Act,
    /// Whether other pods should hear of it at once. Progress reports come every few seconds, and
    /// only the last one matters.
    pub is_urgent: bool,
    /// Whether playback goes on after it.
    pub is_playing: bool,
}

impl<'a> UserDataWrite<'a> {
    pub fn of(method: &Method, path: &'a str) -> Option<UserDataWrite<'a>> {
        let (is_post, is_delete) = (method == Method::POST, method == Method::DELETE);
        // The first letter rules out most paths.
        if !(is_post || is_delete) || !matches!(path.as_bytes().get(1), Some(b'U' | b'u' | b'S' | b's' | b'P' | b'p')) {
            return None;
        }
        let mut segments = segments(path);
        let first = segments.next()?;
        let second = segments.next()?;
        let (third, fourth, fifth) = (segments.next(), segments.next(), segments.next());
        if segments.next().is_some() {
            return None;
        }
        if is(first, "Users") {
            let (third, fourth) = (third?, fourth?);
            let kind = if is(third, "Items") { of_item(is_post, fifth?) } else { of_list(is_post, third, fifth) }?;
            // The server takes the session's user for reports, whatever the path says.
            let user = (!kind.is_report()).then_some(second);
            return Some(UserDataWrite { kind, user, item: Some(fourth) });
        }
        if fourth.is_some() {
            return None;
        }
        if is(first, "Sessions") {
            let kind = match third {
                _ if !is_post || !is(second, "Playing") => return None,
                None => Kind::Start,
                Some(third) if is(third, "Progress") => Kind::Progress,
                Some(third) if is(third, "Stopped") => Kind::Stop,
                Some(_) => return None,
            };
            return Some(UserDataWrite { kind, user: None, item: None });
        }
        let kind = if is(first, "UserItems") {
            of_item(is_post, third?)
        } else if is(first, "PlayingItems") {
            of_list(is_post, first, third)
        } else {
            of_list(is_post, first.strip_prefix_ignoring_case("User")?, third)
        };
        Some(UserDataWrite { kind: kind?, user: None, item: Some(second) })
    }

    /// The user that path or query name, whose data it is. `None`: the caller's.
    pub fn user(&self, query: &str) -> Option<Id> {
        if self.kind.is_report() {
            return None;
        }
        let named = query::all(query, "userId").into_iter().next();
        named.as_deref().or(self.user).and_then(Id::read)
    }

    /// The item that path and query name. `None` if only the body does.
    pub fn item(&self, query: &str, of_versions: Versions) -> Option<Id> {
        let item = self.item.and_then(Id::read)?;
        let version = self.kind.is_report().then(|| Report::read(true, query, b"").version).flatten();
        Some(of_versions.item(item, version))
    }

    /// What it writes. `None` if the server writes nothing for it, or if body and query do not tell.
    pub fn read(&self, query: &str, body: &[u8], of_versions: Versions) -> Option<Write> {
        let report = self.kind.is_report().then(|| Report::read(self.item.is_some(), query, body));
        let item = self.item.and_then(Id::read).or_else(|| report.as_ref().and_then(|report| report.item));
        let version = report.as_ref().and_then(|report| report.version);
        let item = item.map(|item| of_versions.item(item, version));
        let ticks = report.as_ref().and_then(|report| report.ticks);
        let act = match self.kind {
            Kind::Favorite(is_favorite) => Act::Favorite(is_favorite),
            Kind::Rate => {
                Act::Likes(query::all(query, "likes").first().map(|likes| likes.eq_ignore_ascii_case("true")))
            }
            Kind::RemoveRating => Act::Likes(None),
            Kind::Played => Act::Played(query::all(query, "datePlayed").into_iter().next()),
            Kind::Unplayed => Act::Unplayed,
            Kind::Update => Act::Update(Row::given(body)?),
            Kind::Start => Act::Started,
            // A progress report without a position sets nothing.
            Kind::Progress => Act::Reached(ticks?),
            Kind::Stop if report.as_ref().is_some_and(|report| report.is_failed) => return None,
            Kind::Stop => ticks.map_or(Act::Ended, Act::Reached),
        };
        let is_progress = self.kind == Kind::Progress;
        let is_paused = report.is_some_and(|report| report.is_paused);
        let is_playing = is_progress || self.kind == Kind::Start;
        Some(Write { user: self.user(query), item: item?, act, is_urgent: !is_progress || is_paused, is_playing })
    }
}

/// Whose row a report of playback writes, where an item has several versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Of the version that plays, since 12.0 (`SessionManager.GetProgressItem`).
    Each,
    /// Of the item, as in 10.11.
    Together,
}

impl Versions {
    fn item(self, item: Id, version: Option<Id>) -> Id {
        match self {
            Versions::Each => version.unwrap_or(item),
            Versions::Together => item,
        }
    }
}

impl Kind {
    /// Whether it is a report of playback: it is about the session's own user.
    fn is_report(self) -> bool {
        matches!(self, Kind::Start | Kind::Progress | Kind::Stop)
    }
}

/// `…Items/{id}/{last}`
fn of_item(is_post: bool, last: &str) -> Option<Kind> {
    match is_post {
        true if is(last, "Rating") => Some(Kind::Rate),
        true if is(last, "UserData") => Some(Kind::Update),
        false if is(last, "Rating") => Some(Kind::RemoveRating),
        _ => None,
    }
}

/// `FavoriteItems/{id}`, `PlayedItems/{id}`, `PlayingItems/{id}` and `PlayingItems/{id}/Progress`.
fn of_list(is_post: bool, list: &str, last: Option<&str>) -> Option<Kind> {
    match last {
        None if is(list, "FavoriteItems") => Some(Kind::Favorite(is_post)),
        None if is(list, "PlayedItems") => Some(if is_post { Kind::Played } else { Kind::Unplayed }),
        None if is(list, "PlayingItems") => Some(if is_post { Kind::Start } else { Kind::Stop }),
        Some(last) if is_post && is(list, "PlayingItems") && is(last, "Progress") => Some(Kind::Progress),
        _ => None,
    }
}

/// A report of playback: from the body, or from the query where the path names the item.
#[derive(Debug, Default)]
struct Report {
    item: Option<Id>,
    /// The media source that plays, if it may be a version of the item. Live television names its
    /// stream so.
    version: Option<Id>,
    ticks: Option<i64>,
    is_paused: bool,
    is_failed: bool,
}

impl Report {
    fn read(is_in_query: bool, query: &str, body: &[u8]) -> Report {
        if is_in_query {
            let value = |key| query::all(query, key).into_iter().next();
            return Report {
                item: None,
                version: value("mediaSourceId")
                    .as_deref()
                    .and_then(Id::read)
                    .filter(|_| value("liveStreamId").is_none()),
                ticks: value("positionTicks").and_then(|ticks| ticks.parse().ok()),
                is_paused: value("isPaused").is_some_and(|paused| paused.eq_ignore_ascii_case("true")),
                is_failed: false,
            };
        }
        let Ok(Value::Object(report)) = serde_json::from_slice(body) else { return Report::default() };
        let value = |key| report.iter().find(|(name, _)| is(name, key)).map(|(_, value)| value);
        let id = |key| value(key).and_then(Value::as_str).and_then(Id::read);
        Report {
            item: id("ItemId"),
            version: id("MediaSourceId").filter(|_| value("LiveStreamId").is_none_or(Value::is_null)),
            ticks: value("PositionTicks").and_then(Value::as_i64),
            is_paused: value("IsPaused").is_some_and(|paused| paused == true),
            is_failed: value("Failed").is_some_and(|failed| failed == true),
        }
    }
}

/// The item whose row a report of playback writes, which only the body names.
pub fn reported_item(report: &[u8], of_versions: Versions) -> Option<Id> {
    let Report { item, version, .. } = Report::read(false, "", report);
    item.map(|item| of_versions.item(item, version))
}

/// The item that a request is about, if its path names one: what it reads may be old on its pod.
pub fn item_read(path: &str) -> Option<Id> {
    let mut segments = segments(path);
    let (first, second) = (segments.next()?, segments.next()?);
    if is(first, "Items") || is(first, "UserItems") {
        return Id::read(second);
    }
    let is_older = is(first, "Users") && segments.next().is_some_and(|third| is(third, "Items"));
    segments.next().filter(|_| is_older).and_then(Id::read)
}

trait StripPrefix {
    fn strip_prefix_ignoring_case(&self, prefix: &str) -> Option<&str>;
}

impl StripPrefix for str {
    fn strip_prefix_ignoring_case(&self, prefix: &str) -> Option<&str> {
        let (start, rest) = self.split_at_checked(prefix.len())?;
        is(start, prefix).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ITEM: &str = "0123456789abcdef0123456789abcdef";
    const BOB: &str = "fedcba9876543210fedcba9876543210";

    fn read(method: &str, target: &str, body: &[u8]) -> Option<(Option<String>, Act, bool, bool)> {
        let method = method.parse().expect("a method");
        let target = target.replace("{i}", ITEM).replace("{bob}", BOB);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let write = UserDataWrite::of(&method, path)?.read(query, body, Versions::Each)?;
        assert_eq!(write.item, Id::read(ITEM).expect("an id"), "{target}");
        Some((write.user.map(|user| user.to_string()), write.act, write.is_urgent, write.is_playing))
    }

    #[test]
    fn every_request_that_writes_is_known_with_what_it_sets() {
        let bob = || Some(BOB.to_owned());
        let given = || Act::Update(Row::given(br#"{"Played":true}"#).expect("a body"));
        let report = json!({"ItemId": ITEM, "PositionTicks": 7}).to_string();
        let date = || Act::Played(Some("20260101000000".to_owned()));
        for (method, target, body, user, act) in [
            ("POST", "/UserFavoriteItems/{i}?userId={bob}", "", bob(), Act::Favorite(true)),
            ("DELETE", "/userfavoriteitems/{i}", "", None, Act::Favorite(false)),
            ("POST", "/Users/{bob}/FavoriteItems/{i}", "", bob(), Act::Favorite(true)),
            ("DELETE", "/Users/{bob}/FavoriteItems/{i}", "", bob(), Act::Favorite(false)),
            ("POST", "/UserPlayedItems/{i}?datePlayed=20260101000000", "", None, date()),
            ("POST", "/UserPlayedItems/{i}", "", None, Act::Played(None)),
            ("DELETE", "/UserPlayedItems/{i}", "", None, Act::Unplayed),
            ("POST", "/Users/{bob}/PlayedItems/{i}", "", bob(), Act::Played(None)),
            ("DELETE", "/Users/{bob}/PlayedItems/{i}", "", bob(), Act::Unplayed),
            ("POST", "/UserItems/{i}/Rating?likes=true", "", None, Act::Likes(Some(true))),
            ("POST", "/UserItems/{i}/Rating?likes=False", "", None, Act::Likes(Some(false))),
            ("POST", "/UserItems/{i}/Rating", "", None, Act::Likes(None)),
            ("DELETE", "/UserItems/{i}/Rating", "", None, Act::Likes(None)),
            ("POST", "/Users/{bob}/Items/{i}/Rating?likes=true", "", bob(), Act::Likes(Some(true))),
            ("DELETE", "/Users/{bob}/Items/{i}/Rating", "", bob(), Act::Likes(None)),
            ("POST", "/UserItems/{i}/UserData?userId={bob}", r#"{"Played":true}"#, bob(), given()),
            ("POST", "/Users/{bob}/Items/{i}/UserData", r#"{"Played":true}"#, bob(), given()),
            ("POST", "/Sessions/Playing/Stopped", &report, None, Act::Reached(7)),
            ("POST", "/Sessions/Playing/Stopped", &report.replace(",\"PositionTicks\":7", ""), None, Act::Ended),
            ("DELETE", "/PlayingItems/{i}?positionTicks=7", "", None, Act::Reached(7)),
            ("DELETE", "/Users/{bob}/PlayingItems/{i}?PositionTicks=7", "", None, Act::Reached(7)),
        ] {
            assert_eq!(read(method, target, body.as_bytes()), Some((user, act, true, false)), "{method} {target}");
        }
        for (target, body, act, is_urgent) in [
            ("/Sessions/Playing", &*report, Act::Started, true),
            ("/PlayingItems/{i}", "", Act::Started, true),
            ("/Users/{bob}/PlayingItems/{i}?userId={bob}", "", Act::Started, true),
            ("/Sessions/Playing/Progress", &report, Act::Reached(7), false),
            ("/Sessions/Playing/Progress/", &report.replace('}', ",\"isPaused\":true}"), Act::Reached(7), true),
            ("/PlayingItems/{i}/Progress?positionTicks=7", "", Act::Reached(7), false),
            ("/PlayingItems/{i}/Progress?positionTicks=7&isPaused=true", "", Act::Reached(7), true),
        ] {
            assert_eq!(read("POST", target, body.as_bytes()), Some((None, act, is_urgent, true)), "{target}");
        }
    }

    #[test]
    fn a_report_writes_the_row_of_the_version_that_plays() {
        let (item, version) = (Id::read(ITEM), Id::read(BOB));
        let report = |more: &str| format!(r#"{{"ItemId":"{ITEM}","mediaSourceId":"{BOB}","PositionTicks":7{more}}}"#);
        let played = |more: &str, of_versions| reported_item(report(more).as_bytes(), of_versions);
        assert_eq!(played("", Versions::Each), version);
        assert_eq!(played("", Versions::Together), item, "10.11");
        assert_eq!(played(r#","LiveStreamId":"x""#, Versions::Each), item, "live television");
        assert_eq!(played(r#","LiveStreamId":null"#, Versions::Each), version);
        let path = format!("/PlayingItems/{ITEM}/Progress");
        let write = UserDataWrite::of(&Method::POST, &path).expect("a write");
        let query = format!("positionTicks=7&mediaSourceId={BOB}");
        assert_eq!(write.item(&query, Versions::Each), version);
        assert_eq!(write.read(&query, b"", Versions::Each).map(|write| write.item), version);
        assert_eq!(write.read(&query, b"", Versions::Together).map(|write| write.item), item);
    }

    #[test]
    fn what_writes_nothing_is_none() {
        let failed = json!({"ItemId": ITEM, "PositionTicks": 7, "Failed": true}).to_string();
        let unknown = json!({"PositionTicks": 7}).to_string();
        for (method, target, body) in [
            ("GET", "/UserItems/{i}/UserData", ""),
            ("DELETE", "/UserItems/{i}/UserData", ""),
            ("POST", "/UserItems/{i}", ""),
            ("POST", "/UserViews/{i}", ""),
            ("POST", "/Users/{i}/Password", ""),
            ("POST", "/Users/{bob}/Items/{i}", ""),
            ("POST", "/Sessions/Playing/Ping", ""),
            ("POST", "/Sessions/{i}/Playing", ""),
            ("DELETE", "/Sessions/Playing", &unknown),
            ("DELETE", "/PlayingItems/{i}/Progress", ""),
            ("POST", "/UserFavoriteItems/x", ""),
            ("POST", "/UserFavoriteItems/{i}/x", ""),
            ("POST", "/Sessions/Playing", &unknown),
            ("POST", "/Sessions/Playing/Progress", &unknown),
            ("POST", "/Sessions/Playing/Stopped", &failed),
            ("POST", "/Playlists/{i}/Items", ""),
        ] {
            assert_eq!(read(method, target, body.as_bytes()), None, "{method} {target}");
        }
    }

    #[test]
    fn the_item_that_a_path_is_about() {
        for path in ["/Items/{i}", "/Items/{i}/PlaybackInfo", "/useritems/{i}/UserData", "/Users/{bob}/Items/{i}"] {
            assert_eq!(item_read(&path.replace("{i}", ITEM).replace("{bob}", BOB)), Id::read(ITEM), "{path}");
        }
        for path in ["/Items", "/Items/Counts", "/Users/{bob}/Views", "/UserItems/Resume", "/Shows/{i}/Seasons"] {
            assert_eq!(item_read(&path.replace("{i}", ITEM).replace("{bob}", BOB)), None, "{path}");
        }
    }
}
