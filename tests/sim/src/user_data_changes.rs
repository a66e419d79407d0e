//! `UserDataChanged`: a user's sockets are told of what changed, gathered until nothing has changed for half a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::catalogue::Kind;
use crate::generation::Generation;
use crate::identifiers::dashed;
use crate::library::VIEW;
use crate::pod::Life;

/// What is to be told yet.
#[derive(Debug, Default)]
pub(crate) struct UserDataChanges {
    /// The items by user, in the order of their first change.
    pending: BTreeMap<String, Vec<String>>,
    /// Counts changes: only the wait of the last one tells.
    round: u64,
}

/// Notes a change (`UserDataChangeNotifier`), and tells it after the quiet time if none follows.
pub(crate) fn announce(life: &Arc<Life>, user_id: &str, item_id: &str) {
    let round = {
        let mut memory = life.memory();
        let changes = &mut memory.user_data_changes;
        let items = changes.pending.entry(user_id.to_owned()).or_default();
        if !items.iter().any(|item| item == item_id) {
            items.push(item_id.to_owned());
        }
        changes.round += 1;
        changes.round
    };
    let quiet: Duration = life.shared.settings.keep_alive / 120;
    let telling = Arc::clone(life);
    life.spawn(async move {
        tokio::time::sleep(quiet).await;
        send_pending(&telling, round);
    });
}

fn send_pending(life: &Life, round: u64) {
    let pending = {
        let mut memory = life.memory();
        if memory.user_data_changes.round != round {
            return;
        }
        std::mem::take(&mut memory.user_data_changes.pending)
    };
    for (user_id, items) in pending {
        let data = message(life, &user_id, &items);
        life.memory().sessions.send_to_user(&user_id, "UserDataChanged", &data);
    }
}

/// Each item, and behind it the folder that it lies in.
fn message(life: &Life, user_id: &str, items: &[String]) -> Value {
    let mut guard = life.memory();
    let cluster = &life.shared.cluster;
    let mut list: Vec<Value> = Vec::new();
    let mut has_folder = false;
    for id in items {
        let Some(item) = guard.caches.by_id(cluster, id) else {
            continue;
        };
        list.push(item.user_data(user_id).dto(id, item.row.length()));
        if item.row.parent == VIEW && !std::mem::replace(&mut has_folder, true) {
            list.push(folder(life, user_id));
        }
    }
    json!({"UserId": user_id, "UserDataList": list})
}

/// A folder's data: how much below it is played.
fn folder(life: &Life, user_id: &str) -> Value {
    let (played, total) = life.shared.cluster.read(|database| {
        let films = database.items.iter().filter(|item| item.kind == Kind::Movie && item.version_of.is_none());
        let is_played = |id: &str| database.user_data(user_id, id).is_some_and(|data| data.played);
        films.fold((0, 0), |(played, total), film| (played + usize::from(is_played(&film.id)), total + 1))
    });
    let mut data = json!({
        "UnplayedItemCount": total - played,
        "PlaybackPositionTicks": 0,
        "PlayCount": 0,
        "IsFavorite": false,
        "Played": played == total,
        "Key": dashed(VIEW),
        "ItemId": VIEW,
    });
    if played > 0 {
        data["PlayedPercentage"] = json!(played as f64 / total as f64 * 100.0);
    } else if life.shared.settings.generation == Generation::V12 {
        data["PlayedPercentage"] = json!(0);
    }
    data
}
