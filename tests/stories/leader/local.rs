//! One proxy, without Redis.

use jellypin::pod::State;

use super::{leads, leads_now, until_leads};
use crate::stories::world::{World, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_ready_pod_follows_a_leader_that_is_gone() {
    let world = World::plan(3).set("health.fast_interval", "\"50ms\"").start().await;
    assert_eq!(leads(&world.proxy), (1, Some("a".into())), "there is one before the first client comes");
    world.pod("b").kill().await;
    world.until_state("b", State::Down).await;
    world.pod("a").kill().await;
    assert_eq!(until_leads(&world.proxy, "c").await.term, 2);
    for pod in ["a", "b"] {
        world.pod(pod).start_again().await.expect("it starts");
        world.until_state(pod, State::Ready).await;
    }
    assert_eq!(leads(&world.proxy), (2, Some("c".into())), "a pod that comes back takes nothing away");

    let page = world.proxy.ask_admin("/pods").await.json();
    let leading: Vec<_> = page.as_array().expect("a list").iter().filter(|pod| pod["leads"] == true).collect();
    assert_eq!((leading.len(), &leading[0]["name"]), (1, &"c".into()));
    assert_eq!(world.proxy.metric("jellypin_leader", &[("pool", "main"), ("pod", "c")]).await, 1.0);
    assert_eq!(world.proxy.metric("jellypin_leader", &[]).await, 1.0);
    assert_eq!(world.proxy.metric("jellypin_leader_term", &[("pool", "main")]).await, 2.0);
    assert_eq!(world.proxy.metric("jellypin_leader_changes_total", &[("why", "pod_down")]).await, 1.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_leader_stays_while_no_pod_lives() {
    let world = World::plan(2).set("health.fast_interval", "\"50ms\"").start().await;
    for pod in ["b", "a"] {
        world.pod(pod).kill().await;
        world.until_state(pod, State::Down).await;
    }
    assert_eq!(leads(&world.proxy), (1, Some("a".into())));
    world.pod("b").start_again().await.expect("it starts");
    until_leads(&world.proxy, "b").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pool_has_its_own_leader() {
    let world = World::plan(2).start().await;
    let other = format!("\"http://{}\"", world.pod("b").address());
    let mut proxy = world
        .replica(|settings| {
            settings.remove("pools.main.pods.b");
            settings.set("pools.other.pods.b", &other);
            settings.add_route("path = \"/other\"\npool = \"other\"");
            settings.add_route("pool = \"main\"");
        })
        .await;
    until("both lead", || leads_now(&proxy, "a")).await;
    let shared = proxy.app.as_ref().expect("it runs").shared().clone();
    let pods: Vec<_> = shared.pools.iter().filter_map(|pool| Some(pool.leader.current()?.name.to_string())).collect();
    assert_eq!(pods, ["a", "b"]);
    proxy.stop().await;
    world.stop().await;
}
