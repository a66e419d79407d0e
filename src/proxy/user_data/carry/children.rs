//! Tells pods the rows of a marked folder's children.

use tokio::time::{self, Instant};

use super::{Carrier, PATIENCE};
use crate::{
    jellyfin::user_data::{Id, Row},
    pod::PodInstance,
    proxy::{
        user_data::pod_calls::{Answer, Event, PodCalls},
        user_data_state::ledger::{Ledger, Pair, TellOutcome, UserKey},
    },
};

/// Children of a marked folder that are told.
const MOST_CHILDREN: usize = 5_000;

impl<P: PodCalls> Carrier<P> {
    /// Tells a pod the rows of a marked folder's children.
    pub(super) async fn tell_children(
        &self,
        user: UserKey,
        folder: Id,
        source: PodInstance,
        pod: PodInstance,
    ) -> TellOutcome {
        let mut from = 0;
        while from < MOST_CHILDREN {
            let permit = self.calls.permit(source).await;
            let children = read_children(self, user, folder, (source, from)).await;
            drop(permit);
            let children = match children {
                Answer::Got(children) if !children.is_empty() => children,
                Answer::Got(_) | Answer::Missing => return TellOutcome::Done,
                Answer::Failed => return TellOutcome::Failed,
            };
            from += children.len();
            for (child, row) in children {
                let _permit = self.calls.permit(pod).await;
                let Some(own) = self.begin_telling_alone(user, child, pod).await else { return TellOutcome::Failed };
                let (told, is_left_over) = self.tell_pod(pod, user, child, &row, own).await;
                if is_left_over {
                    self.with(user, |ledger| ledger.pair(user, child).map(Pair::unsettle));
                }
                self.end_telling(user, child, pod, None);
                if told == TellOutcome::Failed {
                    return told;
                }
            }
        }
        self.calls.observe(Event::TooManyChildren);
        TellOutcome::Done
    }
}

/// Reads a part of a folder's children, once no report is replayed to the pod any more.
async fn read_children<P: PodCalls>(
    carrier: &Carrier<P>,
    user: UserKey,
    folder: Id,
    (pod, from): (PodInstance, usize),
) -> Answer<Vec<(Id, Row)>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let begin = |ledger: &mut Ledger| (ledger.begin_reading(user, None, &[pod]), ledger.changes(user));
        let (false, Some(mut changes)) = carrier.with(user, begin) else { break };
        if time::timeout_at(end, changes.changed()).await.is_err() {
            return Answer::Failed;
        }
    }
    let children = carrier.calls.children(pod, user, folder, from).await;
    carrier.with(user, |ledger| ledger.end_reading(user, None, &[pod]));
    children
}
