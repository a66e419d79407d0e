//! New clients go to pods by how these are: fewer to one that is slow, and to one that has just begun.

use jellyfin_sim::Machine;
use jellypin::pod::{Condition, State};

use super::warm;
use crate::stories::migration::plan;
use crate::stories::world::{World, secs, story, until};

/// How many of so many new clients are placed on pod `a`.
async fn placed_on_a(world: &World, clients: usize) -> usize {
    let mut on_a = 0;
    for number in 0..clients {
        let mut client = world.client().without_cookies().device(&format!("new {number}"));
        let answer = client.get("/System/Info/Public").await;
        on_a += usize::from(world.home(&answer) == "a");
    }
    on_a
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_pod_gets_fewer_new_clients() {
    story(plan(2), async |world| {
        let usual = placed_on_a(world, 100).await;
        world.pods.iter().for_each(|pod| pod.run_on(warm()));
        world.pod("a").run_on(Some(Machine::RECORDED.warm().cores(0.001)));
        world.proxy.until_condition("a", Condition::Late).await;
        world.pod("a").run_on(Some(Machine::RECORDED.warm().cores(0.005)));
        let slow = placed_on_a(world, 100).await;
        println!("of 100 new clients a pod that is well got {usual}, and a slow one {slow}");
        assert!((30..70).contains(&usual) && slow * 3 < usual * 2, "{usual}, {slow}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_has_just_begun_gets_its_share_step_by_step() {
    story(plan(2).slow_start(secs(4)), async |world| {
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        world.pod("a").start_again().await.expect("a start");
        world.until_state("a", State::Ready).await;
        let early = placed_on_a(world, 100).await;
        let has_all = || world.proxy.pod("a").vitals.halvings() == 0;
        until("it has its whole share", has_all).await;
        let later = placed_on_a(world, 100).await;
        println!("of 100 new clients a pod that had just begun got {early}, and later {later}");
        assert!(early < 35 && early < later, "{early}, {later}");
    })
    .await;
}
