//! Compares the rows of all pods after pods wrote at the same time and were told.
//!
//! A pod that saves any user's row of an item reads all users' rows of it again
//! (`UserDataManager.SaveUserData`). If the database has an old row of this user at that moment, the
//! pod keeps the old one, even in place of a row that it wrote itself.

use std::time::SystemTime;

use tokio::time::Instant;

use super::{
    Carrier, pause,
    rows::{self, NoRows},
};
use crate::{
    jellyfin::user_data::{Fields, Id, Row, done},
    pod::PodInstance,
    proxy::{
        user_data::pod_calls::{Answer, Event, PodCalls},
        user_data_state::{
            ledger::{TellOutcome, TellPermit, UserKey, written_fields},
            round::Round,
        },
    },
};

/// Reads the row on all pods, and writes the newest to those that have another one. Returns whether
/// it could.
pub(super) async fn reconcile<P: PodCalls>(
    carrier: &Carrier<P>,
    user: UserKey,
    round: &Round,
    pods: &[PodInstance],
) -> bool {
    let rows = match rows::read(carrier, user, round.item, pods).await {
        Ok(rows) => rows,
        Err(why) => return why == NoRows::Noted,
    };
    let Some(mut row) = round.settled(&rows, None) else { return false };
    let acts = || round.settling.iter().flat_map(|settling| &settling.acts);
    if acts().any(|act| done::needs_item(&row, act)) {
        let Some((pod, _)) = rows.first() else { return false };
        let item = match carrier.calls.played_item(*pod, user, round.item).await {
            Answer::Got(item) => Some(item),
            Answer::Missing => None,
            Answer::Failed => {
                pause(carrier, user, round.item);
                return true;
            }
        };
        row = round.settled(&rows, item).unwrap_or(row);
    }
    // The server computes a folder's, each pod for itself.
    let differs = |pod: PodInstance, other: &Row| {
        !row.is_folder() && done::differing(&row, other).without(round.untold(pod)) != Fields::NONE
    };
    let differing = || rows.iter().filter(|(pod, other)| differs(*pod, other));
    for (pod, _) in differing() {
        let _permit = carrier.calls.permit(*pod).await;
        let generation = Some(round.generation);
        let permit = carrier.with(user, |ledger| ledger.begin_telling(user, round.item, *pod, generation));
        if permit == TellPermit::Stale {
            return false;
        }
        // What is left over is compared again, as often as is left for the pair.
        let (told, _) = carrier.tell_pod(*pod, user, round.item, &row, round.untold(*pod)).await;
        carrier.end_telling(user, round.item, *pod, Some((round.generation, told)));
        carrier.calls.observe(Event::Told(*pod, told));
        if told == TellOutcome::Failed {
            pause(carrier, user, round.item);
            return true;
        }
    }
    let are_equal = differing().next().is_none();
    carrier.with(user, |ledger| {
        if let Some(pair) = ledger.pair(user, round.item) {
            pair.compared(round, are_equal);
        }
    });
    true
}

/// Gives a row back the fields that a replayed report has changed. Other pods may have read
/// these meanwhile.
pub(super) async fn take_back<P: PodCalls>(
    carrier: &Carrier<P>,
    pod: PodInstance,
    (user, item): (UserKey, Id),
    row: Row,
) {
    let changed = match carrier.calls.read(pod, user, item).await {
        Answer::Got(after) => done::differing(&row, &after),
        Answer::Missing | Answer::Failed => Fields::PLAY_STATE,
    };
    let told = match changed {
        Fields::NONE => TellOutcome::Done,
        _ => carrier.tell_pod(pod, user, item, &row, Fields::NONE).await.0,
    };
    let part = row.without(changed.complement());
    carrier.with(user, |ledger| {
        // What the user has written elsewhere meanwhile is newer.
        let now = (Instant::now(), SystemTime::now());
        if changed != Fields::NONE {
            ledger.written_besides((user, item, pod), part, written_fields, now);
        }
        // The pod has written its row whole, with what it had not heard of.
        if let Some(pair) = ledger.pair(user, item) {
            match told {
                TellOutcome::Done => pair.unsettle(),
                TellOutcome::Failed => pair.overwrite(),
            }
        }
    });
}
