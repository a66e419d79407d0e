//! One proxy, without Redis.

use jellypin::pod::State;

use super::{leads, leads_now, until_leads};
use crate::stories::world::{World, millis, story, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_ready_pod_follows_a_leader_that_is_gone() {
    story(World::plan(3).fast_probe_interval(millis(50)), async |world| {
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
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_leader_stays_while_no_pod_lives() {
    story(World::plan(2).fast_probe_interval(millis(50)), async |world| {
        for pod in ["b", "a"] {
            world.pod(pod).kill().await;
            world.until_state(pod, State::Down).await;
        }
        assert_eq!(leads(&world.proxy), (1, Some("a".into())));
        world.pod("b").start_again().await.expect("it starts");
        until_leads(&world.proxy, "b").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pool_has_its_own_leader() {
    story(World::plan(2), async |world| {
        let proxy = world
            .replica(|settings| {
                settings.remove_pod("b");
                settings.pod_of("other", "b", world.pod("b").address());
                settings.route_path("/other", "other");
                settings.route_rest("main");
            })
            .await;
        until("both lead", || leads_now(&proxy, "a")).await;
        let shared = proxy.shared().clone();
        let pods: Vec<_> =
            shared.pools.iter().filter_map(|pool| Some(pool.leader.current()?.name.to_string())).collect();
        assert_eq!(pods, ["a", "b"]);
    })
    .await;
}
