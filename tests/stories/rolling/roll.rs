//! All pods are restarted one after the other by one order, and no client notices.

use super::*;
use crate::stories::sync_play::{
    Member,
    drain::member_of,
    outlives::{UNSEEN, hears_until, watch},
};

/// How long a roll of three pods may take.
const LONG: Duration = Duration::from_secs(120);

async fn roll_page(world: &World) -> Value {
    world.proxy.ask_admin("/roll").await.json()[0].clone()
}

/// Waits until the roll is over, and gives its page.
async fn until_over(world: &World) -> Value {
    let began = Instant::now();
    loop {
        let page = roll_page(world).await;
        if page["state"] != "running" {
            return page;
        }
        assert!(began.elapsed() < LONG, "{page}");
        // A pod takes its time to end what it sends.
        let looked = Instant::now();
        until_so("the roll goes on", async || roll_page(world).await != page || looked.elapsed() > secs(5)).await;
    }
}

async fn roll(world: &World, clients: usize, pace: Pace) {
    let mut members = Vec::new();
    for (user, pod) in [("alice", "a"), ("bob", "b"), ("root", "c")] {
        members.push(member_of(world, user, pod).await);
    }
    let (group, _) = watch(&mut members).await;
    let fleet = Fleet::start(clients, Work::Everything, pace, &[world.client()]).await;
    let began = Instant::now();
    let epochs = || ["a", "b", "c"].map(|pod| world.proxy.pod(pod).status().epoch);
    let (before, leader) = (epochs(), world.leader().await);
    let begun = world.proxy.post_admin("/roll").await;
    assert_eq!(
        (begun.status, begun.text()),
        (202, "3 pods are restarted one after the other; GET /roll shows how far\n")
    );
    assert_eq!(world.proxy.post_admin("/roll").await.status, 409, "it is under way");
    let page = until_over(world).await;
    assert_eq!(page["state"], "done", "{page}");
    assert_eq!(page["pods"][2]["name"], *leader, "the leader comes last: {page}");
    assert!(before.iter().zip(epochs()).all(|(before, now)| *before != now), "each is a new process");
    fleet.until_all_went_on().await;
    let saw = fleet.stop().await;
    println!("three pods rolled in {:?} under {clients} clients with films and sockets: {saw}", began.elapsed());
    saw.must_be_nothing();
    are_still_together(&mut members, &group).await;
    let done = [("outcome", "done")];
    assert_eq!(world.proxy.metric("jellypin_rolls_total", &done).await, 1.0);
}

/// The members of a group have heard of no end of it, and still watch together.
async fn are_still_together(members: &mut [Member], group: &str) {
    assert_eq!(members[0].does("Pause", serde_json::json!({})).await.status, 204);
    for member in members {
        let (heard, told) = hears_until(member, "Pause").await;
        assert!(!heard.iter().any(|name| UNSEEN.contains(&name.as_str())), "{heard:?}");
        assert_eq!(told["GroupId"], group);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_of_three_pods_is_unseen() {
    story(started(quick_starters(World::plan(3)).with_api_key()).await, async |world| {
        roll(world, 12, Pace::BRISK).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; ROLL_CLIENTS says under how many clients, 100 if nothing is said"]
async fn a_roll_of_three_pods_under_many_clients() {
    let clients = std::env::var("ROLL_CLIENTS").map_or(100, |text| text.parse().expect("a number"));
    story(started(starters(World::plan(3), 0.5).with_api_key()).await, async |world| {
        roll(world, clients, Pace::REAL).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_no_probe_sees_is_one_all_the_same() {
    // The next process listens before the probes have found the last one gone.
    story(World::plan(2).with_api_key().probe_interval(secs(5)), async |world| {
        let epochs = || ["a", "b"].map(|pod| world.proxy.pod(pod).status().epoch);
        let before = epochs();
        assert_eq!(world.proxy.post_admin("/roll").await.status, 202);
        let page = until_over(world).await;
        assert_eq!(page["state"], "done", "{page}");
        assert!(before.iter().zip(epochs()).all(|(before, now)| *before != now), "each is a new process");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_stops_at_the_first_trouble() {
    story(started(quick_starters(World::plan(3)).with_api_key()).await, async |world| {
        assert_eq!(world.proxy.post_admin("/roll?pool=other").await.status, 404);
        assert_eq!(world.proxy.post_admin("/roll").await.status, 202);
        until_so("the first pod restarts", async || roll_page(world).await["pods"][0]["step"] == "restarts").await;
        let page = roll_page(world).await;
        let name = |number: usize| page["pods"][number]["name"].as_str().expect("a name").to_owned();
        let (first, second, third) = (name(0), name(1), name(2));
        world.pod(&second).kill().await;
        let page = until_over(world).await;
        assert_eq!(
            (page["state"].as_str(), page["trouble"]["pod"].as_str()),
            (Some("stopped"), Some(&*second)),
            "{page}"
        );
        assert_eq!(page["pods"][2]["step"], "waits", "the others stay as they are");
        assert_eq!(world.proxy.pod(&third).status().state, State::Ready);
        world.until_state(&first, State::Ready).await;
        let refused = world.proxy.post_admin("/roll").await;
        let words = format!("not restarted: {second} is not ready; all pods must be\n");
        assert_eq!((refused.status, refused.text()), (409, &*words));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_do_not_roll_at_once() {
    let redis = RedisServer::start();
    let plan = quick_starters(replicas::plan(2, &redis)).with_api_key();
    story(started(plan).await, async |world| {
        let other = replicas::known_replica(world, |_| {}).await;
        let order = async || {
            let mut operator = other.operators();
            let request = operator.request(http::Method::POST, "/roll");
            operator.send(request, crate::stories::world::body_of("")).await.expect("an answer")
        };
        assert_eq!(world.proxy.post_admin("/roll").await.status, 202);
        let refused = order().await;
        let words = "not restarted: another replica restarts them already; its GET /roll shows how far\n";
        assert_eq!((refused.status, refused.text()), (409, words));
        assert_eq!(other.ask_admin("/roll").await.json(), serde_json::json!([]), "it has not begun");
        assert_eq!(until_over(world).await["state"], "done");
        let is_locked = || redis.keys().iter().any(|key| key.contains("migration_lock"));
        until("the other may", || !is_locked()).await;
    })
    .await;
}
