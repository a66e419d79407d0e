//! What reports of playback do to sessions and to users' data, made by a client, or the pod's idle check.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::call::property;
use crate::generation::Generation;
use crate::identifiers::plain;
use crate::item_dto;
use crate::pod::Life;
use crate::sessions::Playing;
use crate::user_data::{Length, UserData};
use crate::user_data_changes::announce;

/// Where a player is.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) item_id: String,
    pub(crate) position: Option<i64>,
    pub(crate) is_paused: bool,
    /// The body as it came.
    pub(crate) given: Value,
}

/// `OnPlaybackStart`: it counts at once.
pub(crate) fn started(life: &Arc<Life>, session: &str, report: Report) {
    let item = played_version(life, &report.item_id, &report.given);
    show(life, session, report);
    for user in save(life, session, &item, |data, length| data.start(length)) {
        announce(life, &user, &item);
        log(life, session, "VideoPlayback", "is playing", &user, &item);
    }
}

/// `OnPlaybackProgress`: the whole row is written, and no socket is told.
pub(crate) fn progress(life: &Arc<Life>, session: &str, report: Report) {
    let (item, position) = (played_version(life, &report.item_id, &report.given), report.position);
    show(life, session, report);
    save(life, session, &item, |data, length| {
        if let Some(position) = position {
            data.reach(position, length);
        }
    });
}

/// `OnPlaybackStopped`.
pub(crate) fn stopped(life: &Arc<Life>, session: &str, report: &Report, failed: bool) {
    {
        let mut memory = life.memory();
        if let Some(session) = memory.sessions.get_mut(session) {
            session.playing = None;
        }
        memory.sessions.note_change();
    }
    if failed {
        return;
    }
    let item = played_version(life, &report.item_id, &report.given);
    for user in save(life, session, &item, |data, length| data.stop(report.position, length)) {
        announce(life, &user, &item);
        log(life, session, "VideoPlaybackStopped", "has finished playing", &user, &item);
    }
}

/// `CheckForIdlePlayback`: players of which nothing was heard for five minutes are stopped where they would be now.
pub(crate) fn stop_idle(life: &Arc<Life>) {
    let playing: Vec<(String, Report)> = {
        let memory = life.memory();
        let sessions = memory.sessions.all().into_iter();
        sessions
            .filter_map(|session| {
                let playing = session.playing.as_ref()?;
                let (item_id, position) = (playing.item_id.clone(), Some(playing.position_now()));
                let report = Report { item_id, position, is_paused: false, given: playing.report.clone() };
                Some((session.id.clone(), report))
            })
            .collect()
    };
    for (session, report) in playing {
        stopped(life, &session, &report, false);
    }
    life.shared.notify_changed();
}

/// The item whose row a report writes: in 12.0 that of the version which `MediaSourceId` names, if it is one of the item
/// (`SessionManager.GetProgressItem`), in 10.11 the item's always.
fn played_version(life: &Life, item: &str, given: &Value) -> String {
    let source = property(given, "MediaSourceId").and_then(|id| plain(id.as_str()?));
    let is_version = |id: &String| life.shared.cluster.read(|database| database.other_versions(item).contains(id));
    let version = source.filter(|_| life.shared.settings.generation == Generation::V12).filter(is_version);
    version.unwrap_or_else(|| item.to_owned())
}

fn log(life: &Life, session: &str, kind: &str, does: &str, user: &str, item: &str) {
    let name = {
        let memory = life.memory();
        let Some(session) = memory.sessions.get(session) else {
            return;
        };
        let film = memory.caches.cached(item).map_or("", |item| item.row.name.as_str());
        format!("{} {does} {film} on {}", session.user_name, session.client_headers.device)
    };
    life.write_activity(kind, name, user, Some(item));
}

/// The session shows what it plays.
fn show(life: &Life, session: &str, report: Report) {
    let mut guard = life.memory();
    let memory = &mut *guard;
    let item = memory.caches.by_id(&life.shared.cluster, &report.item_id);
    let item = item.map(|item| item_dto::playing(&item.row, &life.shared.settings));
    if let Some(session) = memory.sessions.get_mut(session) {
        session.check_in();
        session.playing = Some(Playing {
            item_id: report.item_id,
            item,
            position: report.position.unwrap_or(0),
            at: Instant::now(),
            paused: report.is_paused,
            report: report.given,
        });
    }
    memory.sessions.note_change();
}

/// Changes the row of each user of the session; gives those users. A row that cannot be written is lost.
fn save(life: &Life, session: &str, item: &str, how: impl Fn(&mut UserData, Length)) -> Vec<String> {
    let mut guard = life.memory();
    let memory = &mut *guard;
    let users = memory.sessions.get(session).map(|session| session.users()).unwrap_or_default();
    let cluster = &life.shared.cluster;
    let mut saved = Vec::new();
    for user in users {
        let Some(Ok(row)) = memory.caches.change_user_data(cluster, &user, item, &how) else { continue };
        if row.played && life.shared.settings.generation == Generation::V12 {
            memory.caches.mark_other_versions(cluster, &user, item);
        }
        saved.push(user);
    }
    saved
}
