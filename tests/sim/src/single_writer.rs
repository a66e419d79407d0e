//! The build with one catalogue writer: who writes, and what the pods that follow answer.
//!
//! As `recordings/12-single-writer` and the measurements of that build say. A pod writes while it holds a lock of the
//! database; after its end another one gets the lock. No pod says who has it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use crate::answer::Answer;
use crate::call::Call;
use crate::routes::Route;

/// What the pods of one database share of it: the lock, what the writer has made, and the leases of transcodes.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    writer: Option<String>,
    free_since: Option<Instant>,
    /// Users whose views the writer has made.
    with_views: HashSet<String>,
    /// Genres, studios, years and artists that the database has.
    names: HashSet<String>,
    /// By the play session.
    leases: HashMap<String, Lease>,
    /// The segments in the shared transcode folder, by play session and number.
    made: HashSet<(String, usize)>,
}

/// Redis: who transcodes for a play session.
#[derive(Debug)]
struct Lease {
    owner: String,
    /// `None` while the owner lives and renews it.
    until: Option<Instant>,
}

impl Seat {
    pub(crate) fn writer(&self) -> Option<&str> {
        self.writer.as_deref()
    }

    /// Whether this pod writes. A pod that asks takes a lock that has been free for so long.
    pub(crate) fn is_writer(&mut self, pod: &str, fail_over: Duration) -> bool {
        if self.writer.is_none() && self.free_since.is_none_or(|since| since.elapsed() >= fail_over) {
            self.writer = Some(pod.to_owned());
        }
        self.writer.as_deref() == Some(pod)
    }

    /// The database ends the session that held the lock, and another pod is quicker.
    pub(crate) fn move_to(&mut self, pod: &str) {
        self.writer = Some(pod.to_owned());
    }

    /// A pod's process has ended: its lock is free at once, its leases run out.
    pub(crate) fn leave(&mut self, pod: &str, lease: Duration) {
        if self.writer.as_deref() == Some(pod) {
            self.writer = None;
            self.free_since = Some(Instant::now());
        }
        for held in self.leases.values_mut().filter(|held| held.owner == pod && held.until.is_none()) {
            held.until = Some(Instant::now() + lease);
        }
    }

    /// Whether this pod may send a segment: it is in the folder, or the pod has the lease or gets it.
    pub(crate) fn may_send(&mut self, pod: &str, play_session: &str, number: usize) -> bool {
        let key = (play_session.to_owned(), number);
        if self.made.contains(&key) {
            return true;
        }
        let is_held = |held: &Lease| held.until.is_none_or(|until| Instant::now() < until);
        if self.leases.get(play_session).is_some_and(|held| held.owner != pod && is_held(held)) {
            return false;
        }
        self.leases.insert(play_session.to_owned(), Lease { owner: pod.to_owned(), until: None });
        self.made.insert(key)
    }
}

/// What a follower does with a request that is the writer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    /// 204, and nothing happens.
    Silently,
    /// 503.
    Refuses,
    /// 500, nothing done.
    Fails,
    /// 500, and the folder is there.
    HalfDone,
    /// 500 until the writer has made the user's views.
    Views,
}

/// What is done differently, by method and the route's path. What was not measured is done as by every pod.
const DIFFERENT: &[(&str, &str, Follows)] = &[
    ("POST", "/library/refresh", Follows::Silently),
    ("POST", "/scheduledtasks/running/{id}", Follows::Silently),
    ("POST", "/items/{itemid}/refresh", Follows::Silently),
    ("POST", "/library/media/updated", Follows::Refuses),
    ("POST", "/items/{itemid}", Follows::Fails),
    ("DELETE", "/items/{itemid}", Follows::Fails),
    ("POST", "/items/{itemid}/images/{kind}", Follows::Fails),
    ("DELETE", "/items/{itemid}/images/{kind}", Follows::Fails),
    ("POST", "/items/{itemid}/images/{kind}/{index}", Follows::Fails),
    ("DELETE", "/items/{itemid}/images/{kind}/{index}", Follows::Fails),
    ("POST", "/library/virtualfolders", Follows::HalfDone),
    ("POST", "/playlists", Follows::HalfDone),
    ("POST", "/collections", Follows::HalfDone),
    ("GET", "/userviews", Follows::Views),
    ("GET", "/users/{userid}/views", Follows::Views),
    ("GET", "/items", Follows::Views),
    ("GET", "/useritems/resume", Follows::Views),
];

