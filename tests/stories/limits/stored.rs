//! What one address makes the proxy remember displaces nothing of others.

use std::time::Instant;

use futures_util::{StreamExt, stream};
use http::Method;

use super::{TRUSTED, log_in_body};
use crate::stories::world::{Answer, Client, World, body_of, story};

/// How much of the whole attack is made: `STORY_ATTACK=1` is all of it, 100,000 attempts beside 200 users.
fn some(all: usize) -> usize {
    let share = std::env::var("STORY_ATTACK").ok().and_then(|share| share.parse().ok()).unwrap_or(0.005);
    ((all as f64 * share) as usize).max(20)
}

const ATTACKER: &str = "203.0.113.7";

async fn send_from(client: &mut Client, from: &str, method: Method, path: &str, body: String) -> Answer {
    let request = client.request(method, path).header("content-type", "application/json");
    client.send(request.header("x-forwarded-for", from), body_of(body)).await.expect("an answer")
}

async fn get(client: &mut Client, from: &str, path: &str) -> Answer {
    send_from(client, from, Method::GET, path, String::new()).await
}

/// A user who has signed in from an address, with a device.
async fn signed_in(world: &World, user: &str, from: &str, device: &str) -> Client {
    let mut client = world.client().without_cookies().device(device);
    let password = if user.starts_with("user") { "pw".to_owned() } else { format!("{user}-pw") };
    let body = log_in_body(user, &password).to_string();
    let answer = send_from(&mut client, from, Method::POST, "/Users/AuthenticateByName", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    client.token = answer.json()["AccessToken"].as_str().map(str::to_owned);
    client
}

/// Whether the proxy knows where this client lives: its pod gets the request at once, by its token and by its device.
async fn is_known(world: &World, client: &Client, from: &str, home: &str) -> bool {
    let (mut by_token, mut by_device) = (client.twin(), client.twin());
    by_device.token = None;
    let answers = [get(&mut by_token, from, "/Users/Me").await, get(&mut by_device, from, "/Users/Public").await];
    answers.iter().all(|answer| answer.status == 200 && world.saw(answer) == [home])
}

/// Every way in which a client without any right, or with one user's, makes the proxy remember something.
async fn attack(world: &World, attempts: usize) {
    let lanes = 8;
    let lane = async |lane: usize| {
        let mut own = signed_in(world, "bob", ATTACKER, &format!("bob's {lane}")).await;
        let mut nobody = world.client().without_cookies();
        for number in (lane..attempts).step_by(lanes) {
            nobody.token = Some(format!("{:032x}", (number as u128 + 1) << 64));
            assert_eq!(get(&mut nobody, ATTACKER, "/Users/Me").await.status, 401, "a made-up token");
            // What is used again after it was learnt outlives what is not.
            for _ in 0..2 {
                let path = format!("/Users/Me?PlaySessionId=made-up-{number}&LiveStreamId=made-up-{number}");
                assert_eq!(get(&mut own, ATTACKER, &path).await.status, 200, "a made-up play session");
            }
            nobody.token = None;
            nobody.device = Some(format!("made up {number}"));
            let answer = send_from(&mut nobody, ATTACKER, Method::POST, "/QuickConnect/Initiate", String::new()).await;
            assert_eq!(answer.status, 200, "a code that nobody asks for");
            let mut another = signed_in(world, "bob", ATTACKER, &format!("made up {number}")).await;
            assert_eq!(get(&mut another, ATTACKER, "/Users/Me").await.status, 200, "a made-up device");
        }
    };
    stream::iter(0..lanes).for_each_concurrent(lanes, lane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_displaces_nobodys_pins() {
    let (users, attempts) = (some(200), some(100_000));
    // Room for the users and not for the attack; the address has a third.
    let room = users + attempts / 2;
    let plan = World::plan(3).trusted_proxies(TRUSTED).brakes_log_ins(false);
    let plan = plan.pins(room as u32).pins_per_address((room / 3) as u32);
    story(plan, async |world| {
        let mut clients = Vec::new();
        for number in 0..users {
            let from = format!("198.51.{}.{}", number / 200, number % 200);
            let user = format!("user{number}");
            let mut client = signed_in(world, &user, &from, &format!("the own device {number}")).await;
            let home = world.home(&get(&mut client, &from, "/Users/Me").await).to_owned();
            clients.push((client, from, home));
        }
        world.pods.iter().for_each(|pod| pod.clear_seen());
        let began = Instant::now();
        attack(world, attempts).await;
        let pins = world.proxy.metric("jellypin_pins", &[]).await;
        let mut lost = 0;
        for (client, from, home) in &clients {
            lost += usize::from(!is_known(world, client, from, home).await);
        }
        let time = began.elapsed();
        println!("{attempts} attempts in {time:.1?}: of {users} users {lost} lost; {pins} pins, room for {room}");
        assert_eq!(lost, 0);

        let mut late = signed_in(world, "alice", "198.51.100.250", "a new device").await;
        let home = world.home(&get(&mut late, "198.51.100.250", "/Users/Me").await).to_owned();
        assert!(is_known(world, &late, "198.51.100.250", &home).await, "another address has its share");
    })
    .await;
}
