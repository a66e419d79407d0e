//! QuickConnect between clients of different pods: a new device shows a code, and a user who is signed in elsewhere approves it.

use http::Method;
use jellypin::pod::State;
use serde_json::json;

use super::migration::{client_of, plan, start_again};
use super::wire::{HandPod, before, client};
use super::world::{Answer, Client, Visitors, World, body_of, millis, story, until};

/// A new device that shows a code.
struct Device {
    client: Client,
    code: String,
    secret: String,
}

async fn initiate(world: &World, device: &str) -> Device {
    let mut client = world.client().without_cookies().device(device);
    let begun = post(&mut client, "/QuickConnect/Initiate").await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let text = |name: &str| begun.json()[name].as_str().expect("a text").to_owned();
    Device { client, code: text("Code"), secret: text("Secret") }
}

impl Device {
    async fn poll(&mut self) -> Answer {
        self.client.get(&format!("/QuickConnect/Connect?secret={}", self.secret)).await
    }

    async fn log_in(&mut self) -> Answer {
        let answer = self.client.post("/Users/AuthenticateWithQuickConnect", json!({"Secret": self.secret})).await;
        self.client.token = answer.json()["AccessToken"].as_str().map(str::to_owned);
        answer
    }
}

async fn post(client: &mut Client, path: &str) -> Answer {
    let request = client.request(Method::POST, path);
    client.send(request, body_of("")).await.expect("an answer")
}

async fn approve(client: &mut Client, code: &str) -> Answer {
    post(client, &format!("/QuickConnect/Authorize?code={code}")).await
}

