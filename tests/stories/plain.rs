//! Services that are not Jellyfin's, behind the same front door (`kind = "http"`).

mod auth;
mod passes;
mod pods;
mod reload;
mod service;

use service::Service;

use super::world::{Client, Plan, Settings, World};

const PUBLIC: &str = "/System/Info/Public";

/// The host of the service.
const PHOTOS: &str = "photos.example.org";

/// A Jellyfin pod, and these services in a pool of their own. `route` are further keys of their route.
fn beside_jellyfin(services: &[&Service], route: &str) -> Plan {
    World::plan(1).changed(|settings| {
        settings.route_rest("main");
        serve(settings, services, route);
    })
}

fn serve(settings: &mut Settings, services: &[&Service], route: &str) {
    settings.set("pools.photos.kind", "\"http\"");
    for service in services {
        settings.pod_of("photos", service.name, service.address);
    }
    settings.route(&format!("host = {PHOTOS:?}\npool = \"photos\"\n{route}"));
}

/// A client of the service.
fn visitor(world: &World) -> Client {
    let mut client = world.client();
    client.host = PHOTOS.to_owned();
    client
}

/// What the admin API says of a pod's state.
async fn state(world: &World, pod: &str) -> String {
    let pods = world.proxy.ask_admin("/pods").await.json();
    let row = pods.as_array().expect("pods").iter().find(|row| row["name"] == pod).cloned();
    row.map(|row| row["state"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}
