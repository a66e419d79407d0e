//! A pod stands by: it gets nobody while another pod is ready, and everybody while none is.

use super::*;
use crate::stories::migration::client_of;

/// A world of two pods, of which `b` stands by.
async fn world(plan: Plan) -> World {
    // Users live on one pod, as they do by default.
    let mut world = started(plan.with_api_key().spread_users(&[])).await;
    let address = world.pod("b").address();
    world.restart(|settings| settings.pod_stands_by("b", address)).await;
    world.until_state("a", State::Ready).await;
    world.until_state("b", State::Draining).await;
    world
}

async fn sessions_of(world: &World, pod: &str) -> u64 {
    let pods = world.proxy.ask_admin("/pods").await.json();
    let page = pods.as_array().expect("pods").iter().find(|page| page["name"] == pod).expect("the pod").clone();
    assert_eq!(page["standby"], pod == "b", "{page}");
    page["sessions"].as_u64().expect("a number")
}

async fn killed_primary(clients: usize, pace: Pace) {
    story(world(quick_starters(World::plan(2)).drain_within(secs(1))).await, async |world| {
        let fleet = Fleet::start(clients, Work::Everything, pace, &[world.client()]).await;
        assert_eq!(sessions_of(world, "b").await, 0, "it gets nobody");
        let began = Instant::now();
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        fleet.until_all_went_on().await;
        let over = began.elapsed();
        assert_eq!(world.proxy.pod("b").status().state, State::Ready);
        world.pod("a").start_again().await.expect("it starts");
        world.until_state("a", State::Ready).await;
        let returned = Instant::now();
        while sessions_of(world, "b").await > 0 {
            assert!(returned.elapsed() < secs(60), "they are given back");
            let looked = Instant::now();
            until_so("they go", async || sessions_of(world, "b").await == 0 || looked.elapsed() > secs(5)).await;
        }
        fleet.until_all_went_on().await;
        assert_eq!(world.proxy.pod("b").status().state, State::Draining, "it stands by again");
        let saw = fleet.stop().await;
        println!("the primary killed under {clients} clients: the pod that stood by has all after {over:?}; {saw}");
        saw.must_be_nothing();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_stands_by_takes_over_and_gives_back() {
    killed_primary(12, Pace::BRISK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_with_films_go_on_at_the_pod_that_stands_by() {
    killed_primary(50, Pace::CALM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_stands_by_gets_no_log_in() {
    story(world(World::plan(2)).await, async |world| {
        for number in 0..12 {
            let (_, home) = client_of(world, &format!("user{number}"), &format!("device {number}")).await;
            assert_eq!(home, "a");
        }
        assert_eq!(world.leader().await, "a");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_compares_a_pod_that_stands_by() {
    let plan =
        World::plan(2).with_api_key().build_one("b", |pod| pod.server_id(Some("0123456789abcdef0123456789abcdef")));
    story(plan, async |world| {
        let address = world.pod("b").address();
        let settings = {
            let mut settings = world.settings().clone();
            settings.pod_stands_by("b", address);
            settings
        };
        let (code, said) = Program::check(&settings, world.folder());
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("pod b: its server id is not that of a"), "{said}");
        assert!(!said.contains("it lacks"), "they share their users and items: {said}");
    })
    .await;
}
