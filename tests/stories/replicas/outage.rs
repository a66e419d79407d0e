//! Redis goes away in every manner while clients come, and no client notices.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{RedisServer, lookups, plan, replica, until_up};
use crate::stories::world::{Answer, Client, Proxy, body_of, elapse, millis, story};

const CLIENTS: usize = 20;

/// How often each of them comes while one fault lasts.
const TURNS: usize = 6;

/// A client's rest between two log-ins: the machine is to have some air, or its own queues are measured.
const PAUSE: Duration = Duration::from_millis(200);

/// What the clients of one kind of weather met.
#[derive(Default)]
struct Met {
    requests: usize,
    failed: Vec<String>,
    /// Times of the first request that the second replica had with a token, and of the next.
    first: Vec<Duration>,
    next: Vec<Duration>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_through_faults_of_redis() {
    let mut redis = RedisServer::start();
    let plan = plan(3, &redis).redis_deadline(millis(30)).trusted_proxies(&["127.0.0.1"]);
    story(plan, async |world| {
        let other = replica(world, |_| {}).await;
        until_up(&world.proxy).await;
        world.pods.iter().for_each(|pod| pod.set_recording(false));

        let calm = clients_come(&world.proxy, &other, 0).await;
        report("calm", &calm, &calm);
        assert!(lookups(&other, "hit").await > 0.0);

        redis.hang(true);
        let before = lookups(&other, "timed_out").await;
        let hung = clients_come(&world.proxy, &other, 1).await;
        let timed_out = lookups(&other, "timed_out").await - before;
        redis.hang(false);
        report("hung", &hung, &calm);
        // The third failure in a row opens the breaker; those of the other clients under way come on top.
        assert!((1.0..=(CLIENTS + 2) as f64).contains(&timed_out), "{timed_out} requests waited for a Redis that hung");
        until_up(&world.proxy).await;
        until_up(&other).await;

        let flushes = async {
            loop {
                redis.flush();
                elapse(millis(10)).await;
            }
        };
        let flushed = tokio::select! {
            met = clients_come(&world.proxy, &other, 2) => met,
            () = flushes => unreachable!("it is flushed all the while"),
        };
        report("flushed", &flushed, &calm);

        redis.kill();
        let gone = clients_come(&world.proxy, &other, 3).await;
        report("gone", &gone, &calm);
        redis.start_again();
        until_up(&world.proxy).await;
        until_up(&other).await;
        let hits = lookups(&other, "hit").await;
        let again = clients_come(&world.proxy, &other, 4).await;
        report("back again", &again, &calm);
        assert!(lookups(&other, "hit").await > hits, "it is used again");
    })
    .await;
}

/// Prints what was met.
#[track_caller]
fn report(weather: &str, met: &Met, calm: &Met) {
    assert_eq!(met.failed, Vec::<String>::new(), "while Redis is {weather}");
    let at = |times: &[Duration], share: f64| {
        let mut times = times.to_vec();
        times.sort();
        times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0
    };
    let line = |times: &[Duration], calm: &[Duration]| {
        let (p50, p99) = (at(times, 0.5), at(times, 0.99));
        format!("p50 {p50:.2} ms ({:+.2}), p99 {p99:.2} ms ({:+.2})", p50 - at(calm, 0.5), p99 - at(calm, 0.99))
    };
    println!(
        "Redis {weather}: {} requests, {} failed; first request of a token at the other replica: {}; the next: {}",
        met.requests,
        met.failed.len(),
        line(&met.first, &calm.first),
        line(&met.next, &calm.next)
    );
}

/// Clients log in through one replica and go on through the other, with nothing but the token.
async fn clients_come(one: &Proxy, other: &Proxy, weather: usize) -> Met {
    let start = |number: usize| {
        let (one, other) = (one.client().without_cookies(), other.client().without_cookies());
        tokio::spawn(come(one, other, weather, number))
    };
    let clients: Vec<_> = (0..CLIENTS).map(start).collect();
    let mut all = Met::default();
    for client in clients {
        let met = client.await.expect("a client");
        all.requests += met.requests;
        all.failed.extend(met.failed);
        all.first.extend(met.first);
        all.next.extend(met.next);
    }
    all
}

async fn come(mut one: Client, mut other: Client, weather: usize, number: usize) -> Met {
    // Each is a client of its own address, as the proxies believe: what one address may cost the pods is bounded.
    let address = format!("192.0.2.{number}");
    let mut met = Met::default();
    elapse(PAUSE * number as u32 / CLIENTS as u32).await;
    for turn in 0..TURNS {
        one.device = Some(format!("device {weather}/{number}/{turn}"));
        let body = json!({"Username": format!("user{number}"), "Pw": "pw"}).to_string();
        let log_in = send(&mut one, Method::POST, "/Users/AuthenticateByName", &address, body, &mut met).await;
        let Some(token) = log_in.and_then(|answer| token_in(&answer)) else { continue };
        let target = format!("/Users/Me?ApiKey={token}");
        let began = Instant::now();
        send(&mut other, Method::GET, &target, &address, String::new(), &mut met).await;
        met.first.push(began.elapsed());
        let began = Instant::now();
        send(&mut other, Method::GET, &target, &address, String::new(), &mut met).await;
        met.next.push(began.elapsed());
        elapse(PAUSE).await;
    }
    met
}

async fn send(
    client: &mut Client,
    method: Method,
    target: &str,
    address: &str,
    body: String,
    met: &mut Met,
) -> Option<Answer> {
    let request = client.request(method, target).header("x-forwarded-for", address);
    let request = request.header("content-type", "application/json");
    met.requests += 1;
    match client.send(request, body_of(body)).await {
        Ok(answer) if answer.status == 200 => Some(answer),
        other => {
            let path = target.split('?').next().unwrap_or_default();
            met.failed.push(format!("{path}: {:?}", other.map(|answer| answer.status)));
            None
        }
    }
}

fn token_in(answer: &Answer) -> Option<String> {
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    Some(json["AccessToken"].as_str()?.to_owned())
}
