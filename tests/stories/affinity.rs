//! Every client stays with one pod, by whatever it sends.

mod carriers;
mod cookie;
mod keys;

use std::collections::BTreeSet;

use super::world::World;

/// The names of all pods that a token reached, in any carrier.
fn reached(world: &World, token: &str) -> BTreeSet<String> {
    let bears = |seen: &jellyfin_sim::Seen| {
        seen.target.contains(token)
            || seen.headers.values().any(|value| value.to_str().is_ok_and(|value| value.contains(token)))
    };
    let pods = world.pods.iter().filter(|pod| pod.seen().iter().any(bears));
    pods.map(|pod| pod.name().to_owned()).collect()
}
