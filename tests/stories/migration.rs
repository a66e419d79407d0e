//! A session goes on on another pod when its home is gone, and an ended one never does.

mod closed_apps;
mod device_changes;
pub(crate) mod drain;
mod live_direct;
mod live_drain;
mod live_hls;
mod live_tv;
mod persistence;
mod player;
mod pod_death;
mod proxy_killed;
mod replicas;
pub(crate) mod revocation;
pub(crate) mod sockets;
mod state_replay;
mod stolen_store;
pub(crate) mod storm;

use jellyfin_sim::Pod;
use jellypin::pod::State;

use super::world::{Client, Plan, World};

/// A world whose proxy has the pods' API key.
pub(crate) fn plan(pods: usize) -> Plan {
    World::plan(pods).with_api_key()
}

/// A client without cookies that has logged in, and its home.
pub(crate) async fn client_of(world: &World, user: &str, device: &str) -> (Client, String) {
    let mut client = world.client().without_cookies().device(device);
    let log_in = client.log_in(user).await;
    let home = world.home(&log_in).to_owned();
    (client, home)
}

/// Kills a pod, and waits until the proxy knows.
pub(crate) async fn kill(world: &World, pod: &str) {
    world.pod(pod).kill().await;
    world.until_state(pod, State::Down).await;
}

/// Starts a pod again, and waits until the proxy knows.
pub(crate) async fn start_again(world: &World, pod: &str) {
    world.pod(pod).start_again().await.expect("it starts");
    world.until_state(pod, State::Ready).await;
}

/// Tokens that the pods have minted for the proxy.
pub(crate) fn minted(world: &World) -> usize {
    let is_mint =
        |seen: &&jellyfin_sim::Seen| seen.path() == "/Users/AuthenticateWithQuickConnect" && seen.status == 200;
    world.pods.iter().map(|pod| pod.seen().iter().filter(is_mint).count()).sum()
}

/// Requests of the pod that bear this path.
pub(crate) fn count(pod: &Pod, path: &str) -> usize {
    pod.seen().iter().filter(|seen| seen.path() == path).count()
}
