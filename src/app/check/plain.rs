//! Asks the pods that are not Jellyfin's.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{ASKING, Finding};
use crate::{
    health::{self, rules::Outcome},
    pod::{Check, Pod, Pool},
};

/// What is to be said of a pool, and whether a pod of it answers.
pub(super) async fn check(pool: &Pool) -> (Vec<Finding>, bool) {
    let pods = pool.pods().to_vec();
    let outcomes = join_all(pods.iter().map(|pod| health::look(pod, pool, ASKING))).await;
    let found = pods.iter().zip(&outcomes).filter_map(|(pod, outcome)| finding(pod, pool, (*outcome)?));
    let answers = pods.is_empty() || outcomes.iter().flatten().any(|outcome| outcome.is_answer());
    (found.collect(), answers)
}

fn finding(pod: &Arc<Pod>, pool: &Pool, outcome: Outcome) -> Option<Finding> {
    let (address, trouble) = (&pod.authority, pod.transport.trouble());
    let (is_wrong, sentence) = match (outcome, trouble, &*pool.check()) {
        (Outcome::Healthy | Outcome::Nameless, ..) => return None,
        (Outcome::Untrusted, Some(trouble), _) => (true, format!("it is not trusted at {address}: {trouble}")),
        (Outcome::Loop, ..) => (true, format!("{address} leads back to a jellypin")),
        (outcome, _, Check::Path(path)) if outcome.is_answer() => {
            (false, format!("it answers {path} at {address} neither with 2xx nor with 3xx, so that it counts as ill"))
        }
        _ => (false, format!("it does not answer at {address}")),
    };
    Some(Finding { place: format!("[pools.{}] pod {}", pool.name, pod.name), sentence, is_wrong })
}
