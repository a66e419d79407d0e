//! Many clients lose their pod at once, and one after the other: what that costs. Figures are printed, not asserted.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinSet;

use super::{client_of, kill, plan, start_again};

fn at(times: &mut [Duration], share: f64) -> Duration {
    times.sort();
    times[((times.len() - 1) as f64 * share) as usize]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_clients_is_served_and_nobody_is_logged_out() {
    const CLIENTS: usize = 300;
    let world = plan(3).start().await;
    world.pods.iter().for_each(|pod| pod.set_recording(false));
    let mut coming = JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = world.client().without_cookies().device(&format!("device {number}"));
        coming.spawn(async move {
            client.log_in(&format!("user{number}")).await;
            client
        });
    }
    let mut clients = coming.join_all().await;
    world.pod("a").kill().await;
    let began = Instant::now();
    let asked = clients.iter_mut().map(async |client| {
        let answer = client.get("/Users/Me").await;
        (answer.status, began.elapsed())
    });
    let answers = join_all(asked).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
    let minted = world.proxy.metric("jellypin_carry_overs_total", &[("outcome", "minted")]).await;
    let mut times: Vec<Duration> = answers.into_iter().map(|(_, time)| time).collect();
    let (p50, p99) = (at(&mut times, 0.5), at(&mut times, 0.99));
    println!(
        "a storm: {CLIENTS} clients of three pods, one killed: {minted} carried over; answers p50 {p50:?}, p99 {p99:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carry_over_costs_one_request_some_milliseconds() {
    const TIMES: usize = 40;
    let world = plan(2).start().await;
    let (mut carried, mut usual) = (Vec::new(), Vec::new());
    for number in 0..TIMES {
        let (mut client, home) = client_of(&world, &format!("user{number}"), &format!("device {number}")).await;
        kill(&world, &home).await;
        let began = Instant::now();
        assert_eq!(client.get("/Users/Me").await.status, 200);
        carried.push(began.elapsed());
        let began = Instant::now();
        assert_eq!(client.get("/Users/Me").await.status, 200);
        usual.push(began.elapsed());
        start_again(&world, &home).await;
    }
    println!(
        "a request that carries its client over: p50 {:?}, p99 {:?}; the next one: p50 {:?}, p99 {:?}",
        at(&mut carried, 0.5),
        at(&mut carried, 0.99),
        at(&mut usual, 0.5),
        at(&mut usual, 0.99)
    );
    world.stop().await;
}
