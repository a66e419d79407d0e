//! Carries the end of a film to its other versions.
//!
//! When a film becomes played, the server marks all its other versions too, since 12.0
//! (`Video.PropagatePlayedState`). Each version has a row of its own, which pods keep in memory.

use std::time::SystemTime;

use tokio::time::Instant;

use super::Carrier;
use crate::{
    jellyfin::user_data::{Fields, Id, Row},
    pod::PodInstance,
    proxy::{
        user_data::pod_calls::{Answer, PodCalls},
        user_data_state::{
            ledger::{Pair, TellOutcome, UserKey, written_since},
            round::Round,
        },
    },
};

/// How often the source is asked for the versions. After that the other pods get the item alone.
const MOST_QUESTIONS: u32 = 4;

/// Records the versions that the source has marked with the item, so that the other pods get these
/// before the item. `false`: the source did not answer, may be gone, and is asked again later.
pub(super) async fn record<P: PodCalls>(carrier: &Carrier<P>, user: UserKey, round: &Round, newest: &Row) -> bool {
    let Some((source, at)) = round.finished.filter(|_| newest.has_ended() && !newest.is_folder()) else { return true };
    let versions = {
        let _permit = carrier.calls.permit(source).await;
        carrier.calls.other_versions(source, user, round.item).await
    };
    carrier.with(user, |ledger| {
        if versions == Answer::Failed && ledger.pair(user, round.item).is_some_and(may_ask_again) {
            return false;
        }
        let Answer::Got(versions) = versions else { return true };
        for version in versions {
            let of = (user, version, source);
            ledger.written_besides(of, Row::at_end(), |pair| written_since(pair, at), (Instant::now(), at));
        }
        if let Some(pair) = ledger.pair(user, round.item) {
            pair.versions = round.generation;
        }
        true
    })
}

fn may_ask_again(pair: &mut Pair) -> bool {
    pair.pause(Instant::now()) < MOST_QUESTIONS
}

/// Marks the other versions on a pod where the end of the item was done again: a row that is told
/// marks only its own item.
pub(super) async fn mark<P: PodCalls>(
    carrier: &Carrier<P>,
    pod: PodInstance,
    (user, item): (UserKey, Id),
    at: SystemTime,
) -> TellOutcome {
    let versions = match carrier.calls.other_versions(pod, user, item).await {
        Answer::Got(versions) => versions,
        Answer::Missing => return TellOutcome::Done,
        Answer::Failed => return TellOutcome::Failed,
    };
    for version in versions {
        let is_played_since = |pair: &mut Pair| written_since(pair, at).meets(Fields::PLAY_STATE);
        if carrier.with(user, |ledger| ledger.pair(user, version).is_some_and(is_played_since)) {
            continue;
        }
        if carrier.begin_telling_alone(user, version, pod).await.is_none() {
            return TellOutcome::Failed;
        }
        let told = carrier.calls.write_row(pod, user, version, &Row::at_end()).await;
        carrier.end_telling(user, version, pod, None);
        if told == Answer::Failed {
            return TellOutcome::Failed;
        }
    }
    TellOutcome::Done
}
