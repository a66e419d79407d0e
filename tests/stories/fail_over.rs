//! A pod dies, hangs or breaks off, and clients are served all the same.

mod death;
mod hang;
mod repeatable;
mod replay;
mod resume;
mod truncated;

use super::world::{Client, World};

const PUBLIC: &str = "/System/Info/Public";

/// Browsers with their homes: at least one at every pod.
async fn browsers(world: &World, count: usize) -> Vec<(Client, String)> {
    let mut browsers = Vec::new();
    for _ in 0..count {
        let mut client = world.client();
        let home = world.home(&client.get(PUBLIC).await).to_owned();
        browsers.push((client, home));
    }
    for pod in &world.pods {
        assert!(browsers.iter().any(|(_, home)| home == pod.name()), "nobody lives at {}", pod.name());
    }
    browsers
}

/// A browser at this pod.
async fn browser_at(world: &World, pod: &str) -> Client {
    loop {
        let mut client = world.client();
        if world.home(&client.get(PUBLIC).await) == pod {
            return client;
        }
    }
}
