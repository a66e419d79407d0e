//! A slow pod is not a dead pod: overload stays where it is.

mod crowd;
mod gone;
mod paced;
mod shares;
mod slow;

use std::time::Duration;

use jellyfin_sim::Machine;

use super::migration::minted;
use super::world::{World, how_often};

/// A pod of two cores that has run for long.
fn warm() -> Option<Machine> {
    Some(Machine::RECORDED.warm())
}

/// How long the pods suffer: `STORY_SECONDS=60`.
fn for_long() -> Duration {
    Duration::from_secs(how_often("STORY_SECONDS", 8) as u64)
}

/// What must not change while pods are slow.
#[derive(Debug, PartialEq)]
struct Standing {
    leader_changes: f64,
    minted: usize,
    /// Sessions that live on each pod, by the admin API's page.
    homes: Vec<(String, usize)>,
    sockets: Vec<usize>,
}

impl Standing {
    async fn of(world: &World) -> Standing {
        let page = world.proxy.ask_admin("/sessions").await.json();
        let lives_on = |pod: &str| page.as_array().expect("a list").iter().filter(|one| one["pod"] == pod).count();
        Standing {
            leader_changes: world.proxy.metric("jellypin_leader_changes_total", &[]).await,
            minted: minted(world),
            homes: world.pods.iter().map(|pod| (pod.name().to_owned(), lives_on(pod.name()))).collect(),
            sockets: world.pods.iter().map(|pod| pod.open_sockets()).collect(),
        }
    }
}