/// A client that has logged in on a pod other than the leader.
async fn elsewhere(world: &World, user: &str, leader: &str) -> Client {
    for number in 0..50 {
        let (client, home) = client_of(world, user, &format!("phone {number} of {user}")).await;
        if home != leader {
            return client;
        }
    }
    panic!("every device is placed on {leader}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_approved_by_a_user_of_any_pod() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let visitors = Visitors::sign_in(6, |_| world.client()).await;
        for turn in 0..20 {
            let mut approver = elsewhere(world, "alice", &leader).await;
            let mut device = initiate(world, &format!("tv {turn}")).await;
            assert_eq!(device.poll().await.json()["Authenticated"], false);
            let approved = approve(&mut approver, &device.code).await;
            assert_eq!((approved.status, approved.text()), (200, "true"));
            assert_eq!(device.poll().await.json()["Authenticated"], true);
            let log_in = device.log_in().await;
            assert_eq!(log_in.status, 200);
            assert_eq!(log_in.json()["User"]["Name"], "alice");
            let me = device.client.get("/Users/Me").await;
            assert_eq!((me.status, world.home(&me)), (200, leader.as_str()));
            assert_eq!(approver.get("/Users/Me").await.status, 200, "the approver stays signed in");
            // A device that calls itself something else from now on is found by its token.
            device.client.device = Some(format!("another name {turn}"));
            assert_eq!(device.client.get("/Items").await.status, 200);
        }
        visitors.leave("20 codes").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_approved_by_its_own_user_only() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let mut alice = elsewhere(world, "alice", &leader).await;
        let mut root = elsewhere(world, "root", &leader).await;
        let bob = world.cluster.user_id("bob").expect("bob");
        let dashed = format!("{}-{}-{}-{}-{}", &bob[..8], &bob[8..12], &bob[12..16], &bob[16..20], &bob[20..]);
        let mut device = initiate(world, "tv").await;
        for foreign in [&bob, &dashed, &bob.to_uppercase()] {
            let path = format!("/QuickConnect/Authorize?code={}&userId={foreign}", device.code);
            assert_eq!(post(&mut alice, &path).await.status, 403, "{foreign}");
        }
        let mut stranger = world.client().without_cookies().device("stranger");
        assert_eq!(approve(&mut stranger, &device.code).await.status, 401);
        stranger.token = Some("00000000000000000000000000000abc".into());
        assert_eq!(approve(&mut stranger, &device.code).await.status, 401);
        assert_eq!(device.poll().await.json()["Authenticated"], false);
        let own = world.cluster.user_id("alice").expect("alice");
        let unknown = post(&mut alice, &format!("/QuickConnect/Authorize?code=none&userId={own}")).await;
        assert_eq!(unknown.status, 404);
        let path = format!("/QuickConnect/Authorize?code={}&userId={bob}", device.code);
        assert_eq!(post(&mut root, &path).await.status, 200, "an administrator may");
        assert_eq!(device.log_in().await.json()["User"]["Name"], "bob");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_approved_at_once_by_a_user_whose_pod_has_died() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        // Some of them come to live on the leader, and some do not.
        for user in ["alice", "bob", "user0", "user1"] {
            let mut approver = elsewhere(world, user, &leader).await;
            let home = world.home(&approver.get("/Users/Me").await).to_owned();
            let mut device = initiate(world, &format!("tv of {user}")).await;
            world.pod(&home).kill().await;
            let approved = approve(&mut approver, &device.code).await;
            assert_eq!((approved.status, approved.text()), (200, "true"), "{user}");
            assert_eq!(device.log_in().await.json()["User"]["Name"], user);
            assert_eq!(approve(&mut approver, "none").await.status, 404, "no code of any pod");
            world.until_state(&home, State::Down).await;
            start_again(world, &home).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_lives_and_dies_with_its_pod() {
    story(plan(3), async |world| {
        let first = world.leader().await;
        let visitors = Visitors::sign_in(6, |_| world.client()).await;
        let mut approver = elsewhere(world, "alice", &first).await;
        // The leader changes, and the pod of the code lives.
        let mut device = initiate(world, "tv").await;
        world.pod(&first).degrade(true);
        world.until_state(&first, State::Starting).await;
        world.pod(&first).degrade(false);
        world.until_state(&first, State::Ready).await;
        let mut now = world.leader().await;
        for _ in 0..20 {
            assert_eq!(device.poll().await.status, 200, "led by {now}");
        }
        assert_eq!(approve(&mut approver, &device.code).await.status, 200);
        assert_eq!(device.log_in().await.status, 200);
        // The pod of the code dies with it.
        let mut device = initiate(world, "another tv").await;
        world.pod(&now).kill().await;
        world.until_state(&now, State::Down).await;
        let poll = device.poll().await;
        assert_eq!((poll.status, poll.text()), (404, "\"Unknown secret\""));
        assert_eq!(approve(&mut approver, &device.code).await.status, 404);
        let mut device = initiate(world, "another tv").await;
        assert_eq!(approve(&mut approver, &device.code).await.status, 200);
        assert_eq!(device.log_in().await.status, 200);
        now.clear();
        visitors.leave("codes whose pods change and die").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_a_draining_leader_can_be_approved() {
    story(plan(3), async |world| {
        let first = world.leader().await;
        let mut approver = elsewhere(world, "alice", &first).await;
        let mut open = initiate(world, "tv").await;
        assert_eq!(world.proxy.post_admin(&format!("/pods/main/{first}/drain")).await.status, 202);
        until("another leads", || {
            let shared = world.proxy.shared();
            shared.pools[0].leader.current().is_some_and(|leader| *leader.name != *first)
        })
        .await;
        let mut new = initiate(world, "another tv").await;
        for (device, maker) in [(&mut open, true), (&mut new, false)] {
            let poll = device.poll().await;
            assert_eq!((poll.status, world.home(&poll) == first), (200, maker));
            assert_eq!(approve(&mut approver, &device.code).await.status, 200);
            assert_eq!(device.log_in().await.status, 200);
            assert_eq!(device.client.get("/Users/Me").await.status, 200);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_key_a_failed_approval_keeps_the_login() {
    story(World::plan(3), async |world| {
        let leader = world.leader().await;
        let mut approver = elsewhere(world, "alice", &leader).await;
        let mut device = initiate(world, "tv").await;
        let failed = approve(&mut approver, &device.code).await;
        assert_eq!(failed.status, 404, "a 401 would make the client forget its token");
        assert_eq!(approver.get("/Users/Me").await.status, 200);
        assert_eq!(device.poll().await.json()["Authenticated"], false);
        assert_eq!(
            world.proxy.metric("jellypin_migration_requirements_missing", &[("what", "quick_connect")]).await,
            1.0
        );
    })
    .await;
}

#[tokio::test]
async fn a_login_without_its_body_is_left_to_the_pod() {
    let mut pod = HandPod::start().await;
    story(before(&pod).hold(millis(300)), async |world| {
        let mut client = client(world).await;
        client
            .send("POST /Users/AuthenticateWithQuickConnect HTTP/1.1\r\nHost: story\r\nContent-Length: 80\r\n\r\n")
            .await;
        // The secret in it says which pod it is for; without it, it is the leader's.
        let call = pod.call().await;
        assert!(call.head.starts_with("POST /Users/AuthenticateWithQuickConnect "), "{}", call.head);
        drop(client);
        drop(call);
    })
    .await;
}

/// Android TV offers no code any more where it was refused one.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_gets_a_new_code_after_the_leaders_death() {
    story(plan(2), async |world| {
        let leader = world.leader().await;
        let pod = world.pod(&leader);
        pod.slow_first_byte(crate::stories::world::DEADLINE);
        let is_its = |seen: &jellyfin_sim::Seen| {
            seen.path() == "/QuickConnect/Initiate" && seen.header("x-story-request").is_some()
        };
        let asked = |pod: &jellyfin_sim::Pod| pod.seen().iter().any(is_its);
        let killed = async {
            pod.until(asked).await;
            pod.kill().await;
        };
        let (mut device, ()) = tokio::join!(initiate(world, "tv"), killed);
        assert_eq!(device.poll().await.status, 200);
    })
    .await;
}