/// Lets the endpoint answer, or does what a follower does instead.
pub(crate) fn answer(call: &Call, method: &Method, route: &Route) -> Answer {
    let handler = route.handler;
    if !call.settings().single_writer {
        return handler(call);
    }
    let of_route = |row: &&(&str, &str, Follows)| row.0 == method.as_str() && row.1 == route.path;
    let Some((_, _, follows)) = DIFFERENT.iter().find(of_route) else { return handler(call) };
    if is_writer(call) {
        if *follows == Follows::Views
            && let Some(user) = user_of(call)
        {
            call.life().shared.cluster.seat().with_views.insert(user);
        }
        return handler(call);
    }
    match follows {
        Follows::Silently => Answer::no_content(),
        Follows::Refuses => Answer::unavailable(),
        // What the caller may not, or what is not there, is refused before anything is written.
        Follows::Fails if !may_write(call, method) || !is_item(call) => handler(call),
        Follows::Fails => failed(),
        Follows::HalfDone => match handler(call) {
            answer if answer.status.is_success() => failed(),
            answer => answer,
        },
        Follows::Views if has_views(call) => handler(call),
        Follows::Views => failed(),
    }
}

/// Whether the pod has the lock; of other builds every pod writes.
pub(crate) fn is_writer(call: &Call) -> bool {
    let settings = call.settings();
    !settings.single_writer || call.life().shared.cluster.seat().is_writer(&settings.name, settings.fail_over)
}

/// `GET /Genres/{name}` and its like: the item is made by the first who asks for it, if the pod writes.
pub(crate) fn by_name(call: &Call) -> Answer {
    let kind = match call.path.trim_start_matches('/').split('/').next().unwrap_or_default() {
        kind if kind.eq_ignore_ascii_case("studios") => "Studio",
        kind if kind.eq_ignore_ascii_case("years") => "Year",
        kind if kind.eq_ignore_ascii_case("artists") => "MusicArtist",
        _ => "Genre",
    };
    let name = call.captured(0).to_owned();
    let key = format!("{kind} {name}");
    let writes = is_writer(call);
    let cluster = &call.life().shared.cluster;
    if !writes && !cluster.seat().names.contains(&key) {
        return failed();
    }
    cluster.seat().names.insert(key.clone());
    Answer::json(&serde_json::json!({
        "Name": name, "ServerId": call.settings().server_id, "Id": crate::identifiers::guid_of(&key), "Type": kind,
        "IsFolder": true, "SortName": name.to_lowercase(), "Genres": [], "ImageTags": {}, "LocationType": "FileSystem",
    }))
}

/// Whether the pod may send this segment of the request's play session. Without leases every pod may.
pub(crate) fn may_send(call: &Call, number: usize) -> bool {
    let settings = call.settings();
    let play_session = call.query.get("PlaySessionId").unwrap_or_default();
    !settings.single_writer || call.life().shared.cluster.seat().may_send(&settings.name, &play_session, number)
}

fn failed() -> Answer {
    Answer::error(StatusCode::INTERNAL_SERVER_ERROR)
}

fn may_write(call: &Call, method: &Method) -> bool {
    *method != Method::DELETE || call.is_administrator() || call.user().is_some_and(|user| user.deletes_content)
}

fn is_item(call: &Call) -> bool {
    call.life().shared.cluster.read(|database| database.item(&call.guid(0)).is_some())
}

/// Whether the user's views are there: the writer made them, or this pod when the user was made after its start.
fn has_views(call: &Call) -> bool {
    let Some(user) = user_of(call) else { return true };
    !call.life().memory().users_at_start.contains(&user) || call.life().shared.cluster.seat().with_views.contains(&user)
}

fn user_of(call: &Call) -> Option<String> {
    let named = call.captured.first().cloned().or_else(|| call.query.get("userId"));
    named.and_then(|id| crate::identifiers::plain(&id)).or_else(|| call.user().map(|user| user.id.clone()))
}
