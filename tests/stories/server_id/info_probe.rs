//! A pod serves nobody before it is known who it is.

use std::time::Duration;

use jellypin::pod::State;

use crate::stories::world::{Plan, Proxy, World, millis, secs, story};

const PUBLIC: &str = "/System/Info/Public";

/// Longer than a probe may take.
const SLOW: Duration = Duration::from_millis(2500);

const IDS: [&str; 2] = ["a1e0f3d9c7b48268f4d2a6b1c3e5f705", "b1e0f3d9c7b48268f4d2a6b1c3e5f705"];

/// Two pods with ids of their own.
fn plan() -> Plan {
    let plan = World::plan(2).build_one("a", |pod| pod.server_id(Some(IDS[0])));
    plan.build_one("b", |pod| pod.server_id(Some(IDS[1])))
}

async fn visit(proxy: &Proxy) {
    for _ in 0..20 {
        let info = proxy.client().get(PUBLIC).await;
        assert_eq!((info.status, info.json()["Id"].as_str()), (200, Some(IDS[0])));
    }
}

/// How often a client came to `b`.
fn visits(world: &World) -> usize {
    world.pod("b").seen().iter().filter(|seen| seen.header("x-story-request").is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_not_yet_identified_shows_its_own_id_to_no_client() {
    story(plan(), async |world| {
        let b = world.pod("b");
        b.slow_first_byte(SLOW);
        // To a proxy that starts, every pod is new.
        let proxy = world.replica(|settings| settings.fast_probe_interval(secs(1))).await;
        visit(&proxy).await;
        assert_eq!((visits(world), proxy.pod("b").info.latest()), (0, None));
        b.slow_first_byte(Duration::ZERO);
        proxy.until_state("b", State::Ready).await;
        assert_eq!(proxy.pod("b").info.latest().map(|info| info.id.clone()).as_deref(), Some(IDS[1]));
        visit(&proxy).await;
        assert!(visits(world) > 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_pod_is_identified_again() {
    story(plan(), async |world| {
        let b = world.pod("b");
        b.kill().await;
        world.until_state("b", State::Down).await;
        b.slow_first_byte(SLOW);
        b.clear_seen();
        b.start_again().await.expect("a start");
        let checks = |pod: &jellyfin_sim::Pod| pod.seen().iter().filter(|seen| seen.path() == "/health").count();
        b.until(|pod| checks(pod) == 3).await;
        assert_ne!(world.proxy.pod("b").status().state, State::Ready, "it may be another version");
        b.slow_first_byte(Duration::ZERO);
        world.until_state("b", State::Ready).await;
        assert_eq!(world.proxy.pod("b").status().epoch.0, 2);
        visit(&world.proxy).await;
    })
    .await;
}

#[tokio::test]
async fn an_identified_pod_is_ready_with_the_second_good_probe() {
    let plan = World::plan(1).fast_probe_interval(secs(2)).probe_interval(secs(2));
    story(plan, async |world| {
        let questions = |path| world.pod("a").seen().iter().filter(|seen| seen.path() == path).count();
        assert_eq!((questions("/health"), questions(PUBLIC)), (1, 1), "a new one with the first");
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        world.pod("a").clear_seen();
        world.pod("a").start_again().await.expect("a start");
        world.until_state("a", State::Ready).await;
        assert_eq!((questions("/health"), questions(PUBLIC)), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_never_identifies_itself_serves() {
    story(plan(), async |world| {
        world.pod("b").slow_first_byte(SLOW);
        let proxy = world.replica(|settings| settings.probe_timeout(millis(100))).await;
        proxy.until_state("b", State::Ready).await;
        assert_eq!(proxy.pod("b").info.latest(), None);
    })
    .await;
}
