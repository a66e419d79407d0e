//! What reports of playback do to sessions and to users' data, whoever makes them: a client, or the pod's idle check.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

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
    let item = report.item_id.clone();
    show(life, session, report);
    for user in save(life, session, &item, |data, _| data.start()) {
        announce(life, &user, &item);
        log(life, session, "VideoPlayback", "is playing", &user, &item);
    }
}

/// `OnPlaybackProgress`: the whole row is written, and no socket is told.
pub(crate) fn progress(life: &Arc<Life>, session: &str, report: Report) {
    let (item, position) = (report.item_id.clone(), report.position);
    show(life, session, report);
    save(life, session, &item, |data, length| {
        if let Some(position) = position {
            data.reach(position, length);
        }
    });
}

/// `OnPlaybackStopped`.
pub(crate) fn stopped(life: &Arc<Life>, session: &str, item: &str, position: Option<i64>, failed: bool) {
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
    for user in save(life, session, item, |data, length| data.stop(position, length)) {
        announce(life, &user, item);
        log(life, session, "VideoPlaybackStopped", "has finished playing", &user, item);
    }
}

/// `CheckForIdlePlayback`: players of which nothing was heard for five minutes are stopped where they would be now.
pub(crate) fn stop_idle(life: &Arc<Life>) {
    let playing: Vec<(String, String, i64)> = {
        let memory = life.memory();
        let sessions = memory.sessions.all().into_iter();
        sessions
            .filter_map(|session| {
                let playing = session.playing.as_ref()?;
                Some((session.id.clone(), playing.item_id.clone(), playing.position_now()))
            })
            .collect()
    };
    for (session, item, position) in playing {
        stopped(life, &session, &item, Some(position), false);
    }
    life.shared.tell();
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
        if matches!(memory.caches.change_user_data(cluster, &user, item, &how), Some(Ok(_))) {
            saved.push(user);
        }
    }
    saved
}
