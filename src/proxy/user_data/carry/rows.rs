//! Reads a row on several pods at once.

use futures_util::future::join_all;

use super::{Carrier, pause};
use crate::{
    jellyfin::user_data::{Id, Row},
    pod::PodInstance,
    proxy::{
        user_data::pod_calls::{Answer, Event, PodCalls},
        user_data_state::ledger::UserKey,
    },
};

/// Why there are no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRows {
    /// A report is being replayed to a pod, and is taken back at once.
    Busy,
    /// The item is gone, or a pod did not answer: the ledger knows.
    Noted,
}

/// The rows that these pods have of the item.
pub(super) async fn read<P: PodCalls>(
    carrier: &Carrier<P>,
    user: UserKey,
    item: Id,
    pods: &[PodInstance],
) -> Result<Vec<(PodInstance, Row)>, NoRows> {
    if !carrier.with(user, |ledger| ledger.begin_reading(user, Some(item), pods)) {
        return Err(NoRows::Busy);
    }
    let read = |pod: PodInstance| async move {
        let _permit = carrier.calls.permit(pod).await;
        (pod, carrier.calls.read(pod, user, item).await)
    };
    let answers = join_all(pods.iter().map(|pod| read(*pod))).await;
    carrier.with(user, |ledger| ledger.end_reading(user, Some(item), pods));
    let mut rows = Vec::new();
    for (pod, answer) in answers {
        match answer {
            Answer::Got(row) => rows.push((pod, row)),
            Answer::Missing => {
                carrier.calls.observe(Event::Gone(pod));
                carrier.with(user, |ledger| ledger.forget(user, item));
                return Err(NoRows::Noted);
            }
            Answer::Failed => {
                pause(carrier, user, item);
                return Err(NoRows::Noted);
            }
        }
    }
    Ok(rows)
}
