//! Names of users and what they play, as the pods list it by the API key.
//!
//! It is asked only while an operator looks, and never more often than every few seconds.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    jellyfin::client::sessions::Playing,
    pod::{PodId, Pool},
    proxy::PodLifecycle,
    sessions::Session,
};

/// How old the lists of sessions may become while somebody looks, and the names of users.
const LISTS: Duration = Duration::from_secs(5);
const NAMES: Duration = Duration::from_secs(60);

/// What the pods last said. Locked for a look, never across an await.
#[derive(Debug, Default)]
pub(super) struct Listed(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    asked: Option<Instant>,
    named: Option<Instant>,
    /// What a user's device plays on a pod.
    playing: HashMap<(PodId, String, String), Playing>,
    /// Names by pool and user.
    names: HashMap<(Arc<str>, String), String>,
}

impl Listed {
    /// Asks the pods again if their last answer is old.
    pub(super) async fn renew(&self, lifecycle: &PodLifecycle, pools: impl Iterator<Item = &Arc<Pool>>) {
        let now = Instant::now();
        let is_old = |at: Option<Instant>, age| at.is_none_or(|at: Instant| now.duration_since(at) >= age);
        let names_too = {
            let mut lists = self.0.lock();
            if !is_old(lists.asked, LISTS) {
                return;
            }
            lists.asked = Some(now);
            let names_too = is_old(lists.named, NAMES);
            if names_too {
                lists.named = Some(now);
            }
            names_too
        };
        let (mut playing, mut names) = (HashMap::new(), HashMap::new());
        for pool in pools {
            let users = async { if names_too { lifecycle.user_names(pool).await } else { HashMap::new() } };
            let (lists, users) = join(lifecycle.listed_sessions(pool), users).await;
            names.extend(users.into_iter().map(|(user, name)| ((pool.name.clone(), user), name)));
            for (pod, rows) in lists {
                for row in rows.into_iter().filter(|row| !row.user.is_empty()) {
                    if let Some(plays) = row.playing {
                        playing.insert((pod.id, row.user.clone(), row.device), plays);
                    }
                    if !row.user_name.is_empty() {
                        names.insert((pool.name.clone(), row.user), row.user_name);
                    }
                }
            }
        }
        let mut lists = self.0.lock();
        lists.playing = playing;
        if names_too {
            lists.names.clear();
        }
        lists.names.extend(names);
    }

    /// The name of a session's user, and what it plays on this pod.
    pub(super) fn of(&self, session: &Session, pod: PodId) -> (Option<String>, Option<Playing>) {
        let lists = self.0.lock();
        let name = lists.names.get(&(session.pool.clone(), session.user.clone())).cloned();
        (name, lists.playing.get(&(pod, session.user.clone(), session.device.id.clone())).cloned())
    }
}
