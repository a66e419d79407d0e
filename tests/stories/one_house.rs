//! Several pods are one house: what is written through one is seen, heard and found through all.

mod administration;
mod catalogue;
mod costs;
mod dashboards;
mod ghosts;
mod home;
mod in_step;
mod leaders_own;
mod remote_control;
mod session_lists;
mod sessions;
mod table;
mod user_data;
mod user_data_moves;
mod user_data_orders;
mod user_data_random;
mod versions;

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::Value;

use super::world::{Answer, Client, Plan, World, body_of};

/// A world of three pods whose proxy has their API key.
fn house() -> Plan {
    World::plan(3).with_api_key()
}

/// Devices of one user, one on each pod, in the order of the pods. The user must be one whose devices are spread.
async fn one_device_on_each(world: &World, user: &str) -> Vec<Client> {
    let mut devices: Vec<Option<Client>> = world.pods.iter().map(|_| None).collect();
    for number in 0..100 {
        let mut device = world.client().without_cookies().device(&format!("{user}-{number}"));
        device.log_in(user).await;
        let answer = device.get("/Users/Me").await;
        let home = world.home(&answer);
        if let Some(place) = world.pods.iter().position(|pod| pod.name() == home) {
            devices[place].get_or_insert(device);
        }
        if devices.iter().all(Option::is_some) {
            break;
        }
    }
    devices.into_iter().map(|device| device.expect("a device on each pod")).collect()
}

/// Whether the proxy itself asked: a client's request has the number that the story gives it.
fn is_of_proxy(seen: &jellyfin_sim::Seen) -> bool {
    super::world::number_of(&seen.headers).is_none()
}

/// So many devices of one user, each signed in, wherever the proxy places them.
async fn devices_of(world: &World, user: &str, count: usize) -> Vec<Client> {
    let mut devices = Vec::new();
    for number in 0..count {
        let mut device = world.client().without_cookies().device(&format!("{user}-{number}"));
        device.log_in(user).await;
        devices.push(device);
    }
    devices
}

/// Asks by any method, without a body.
async fn act(client: &mut Client, method: Method, path: &str) -> Answer {
    let request = client.request(method, path);
    client.send(request, body_of("")).await.expect("an answer")
}

/// Posts, and wants 2xx.
#[track_caller]
fn assert_done(answer: &Answer) {
    let status = StatusCode::from_u16(answer.status).expect("a status");
    assert!(status.is_success(), "{status}: {}", answer.text());
}

/// How many of the devices see what they should, once all had time to.
async fn seen_by(devices: &mut [Client], path: &str, is_right: impl Fn(&Answer) -> bool) -> usize {
    // A pod is told within a moment; one that was not told by then never is.
    seen_within(devices, path, is_right, Duration::from_secs(2)).await
}

/// The same, with this time at most.
async fn seen_within(
    devices: &mut [Client],
    path: &str,
    is_right: impl Fn(&Answer) -> bool,
    longest: Duration,
) -> usize {
    let end = Instant::now() + longest;
    loop {
        let mut count = 0;
        for device in devices.iter_mut() {
            count += usize::from(is_right(&device.get(path).await));
        }
        if count == devices.len() || Instant::now() >= end {
            return count;
        }
    }
}

/// A property of an answer in JSON, `Null` where there is none.
fn property(answer: &Answer, pointer: &str) -> Value {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    json.pointer(pointer).cloned().unwrap_or_default()
}
